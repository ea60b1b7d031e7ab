"""Searches for two objectives: a score on val, and what training costs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tests.study.written as written
from lchp.study.plan.cost import gflop_an_image
from lchp.study.run.ledger import Entry
from lchp.study.run.optuna_search import ContinuedSearch
from lchp.study.run.optuna_storage import completed, front, open_search
from lchp.study.run.search_end import name_best
from lchp.study.run.search_repair import restored_search
from lchp.study.run.suggestions import GENERATION, POPULATION
from lchp.study.spec.trials import ResolvedTrial
from lchp.training.config import TrialConfig

SPACE = "{refinement.epochs: {low: 1, high: 40}, tau: {low: 0.0, high: 1.0}}"


def search(folder: Path, sampler: str = "nsga2") -> ContinuedSearch:
    """The search over a study's folder, which is ``folder``."""
    folder.mkdir(exist_ok=True)
    text = written.TINY + f"search: {{trials: 99, sampler: {sampler}, cost: gflop, space: {SPACE}}}\n"
    return ContinuedSearch(written.load(folder, text), folder, lambda *told: pytest.fail(str(told)))


def trained(folder: Path, count: int, every: int, sampler: str = "nsga2") -> list[ResolvedTrial]:
    """So many suggestions of a search that is stopped after every so many; the best have a tau of 0.5."""
    found: list[ResolvedTrial] = []
    while len(found) < count:
        searcher = search(folder, sampler)
        for _ in range(min(every, count - len(found))):
            trial = searcher.next()
            assert trial is not None
            searcher.tell(trial, 1 - abs(trial.config.tau - 0.5))
            found.append(trial)
    return found


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_search_for_two_objectives_suggests_the_same_whether_stopped_or_not(tmp_path: Path, sampler: str) -> None:
    through = trained(tmp_path / "through", 25, 25, sampler)
    assert trained(tmp_path / "stopped", 25, 4, sampler) == through


def test_search_for_two_objectives_tells_the_cost_of_the_configuration_and_knows_its_front(tmp_path: Path) -> None:
    trials = trained(tmp_path, 12, 12)
    stored = completed(open_search("tiny", tmp_path))
    assert [trial.values[1] for trial in stored] == [gflop_an_image(trial.config) for trial in trials]
    found = [tuple(trial.values) for trial in front(open_search("tiny", tmp_path))]
    every = [tuple(trial.values) for trial in stored]
    assert found == sorted(found)
    assert found == sorted(
        one for one in every if not any(other != one and other[0] >= one[0] and other[1] <= one[1] for other in every)
    )


def test_name_best_of_a_search_for_two_objectives_names_its_front(tmp_path: Path) -> None:
    trained(tmp_path, 8, 8)
    study, said = search(tmp_path).study, list[str]()

    def entry(trial: ResolvedTrial) -> Entry:
        return Entry(trial.name, 0, trial.varied, f"trial/{trial.number}", 4, trial.number, run_id=f"run{trial.number}")

    recorder: Any = SimpleNamespace(ledger=SimpleNamespace(folder=tmp_path), entry=entry, say=said.append)
    (file,) = name_best(study, recorder)
    named = json.loads(file.read_text(encoding="utf-8"))
    expected = front(open_search("tiny", tmp_path))
    assert [[one["number"], one["value"], one["gflop"]] for one in named["front"]] == [
        [trial.number, *trial.values] for trial in expected
    ]
    assert named["front"][0]["run_ids"] == {"0": f"run{expected[0].number}"}
    assert len(named["gflop"]) == 8
    assert said[0].startswith(f"best by lchp_r/val/gt_known and by cost:\n#{expected[0].number} refinement.epochs=")


def test_restored_search_for_two_objectives_has_its_costs_and_generations_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = trained(tmp_path, 12, 12)
    study, before = search(tmp_path).study, open_search("tiny", tmp_path).get_trials()
    (tmp_path / "optuna.journal").unlink()
    entries = [Entry(one.name, 0, one.varied, f"trial/{one.number}", 4, one.number, state="finished") for one in trials]
    objectives = {trial.number: trial.values[0] for trial in before}
    monkeypatch.setattr("lchp.study.run.search_repair._objectives", lambda *_: objectives)
    after = restored_search(study, tmp_path, entries, tmp_path, lambda line: None).get_trials()
    assert [(one.values, one.params) for one in after] == [(one.values, one.params) for one in before]
    generations = [one.system_attrs[GENERATION] for one in after]
    assert generations == [one.system_attrs[GENERATION] for one in before] == [0] * POPULATION + [1] * 2


def test_gflop_an_image_counts_epochs_and_networks_and_no_images() -> None:
    one = TrialConfig.model_validate({"refinement": {"epochs": 1}})
    longer = TrialConfig.model_validate({"refinement": {"epochs": 3}})
    longest = TrialConfig.model_validate({"refinement": {"epochs": 5}})
    costs = list(map(gflop_an_image, (one, longer, longest)))
    assert costs[2] - costs[1] == pytest.approx(costs[1] - costs[0])
    more = one.model_copy(update={"split": one.split.model_copy(update={"val_per_class": 9})})
    assert gflop_an_image(more) == costs[0] > 0
