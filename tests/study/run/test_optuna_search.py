from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

import tests.study.small as small
from lchp.errors import Refusal
from lchp.study.run.optuna_search import ContinuedSearch, best, completed, distributions, open_search
from lchp.study.spec.load import Study
from lchp.study.spec.schema import Range
from lchp.study.spec.trials import ResolvedTrial

SPACE = "{tau: {low: 0.0, high: 1.0}, augmentation: [none, flip]}"


def search(folder: Path, sampler: str = "random", trials: int = 99) -> ContinuedSearch:
    """The search over a study's folder, which is ``folder``."""
    text = f"name: s\nsearch: {{trials: {trials}, sampler: {sampler}, space: {SPACE}}}\n"
    return ContinuedSearch(small.load(folder, text), folder, refused)


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


@pytest.mark.parametrize("sampler", ["random", "tpe"])
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
    found = distributions(
        {"epochs": Range(low=1, high=4), "alpha": Range(low=0.5, high=2.0, log=True), "backbone": ("resnet50",)}
    )
    assert found == {
        "epochs": optuna.distributions.IntDistribution(1, 4),
        "alpha": optuna.distributions.FloatDistribution(0.5, 2.0, log=True),
        "backbone": optuna.distributions.CategoricalDistribution(("resnet50",)),
    }


def test_continued_search_values_that_do_not_fit_together_are_a_failed_trial_and_the_next_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    text = "name: s\nsearch: {trials: 3, sampler: random, space: {tau: [0.1, 0.2, 0.3]}}\n"
    searcher = ContinuedSearch(small.load(tmp_path, text), tmp_path, lambda *told: said.append(str(told)))
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
