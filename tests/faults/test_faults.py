"""Some of the faults of ``make faults``, the last with Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lchp.data.files import read_json
from tests.faults.catalog import Fault, catalog
from tests.faults.inflicted import befall
from tests.faults.workplace import Zygote

NUMBERS = (36, 213, 353)
"""A killed search, networks that are cut, and a raylet that is killed before its driver is."""


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as started:
        yield started


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.mark.parametrize("fault", [catalog()[number] for number in NUMBERS], ids=lambda fault: fault.name)
def test_study_that_a_fault_befalls_ends_as_if_none_had(fault: Fault, root: Path, zygote: Zygote) -> None:
    verdict = befall(fault, root, zygote)
    assert not verdict.problems, verdict
    made = [read_json(file) for file in root.glob("calm/*/out/.store/*/*/environment.json")]
    assert {one["commit"] for one in made} == {None}, "another commit is none of what a fault changes"
