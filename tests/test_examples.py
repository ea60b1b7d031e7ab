"""The examples in the docstrings of what people call from Python: each is run as it is written."""

from __future__ import annotations

import doctest
import importlib

import pytest

EXAMPLES = {
    "lchp.study.spec.load": "load_study",
    "lchp.training.trial": "run_trial",
    "lchp.reporting.frame": "collect",
    "lchp.method.metrics": "best_iou",
    "lchp.vocabulary": "",
}
"""Module, and one of its names that has an example."""


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_give_what_they_say(module: str) -> None:
    loaded = importlib.import_module(module)
    named = {test.name for test in doctest.DocTestFinder(exclude_empty=True).find(loaded) if test.examples}
    assert f"{module}.{EXAMPLES[module]}".rstrip(".") in named
    results = doctest.testmod(loaded)
    assert results.attempted > 0
    assert results.failed == 0
