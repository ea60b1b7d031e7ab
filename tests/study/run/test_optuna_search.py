from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

import tests.study.written as written
from lchp.errors import Refusal
from lchp.study.run.optuna_search import ContinuedSearch
from lchp.study.run.optuna_storage import best, completed, open_search
from lchp.study.run.suggestions import distributions
from lchp.study.spec.load import Study
from lchp.study.spec.search import Range, Search
from lchp.study.spec.trials import ResolvedTrial

SPACE = "{tau: {low: 0.0, high: 1.0}, augmentation: [none, flip]}"


def search(
    folder: Path, sampler: str = "random", trials: int = 99, space: str = SPACE, more: str = ""
) -> ContinuedSearch:
    """The search over a study's folder, which is ``folder``; ``more`` are further keys of it."""
    text = f"name: s\nsearch: {{trials: {trials}, sampler: {sampler}, space: {space}{more}}}\n"
    return ContinuedSearch(written.load(folder, text), folder, refused)


def refused(number: int, values: dict[str, Any], message: str) -> None:
    raise AssertionError(f"{number} {values} {message}")


def suggested(searcher: ContinuedSearch) -> ResolvedTrial:
    """The next suggestion, which there is."""
    found = searcher.next()
    assert found is not None
    return found


def proposed(folder: Path, sampler: str, count: int, restart_every: int) -> list[object]:
    """The suggestions of a search that is stopped and continued after every so many trials."""
    found: list[object] = []
    while len(found) < count:
        searcher = search(folder, sampler)
        for _ in range(min(restart_every, count - len(found))):
            suggestion = suggested(searcher)
            found.append(suggestion.varied)
            searcher.tell(suggestion, suggestion.varied["tau"])
    return found


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp", "cmaes"])
def test_continued_search_proposes_the_same_whether_stopped_or_not(tmp_path: Path, sampler: str) -> None:
    for name in ("through", "stopped"):
        (tmp_path / name).mkdir()
    through = proposed(tmp_path / "through", sampler, 13, 13)
    assert proposed(tmp_path / "stopped", sampler, 13, 3) == through
    assert len({str(suggestion) for suggestion in through}) == 13


def test_continued_search_takes_up_running_trials_as_themselves(tmp_path: Path) -> None:
    killed = search(tmp_path)
    first, second = suggested(killed), suggested(killed)
    killed.tell(first, 0.5)
    again = search(tmp_path)
    assert suggested(again) == second
    assert suggested(again).number == 2
    again.tell(second, 0.25)
    states = [trial.state.name for trial in open_search("s", tmp_path).get_trials()]
    assert states == ["COMPLETE", "COMPLETE", "RUNNING"]
    assert first.number == 0


def test_continued_search_failed_trial_is_fail_and_not_completed(tmp_path: Path) -> None:
    searcher = search(tmp_path)
    searcher.tell(suggested(searcher), None)
    study = open_search("s", tmp_path)
    assert [trial.state.name for trial in study.get_trials()] == ["FAIL"]
    assert completed(study) == []
    assert best(study) is None


def test_best_of_equal_objectives_is_the_first(tmp_path: Path) -> None:
    searcher = search(tmp_path)
    for value in (0.1, 0.7, 0.7):
        searcher.tell(suggested(searcher), value)
    found = best(open_search("s", tmp_path))
    assert found is not None
    assert found.number == 1


def test_distributions_integers_floats_and_choices() -> None:
    space = {"epochs": Range(low=1, high=4), "alpha": Range(low=0.5, high=2.0, log=True), "backbone": ("resnet50",)}
    assert distributions(Search(trials=1, space=space), {}) == {
        "epochs": optuna.distributions.IntDistribution(1, 4),
        "alpha": optuna.distributions.FloatDistribution(0.5, 2.0, log=True),
        "backbone": optuna.distributions.CategoricalDistribution(("resnet50",)),
    }


def test_continued_search_values_that_do_not_fit_together_are_a_failed_trial_and_the_next_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    text = "name: s\nsearch: {trials: 3, sampler: random, space: {tau: [0.1, 0.2, 0.3]}}\n"
    searcher = ContinuedSearch(written.load(tmp_path, text), tmp_path, lambda *told: said.append(str(told)))
    resolved = Study.suggested

    def picky(study: Study, number: int, values: dict[str, Any]) -> ResolvedTrial:
        if number == 1:
            raise Refusal("do not fit together")
        return resolved(study, number, values)

    monkeypatch.setattr(Study, "suggested", picky)
    assert [suggested(searcher).number for _ in range(2)] == [0, 2]
    assert searcher.next() is None
    assert len(said) == 1
    assert "do not fit together" in said[0]
    states = [trial.state.name for trial in open_search("s", tmp_path).get_trials()]
    assert states == ["RUNNING", "FAIL", "RUNNING"]


def test_continued_search_knows_when_its_space_holds_less_than_it_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twins(study: Study, number: int, values: dict[str, Any]) -> ResolvedTrial:
        return resolved(study, number, {"tau": 0.1})

    resolved = Study.suggested
    monkeypatch.setattr(Study, "suggested", twins)
    searcher = search(tmp_path, trials=2, space="{tau: [0.1, 0.2]}")
    assert not searcher.is_exhausted
    trial = suggested(searcher)
    assert not searcher.is_exhausted
    searcher.tell(trial, 0.5)
    assert search(tmp_path, trials=2, space="{tau: [0.1, 0.2]}").is_exhausted
    assert not search(tmp_path, trials=2).is_exhausted


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_continued_search_suggests_every_combination_once_and_then_no_more(tmp_path: Path, sampler: str) -> None:
    space = "{tau: [0.1, 0.2, 0.3], refinement.epochs: {low: 1, high: 4}}"
    found = []
    while (suggestion := (searcher := search(tmp_path, sampler, space=space)).next()) is not None:
        found.append(tuple(suggestion.varied.values()))
        searcher.tell(suggestion, 0.5)
    assert len(found) == 12
    assert len(set(found)) == 12


def test_continued_search_does_not_try_again_what_has_failed(tmp_path: Path) -> None:
    searcher = search(tmp_path, space="{tau: [0.1, 0.2]}")
    first, second = suggested(searcher), suggested(searcher)
    searcher.tell(first, None)
    searcher.tell(second, 0.5)
    assert search(tmp_path, space="{tau: [0.1, 0.2]}").next() is None


def test_continued_search_values_that_make_the_same_trial_are_suggested_once(tmp_path: Path) -> None:
    """What confidence.shrink says is read by the score `contrast` alone."""
    searcher = search(tmp_path, space="{confidence.score: [max_softmax, contrast], confidence.shrink: [0.5, 0.6, 0.7]}")
    found = [suggested(searcher).varied["confidence.score"] for _ in range(4)]
    assert sorted(found) == ["contrast"] * 3 + ["max_softmax"]
    assert searcher.next() is None


def test_continued_search_killed_between_a_given_suggestion_and_its_values_proposes_the_same(tmp_path: Path) -> None:
    through, killed = tmp_path / "through", tmp_path / "killed"
    for folder in (through, killed):
        folder.mkdir()
    first = ", first: [{augmentation: flip}]"
    expected = [
        suggestion.varied for searcher in [search(through, more=first)] for suggestion in map(suggested, [searcher] * 3)
    ]
    search(killed, more=first).stored.enqueue_trial({"augmentation": "flip"})
    again = search(killed, more=first)
    assert [suggested(again).varied for _ in range(3)] == expected


def test_continued_search_begins_with_the_given_suggestions_and_samples_what_they_leave_open(tmp_path: Path) -> None:
    searcher = search(tmp_path, more=", first: [{tau: 0.25, augmentation: flip}, {tau: 0.5}]")
    found = [suggested(searcher).varied for _ in range(3)]
    assert found[0] == {"tau": 0.25, "augmentation": "flip"}
    assert found[1]["tau"] == 0.5
    assert found[2]["tau"] not in (0.25, 0.5)


@pytest.mark.parametrize("restart_every", [1, 9])
def test_continued_search_goes_through_its_grid_in_turn_and_samples_the_rest(
    tmp_path: Path, restart_every: int
) -> None:
    grid = "{tau: {low: 0.0, high: 1.0}, augmentation: [none, flip], box_format: [corners, centre_size]}"
    found: list[dict[str, Any]] = []
    while len(found) < 9:
        searcher = search(tmp_path, space=grid, more=", first: [{tau: 0.5}], grid: [augmentation, box_format]")
        found += [suggested(searcher).varied for _ in range(restart_every)]
        for trial in open_search("s", tmp_path).get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            open_search("s", tmp_path).tell(trial.number, 0.5)
    turn = [("none", "corners"), ("none", "centre_size"), ("flip", "corners"), ("flip", "centre_size")]
    assert [(values["augmentation"], values["box_format"]) for values in found[1:]] == 2 * turn
    assert len({values["tau"] for values in found}) == 9
