"""Searches that try several refinements on one initialization."""

from __future__ import annotations

from pathlib import Path

import pytest

import tests.study.written as written
from lchp.data.fingerprint import fingerprint
from lchp.study.run.optuna_search import ContinuedSearch
from lchp.study.spec.trials import ResolvedTrial
from lchp.training.identity import initialization_key

SPACE = "{delta: {low: 0.3, high: 0.6}, box_format: [corners, centre_size], tau: {low: 0.0, high: 1.0}}"


def search(folder: Path, group: int, sampler: str = "random", space: str = SPACE, more: str = "") -> ContinuedSearch:
    """The search over a study's folder, which is ``folder``."""
    folder.mkdir(exist_ok=True)
    text = written.TINY + f"search: {{trials: 12, group: {group}, sampler: {sampler}, space: {space}{more}}}\n"
    return ContinuedSearch(written.load(folder, text), folder, lambda *told: pytest.fail(str(told)))


def trained(searcher: ContinuedSearch, at_once: int = 1, most: int = 99) -> list[ResolvedTrial]:
    """The suggestions of a search, so many of which are trained at once."""
    found: list[ResolvedTrial] = []
    running: list[ResolvedTrial] = []
    while len(found) < most:
        while len(running) < at_once and (trial := searcher.next()) is not None:
            running.append(trial)
        if not running:
            break
        found.append(running.pop(0))
        searcher.tell(found[-1], found[-1].config.tau)
    return found


def initializations(trials: list[ResolvedTrial]) -> list[str]:
    return [fingerprint(initialization_key(trial.config)) for trial in trials]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_search_in_groups_trains_an_initialization_for_so_many_suggestions(tmp_path: Path, sampler: str) -> None:
    alone, grouped = (trained(search(tmp_path / str(group), group, sampler)) for group in (1, 4))
    assert (len(alone), len(grouped)) == (12, 12)
    assert (len(set(initializations(alone))), len(set(initializations(grouped)))) == (12, 3)
    assert len({trial.config.tau for trial in grouped}) == 12


def test_search_in_groups_begins_one_for_each_slot_that_would_wait(tmp_path: Path) -> None:
    found = initializations(trained(search(tmp_path, 3), at_once=2))
    assert found[0] != found[1]
    assert sorted(map(found.count, set(found))) == [3, 3, 3, 3]


def test_search_in_groups_that_is_stopped_goes_on_with_its_group(tmp_path: Path) -> None:
    through = trained(search(tmp_path / "through", 3))
    found: list[ResolvedTrial] = []
    while len(found) < 12:
        found += trained(search(tmp_path / "stopped", 3), most=1)
    assert found == through


def test_search_in_groups_leaves_one_that_is_gone_through_and_keeps_what_it_is_given(tmp_path: Path) -> None:
    space = "{delta: {low: 0.3, high: 0.6}, tau: [0.1, 0.2]}"
    found = trained(search(tmp_path, 6, space=space, more=", first: [{delta: 0.5}, {delta: 0.4}]"))
    assert [trial.config.delta for trial in found[:2]] == [0.5, 0.4]
    names = initializations(found)
    assert [names.count(name) for name in dict.fromkeys(names)] == [2] * 6
