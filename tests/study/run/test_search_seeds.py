"""Searches whose every suggestion is trained with several seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tests.study.small as small
from lchp.store.folder import StageFolder
from lchp.study.run.ledger import read
from lchp.study.run.optuna_search import ContinuedSearch
from lchp.study.run.optuna_storage import open_search
from lchp.study.spec.trials import ResolvedTrial
from lchp.training.box_free import agreement

SEARCH = small.TINY + (
    "seeds: [3, 4]\n"
    "search: {objective: {metric: agreement}, trials: 2, sampler: random, space: {tau: {low: 0.0, high: 1.0}}}\n"
)


def search(folder: Path) -> ContinuedSearch:
    """The search over a study's folder, which is ``folder``."""
    return ContinuedSearch(small.load(folder, SEARCH), folder, lambda *told: None)


def suggested(searcher: ContinuedSearch, count: int) -> list[ResolvedTrial]:
    found = [searcher.next() for _ in range(count)]
    return [trial for trial in found if trial is not None]


def states(folder: Path, name: str = "tiny") -> list[tuple[str, float | None]]:
    return [(trial.state.name, trial.value) for trial in open_search(name, folder).get_trials()]


def test_search_with_seeds_trains_each_suggestion_with_each_and_tells_their_mean(tmp_path: Path) -> None:
    searcher = search(tmp_path)
    trials = suggested(searcher, 5)
    assert [(trial.number, trial.config.seed) for trial in trials] == [(0, 3), (0, 4), (1, 3), (1, 4)]
    assert trials[0].varied == trials[1].varied
    assert trials[1].name == f"{trials[0].name.removesuffix(' seed=3')} seed=4"
    searcher.tell(trials[0], 0.5)
    assert states(tmp_path) == [("RUNNING", None), ("RUNNING", None)]
    searcher.tell(trials[1], 0.25)
    assert states(tmp_path)[0] == ("COMPLETE", 0.375)


def test_search_with_seeds_of_which_one_fails_fails_and_begins_no_other(tmp_path: Path) -> None:
    searcher = search(tmp_path)
    (first,) = suggested(searcher, 1)
    searcher.tell(first, None)
    trials = suggested(searcher, 2)
    assert [(trial.number, trial.config.seed) for trial in trials] == [(1, 3), (1, 4)]
    for trial, objective in zip(trials, (None, 0.5), strict=True):
        searcher.tell(trial, objective)
    assert states(tmp_path) == [("FAIL", None), ("FAIL", None)]


def test_search_with_seeds_killed_between_them_goes_on_with_the_same_suggestion(tmp_path: Path) -> None:
    killed = search(tmp_path)
    trials = suggested(killed, 2)
    killed.tell(trials[0], 0.5)
    assert suggested(search(tmp_path), 2) == trials


def test_run_study_search_with_seeds_has_a_row_a_suggestion_and_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
    said: list[str] = []
    study = small.load(tmp_path, SEARCH, "search.trials=1")
    assert small.run(study, tmp_path, said) == 0
    folder = tmp_path / "out/tiny"
    best = json.loads((folder / "best.json").read_text(encoding="utf-8"))
    entries = read(folder)
    assert best["run_ids"] == {str(entry.seed): entry.run_id for entry in entries}
    rows = [StageFolder(tmp_path / "out/.store" / entry.folder).per_image() for entry in entries]
    scores = [agreement(one, "lchp_r") or 0 for one in rows]
    assert all(0 < score < 1 for score in scores)
    assert best["value"] == sum(scores) / 2
    assert not best["needs_boxes"]
    assert any(line.startswith("best by ") and line.endswith("the mean of 2 seeds") for line in said)
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert "(2)" in table
    assert "2 of 2 trials." in table
    assert "The search chooses by mean IoU with the pseudo boxes of LCHP-R on val (box-free)." in table
    (folder / "optuna.journal").unlink()
    again: list[str] = []
    assert small.run(small.load(tmp_path, SEARCH, "search.trials=1"), tmp_path, again) == 0
    assert "all 2 trials of tiny are finished: nothing to train" in again
    assert states(folder) == [("COMPLETE", best["value"])]
    # All that this one could suggest is known from the other.
    twin = SEARCH.replace("name: tiny", "name: twin").replace("{low: 0.0, high: 1.0}", f"[{best['values']['tau']}]")
    assert small.run(small.load(tmp_path, twin, "search.warm_start=[tiny]"), tmp_path, again) == 0
    assert f"twin: the search begins with 2 of 2 finished trials of {tmp_path / 'out/tiny'}" in again
    assert states(tmp_path / "out/twin", "twin")[0] == ("COMPLETE", best["value"])
