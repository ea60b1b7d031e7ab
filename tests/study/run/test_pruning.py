"""Searches that stop suggestions before their end."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
import pytest
from optuna.pruners import SuccessiveHalvingPruner
from optuna.trial import Trial

import tests.study.small as small
from lchp.study.run.cards import Card, Cards
from lchp.study.run.ledger import Entry, read
from lchp.study.run.optuna_search import ContinuedSearch
from lchp.study.run.optuna_storage import open_search
from lchp.study.run.pruning import Halving
from lchp.study.run.search_repair import restored_search
from lchp.study.spec.search import Objective
from lchp.study.spec.trials import ResolvedTrial
from lchp.tracking.runs import PRUNED_TAG
from lchp.tracking.store import client

ASHA = "{kind: asha, grace: 1, reduction: 2}"
ORDER = [0.5, 0.1, 0.9, 0.3]
"""What the suggestions are worth, by number: the second and the fourth are not in the better half until them."""


def written(pruner: str = ASHA) -> str:
    """A search with that pruner."""
    space = "{delta: {low: 0.3, high: 0.6}}"
    return small.TINY + f"search: {{trials: 4, sampler: random, space: {space}, pruner: {pruner}}}\n"


def search(folder: Path, pruner: str) -> ContinuedSearch:
    """The search over a study's folder, which is ``folder``."""
    return ContinuedSearch(small.load(folder, written(pruner)), folder, lambda *told: None)


def epoch(step: int, value: float | None, method: str = "lchp_r") -> dict[str, object]:
    metrics = {} if value is None else {f"{method}/val/gt_known": value}
    return {"step": step, "metrics": metrics}


def test_pruner_asha_stops_at_a_rung_all_but_the_best_share(tmp_path: Path) -> None:
    searcher = search(tmp_path, ASHA)
    reasons = []
    for value in ORDER:
        trial = searcher.next()
        assert trial is not None
        reasons.append(searcher.stops(trial, [epoch(1, value)]))
    assert [reason is None for reason in reasons] == [True, False, True, False]
    assert reasons[1] == "pruned by asha after epoch 1: gt_known 0.1000 on val, at best 0.1000"


def test_pruner_rungs_of_epochs_that_were_found_trained_are_those_of_their_epochs(tmp_path: Path) -> None:
    """The first suggestion finds its initialization trained, and hands over six epochs at once."""
    searcher = search(tmp_path, ASHA)
    first, second = searcher.next(), searcher.next()
    assert first is not None
    assert second is not None
    assert searcher.stops(first, [epoch(step, step / 10) for step in range(1, 7)]) is None
    assert searcher.stops(second, [epoch(1, 0.2)]) is None


def test_pruner_median_stops_what_is_below_the_others_after_its_grace(tmp_path: Path) -> None:
    searcher = search(tmp_path, "{kind: median, grace: 2, startup: 2}")
    for value in (0.4, 0.6):
        trial = searcher.next()
        assert trial is not None
        for step in (1, 2, 3):
            assert searcher.stops(trial, [epoch(step, value)]) is None
        searcher.tell(trial, value)
    third = searcher.next()
    assert third is not None
    assert searcher.stops(third, [epoch(1, 0.1)]) is None
    assert searcher.stops(third, [epoch(2, 0.1)]) is not None


def test_pruner_rungs_are_found_again_after_a_restart(tmp_path: Path) -> None:
    killed = search(tmp_path, ASHA)
    first, second = killed.next(), killed.next()
    assert first is not None
    assert second is not None
    killed.stops(first, [epoch(1, 0.9)])
    again = search(tmp_path, ASHA)
    assert [again.next(), again.next()] == [first, second]
    assert again.stops(first, [epoch(1, 0.9), epoch(2, 0.9)]) is None
    assert again.stops(second, [epoch(1, 0.1)]) is not None


@pytest.mark.parametrize(
    ("metrics", "value"),
    [
        ({"pseudo_label/val/gt_known": 0.3}, 0.3),
        ({"pseudo_label/val/gt_known": 0.3, "lchp_i/val/gt_known": 0.2}, 0.2),
        ({"lchp_r/val/gt_known": 0.1, "lchp_r/val/mean_iou": 0.4}, 0.1),
        ({"train/initialization/loss": 1.0}, None),
    ],
)
def test_objective_so_far_is_of_the_last_method_that_the_epoch_measures(
    metrics: Mapping[str, float], value: float | None
) -> None:
    assert Objective().so_far(metrics) == value


def test_objective_so_far_of_an_earlier_method_is_its_own_alone() -> None:
    metrics = {"pseudo_label/val/gt_known": 0.3, "lchp_r/val/gt_known": 0.1}
    assert Objective(method="pseudo_label").so_far(metrics) == 0.3
    assert Objective(method="lchp_i").so_far({"lchp_r/val/gt_known": 0.1}) is None


def planted(searcher: ContinuedSearch, trial: ResolvedTrial, epochs: Sequence[Mapping[str, object]]) -> str | None:
    """What a search makes of epochs whose objective is what the suggestion is worth."""
    worth = {"lchp_r/val/gt_known": ORDER[trial.number]}
    return STOPS(searcher, trial, [{**one, "metrics": worth} for one in epochs])


STOPS = ContinuedSearch.stops


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder in which a search is finished that stopped two of four suggestions, and what it said."""
    folder, said = tmp_path_factory.mktemp("pruned"), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
        patch.setattr(ContinuedSearch, "stops", planted)
        assert small.run(small.load(folder, written()), folder, said) == 0
    return folder, said


def states(folder: Path) -> dict[int, str]:
    return {entry.number: entry.state for entry in read(folder / "out/tiny")}


def runs(folder: Path) -> dict[str, tuple[str, str | None, int]]:
    """Of every trial's run, by the number of its suggestion: status, why it was stopped, and its epochs. Each says what
    it cost.
    """
    mlflow_client = client(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = mlflow_client.get_experiment_by_name("tiny")
    assert experiment is not None
    found = mlflow_client.search_runs([experiment.experiment_id], "tags.mlflow.runName LIKE '#%'")
    loss = "train/initialization/loss"
    assert all(run.data.metrics["cost/seconds_alone"] > 0 for run in found)
    return {
        run.info.run_name.split()[0]: (
            run.info.status,
            run.data.tags.get(PRUNED_TAG),
            len(mlflow_client.get_metric_history(run.info.run_id, loss)),
        )
        for run in found
    }


STATES = {0: "finished", 1: "pruned", 2: "finished", 3: "pruned"}


def test_search_that_prunes_ends_with_what_it_finished(searched: tuple[Path, list[str]]) -> None:
    folder, said = searched
    assert states(folder) == STATES
    reason = "pruned by asha after epoch 1: gt_known 0.1000 on val, at best 0.1000"
    assert [line.endswith(reason) for line in said if ": pruned" in line] == [True, False]
    found = runs(folder)
    assert found["#0"] == ("FINISHED", None, 2)
    assert found["#1"] == ("KILLED", reason, 1)
    assert "2 of 2 trials." in (folder / "out/tiny/table.md").read_text(encoding="utf-8")
    assert json.loads((folder / "out/tiny/best.json").read_text(encoding="utf-8"))["number"] in (0, 2)


def test_search_that_prunes_again_trains_nothing_and_keeps_who_was_stopped(
    searched: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(searched[0], tmp_path, dirs_exist_ok=True)
    before = runs(tmp_path)

    def train(*_: object) -> None:
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr("lchp.study.run.ray_tune.train", train)
    (tmp_path / "out/tiny/optuna.journal").unlink()
    for _ in range(2):
        assert small.run(small.load(tmp_path, written()), tmp_path) == 0
        assert states(tmp_path) == STATES
        assert runs(tmp_path) == before
    found = [trial.state.name for trial in open_search("tiny", tmp_path / "out/tiny").get_trials()]
    assert found == ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED"]


def test_restored_search_knows_what_its_suggestions_had_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def known() -> list[tuple[object, ...]]:
        trials = open_search("tiny", tmp_path).get_trials()
        return [(one.state.name, one.params, one.values, one.intermediate_values, one.user_attrs) for one in trials]

    searcher, entries = search(tmp_path, ASHA), list[Entry]()
    for value in ORDER:
        trial = searcher.next()
        assert trial is not None
        reports = [epoch(step, value + step / 100) for step in (1, 2, 3)]
        reason = searcher.stops(trial, reports)
        if reason is None:
            searcher.tell(trial, value)
            # The last epoch is measured and not judged.
            reports.append(epoch(4, value))
        else:
            reports = reports[:1]
            searcher.prune(trial)
        place, state = f"trial/{trial.number}", "finished" if reason is None else "pruned"
        entries.append(Entry(trial.name, 0, trial.varied, place, 4, trial.number, 0, state, message=reason))  # type: ignore[arg-type]
        Cards(tmp_path).write(Card(str(trial.number), trial.name, {}, {}, place, epochs=reports))
    held = known()
    assert [one[0] for one in held] == ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED"]
    (tmp_path / "optuna.journal").unlink()
    monkeypatch.setattr("lchp.study.run.search_repair._objectives", lambda *_: dict(enumerate(ORDER)))
    restored_search(searcher.study, tmp_path, entries, tmp_path, lambda line: None)
    assert known() == held


@pytest.mark.parametrize("seed", range(20))
def test_halving_decides_as_optunas_pruner(seed: int) -> None:
    """Trials whose epochs end in any order, some of whose values are equal."""
    drawn = random.Random(seed)
    grace, reduction = drawn.randint(1, 3), drawn.randint(2, 4)
    pruners = [Halving(grace, reduction), SuccessiveHalvingPruner(min_resource=grace, reduction_factor=reduction)]
    studies = [optuna.create_study(direction="maximize", pruner=pruner) for pruner in pruners]
    alive = [tuple(study.ask() for study in studies) for _ in range(8)]
    steps, stopped = Counter[int](), 0
    while alive:
        trials = drawn.choice(alive)
        steps[trials[0].number] += 1
        value = drawn.randint(0, 9) / 10
        for trial in trials:
            trial.report(value, steps[trial.number])
        decided = {trial.should_prune() for trial in trials}
        assert len(decided) == 1
        if decided == {True} or steps[trials[0].number] == 12:
            alive.remove(trials)
            stopped += decided == {True}
    assert stopped


@pytest.mark.parametrize("lost", ["value", "that it stops", "that it goes on"])
def test_pruner_what_a_kill_keeps_from_being_written_is_decided_again(tmp_path: Path, lost: str) -> None:
    searcher = search(tmp_path, ASHA)
    first, second, third = searcher.next(), searcher.next(), searcher.next()
    assert first is not None
    assert second is not None
    assert third is not None
    assert searcher.stops(first, [epoch(1, 0.5)]) is None
    value = 0.6 if lost == "that it goes on" else 0.1

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trial, "report" if lost == "value" else "set_user_attr", killed)
        with pytest.raises(KeyboardInterrupt):
            searcher.stops(second, [epoch(1, value)])
    again = search(tmp_path, ASHA)
    assert [again.next(), again.next(), again.next()] == [first, second, third]
    reason = again.stops(second, [epoch(1, value)])
    assert (reason is None) is (lost == "that it goes on")
    # What was decided stays so, whatever others have reached since.
    assert again.stops(third, [epoch(1, 0.9)]) is None
    after = search(tmp_path, ASHA)
    assert [after.next(), after.next(), after.next()] == [first, second, third]
    assert after.stops(second, [epoch(1, value)]) == reason
