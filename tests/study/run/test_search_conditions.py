"""Searches in which what a key may be depends on the choice of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tests.study.written as written
from lchp.study.run.optuna_search import ContinuedSearch
from lchp.study.run.optuna_storage import open_search
from lchp.study.run.search_repair import restored_search
from lchp.study.spec.trials import ResolvedTrial

RATE = "refinement.rate"
SPACE = (
    "{confidence.score: [max_softmax, contrast], tau: {low: 0.0, high: 1.0}, confidence.shrink: {per: "
    "confidence.score, values: {contrast: {low: 0.5, high: 0.9}}}, refinement.rate: {per: confidence.score, values: "
    "{max_softmax: {low: 0.001, high: 0.01, log: true}, contrast: [0.1, 0.2]}}}"
)
FINITE = (
    "{augmentation: [none, flip, scale], refinement.epochs: {per: augmentation, values: {none: [1, 2], flip: {low: 3, "
    "high: 5}}}}"
)


def search(folder: Path, space: str = SPACE, sampler: str = "random", more: str = "") -> ContinuedSearch:
    """The search over a study's folder, which is ``folder``."""
    text = written.TINY + f"search: {{trials: 99, sampler: {sampler}, space: {space}{more}}}\n"
    return ContinuedSearch(written.load(folder, text), folder, lambda *told: pytest.fail(str(told)))


def suggested(searcher: ContinuedSearch) -> ResolvedTrial:
    found = searcher.next()
    assert found is not None
    return found


def fits(values: dict[str, Any]) -> bool:
    if values["confidence.score"] == "contrast":
        return values[RATE] in (0.1, 0.2) and 0.5 <= values["confidence.shrink"] <= 0.9
    return 0.001 <= values[RATE] <= 0.01 and values["confidence.shrink"] == 0.7


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_search_with_conditions_suggests_what_fits_and_the_same_when_stopped(tmp_path: Path, sampler: str) -> None:
    found: dict[str, list[Any]] = {"through": [], "stopped": []}
    for name, every in (("through", 12), ("stopped", 5)):
        (tmp_path / name).mkdir()
        while len(found[name]) < 12:
            searcher = search(tmp_path / name, sampler=sampler)
            for _ in range(min(every, 12 - len(found[name]))):
                trial = suggested(searcher)
                found[name].append(trial.varied)
                searcher.tell(trial, trial.varied["tau"])
    assert found["stopped"] == found["through"]
    assert all(map(fits, found["through"]))
    assert {values["confidence.score"] for values in found["through"]} == {"max_softmax", "contrast"}


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_search_with_conditions_goes_through_all_that_its_space_holds(tmp_path: Path, sampler: str) -> None:
    searcher = search(tmp_path, FINITE, sampler)
    assert searcher.study.count == 2 + 3 + 1
    found = []
    while (trial := searcher.next()) is not None:
        found.append((trial.varied["augmentation"], trial.varied["refinement.epochs"]))
        searcher.tell(trial, 0.5)
    assert sorted(found) == [("flip", 3), ("flip", 4), ("flip", 5), ("none", 1), ("none", 2), ("scale", 2)]


def test_search_with_conditions_first_and_grid(tmp_path: Path) -> None:
    first = ", first: [{confidence.score: contrast, confidence.shrink: 0.6}], grid: [confidence.score]"
    searcher = search(tmp_path, more=first)
    found = [suggested(searcher).varied for _ in range(5)]
    assert found[0]["confidence.shrink"] == 0.6
    assert [values["confidence.score"] for values in found] == ["contrast"] + 2 * ["max_softmax", "contrast"]


def test_restored_search_with_conditions_cut_at_any_place_suggests_the_same(tmp_path: Path) -> None:
    searcher = search(tmp_path)
    before = [suggested(searcher).varied for _ in range(4)]
    journal = tmp_path / "optuna.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    for end in range(2, len(lines)):
        journal.write_bytes(b"".join(lines[:end]))
        restored_search(searcher.study, tmp_path, [], tmp_path, pytest.fail)
        again = search(tmp_path)
        assert [suggested(again).varied for _ in range(4)] == before, end
    params = [trial.params for trial in open_search("tiny", tmp_path).get_trials()]
    assert all(("confidence.shrink (confidence.score=contrast)" in one) is (len(one) == 4) for one in params)
