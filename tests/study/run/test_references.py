"""A study's references: trained beside its trials, shared by them, recorded, shown, and never part of a trial."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import tests.study.small as small
from lchp.cli import run
from lchp.study.plan.trials import as_text, plan
from lchp.study.run.ledger import read
from lchp.study.run.results import make_tables
from lchp.tracking.store import client
from tests.tracking.empty import put_empty_store

TWO = small.TINY + "vary: {tau: [0.0, 0.5]}\n"
ASKED = TWO + "references: [few_shot, supervised]\n"
METHODS = ["few_shot_1", "few_shot_5", "supervised"]


def runs(folder: Path) -> dict[str, dict[str, str]]:
    """The tags of every run below the study's, by name."""
    store = client(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = store.get_experiment_by_name("tiny")
    assert experiment is not None
    found = store.search_runs([experiment.experiment_id])
    return {
        str(one.info.run_name): {**one.data.tags, "id": one.info.run_id, "status": one.info.status}
        for one in found
        if "mlflow.parentRunId" in one.data.tags
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A study that was finished without references, and then run with them; and what it said then."""
    folder = tmp_path_factory.mktemp("references")
    put_empty_store(folder)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
        assert small.run(small.load(folder, TWO), folder) == 0
        assert small.run(small.load(folder, ASKED), folder, said) == 0
    return folder, said


def test_references_of_a_finished_study_are_trained_alone_and_once(finished: tuple[Path, list[str]]) -> None:
    folder, said = finished
    assert said[0] == f"tiny: references beside 2 finished trials to train, into {folder / 'out' / 'tiny'}"
    epochs = [line.partition(": ")[2].partition("  ")[0] for line in said if "loss" in line]
    assert epochs == [f"{method} {epoch}" for method in METHODS for epoch in (1, 2)]
    assert len(list((folder / "out/.store/reference").iterdir())) == 3
    again: list[str] = []
    assert small.run(small.load(folder, ASKED), folder, again) == 0
    assert "all 2 trials of tiny are finished: nothing to train" in again


def test_references_stand_beside_every_trial_in_results_and_tables(finished: tuple[Path, list[str]]) -> None:
    folder, _ = finished
    study = small.load(folder, ASKED)
    (table,) = make_tables(study, folder / "out")
    results = pd.read_csv(folder / "out/tiny/results.csv").query("split == 'test' and metric == 'gt_known'")
    for method in METHODS:
        values = results.query("method == @method")["value"].tolist()
        assert len(values) == 2
        assert values[0] == values[1]
        shown = [cell.mean for cell in table.column(f"{method}_gt_known")]  # type: ignore[union-attr]
        assert shown == [100 * value for value in values]
    assert table.notes[0].startswith("Few-shot (1), Few-shot (5), Supervised: references, no results: ")
    assert (folder / "out/tiny/table.png").exists()


def test_references_are_runs_of_their_own_and_are_not_reproduced(
    finished: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = finished
    found = runs(folder)
    titles = ["Few-shot (1)", "Few-shot (5)", "Supervised"]
    names = [f"{title} seed=0" for title in titles]
    assert found.keys() == {"tau=0.0 seed=0", "tau=0.5 seed=0", "initialization seed=0", *names}
    assert [found[name]["lchp.reference"] for name in names] == METHODS
    assert {one["status"] for one in found.values()} == {"FINISHED"}
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    run_id = found["Supervised seed=0"]["id"]
    run_of = client(uri).get_run(run_id).data
    assert run_of.metrics["train/supervised/loss"] > 0
    assert "supervised/test/gt_known" in run_of.metrics
    assert "initialization.epochs" in run_of.params
    assert "delta" not in run_of.params
    code = run(["reproduce", run_id, "--tracking-uri", uri, "--output", str(folder), "--cache", str(folder / "cache")])
    assert code == 2
    assert f"run {run_id} is a reference of a study, no trial" in capsys.readouterr().err


def test_references_that_are_no_longer_asked_for_leave_the_tables(
    finished: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = finished
    assert small.run(small.load(folder, TWO), folder) == 0
    assert all(entry.references == {} for entry in read(folder / "out/tiny"))
    text = (folder / "out/tiny/table.csv").read_text(encoding="utf-8")
    assert "supervised" not in text
    assert small.run(small.load(folder, ASKED), folder) == 0


def test_references_that_are_damaged_are_named_by_table_and_trained_again(
    finished: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = finished
    study = small.load(folder, ASKED)
    before = (folder / "out/tiny/results.csv").read_bytes()
    place = read(folder / "out/tiny")[0].references["few_shot_5"]
    scores = folder / "out/.store" / place / "scores.json"
    scores.write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(Exception, match=r"scores\.json.*`lchp study run` makes it again"):
        make_tables(study, folder / "out")
    monkeypatch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
    assert small.run(study, folder) == 0
    assert (folder / "out/tiny/results.csv").read_bytes() == before


def test_plan_counts_references_that_trials_share(tmp_path: Path) -> None:
    planned = plan(small.load(tmp_path, ASKED + "seeds: [0, 1]\n"))
    assert planned.as_dict()["references"] == 6
    assert "6 references, trained on true boxes: few_shot_1, few_shot_5, supervised" in as_text(planned)
    without = plan(small.load(tmp_path, TWO + "seeds: [0, 1]\n"))
    assert planned.cost is not None
    assert without.cost is not None
    assert planned.cost.references > 0
    assert planned.cost.total == pytest.approx(without.cost.total + planned.cost.references)
    assert "references" not in as_text(without)
