from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import lchp
import tests.study.small as small
from lchp.cli import run as command
from lchp.data.config import SyntheticDataset
from lchp.data.files import as_json, replacing
from lchp.data.loader import decode, resized
from lchp.data.synthetic import CLASSES, draw_dataset
from lchp.errors import Refusal
from lchp.method.pseudo_boxes import tightest_box
from lchp.store.folder import StageFolder
from lchp.study.run.algorithm_1 import steps_of
from lchp.study.run.ledger import Entry, Ledger, as_text, read
from lchp.study.run.options import Machine
from lchp.study.run.ownership import alone, is_running, require_continuable
from lchp.study.run.prepare import prepare
from lchp.study.run.recorder import Recorder
from lchp.study.run.results import make_tables
from lchp.study.run.stopping import Stopped, stoppable
from lchp.study.run.study import run_study
from lchp.study.run.trial import run_single
from lchp.study.spec.load import Study, load_study
from lchp.study.spec.trials import ResolvedTrial
from lchp.tracking.store import client
from lchp.training.box_sources import live_boxes
from lchp.training.evaluation import evaluation_view
from lchp.training.identity import stored_config
from lchp.training.initialization import make_networks, stored_classifier
from lchp.vocabulary import METHODS, METRICS, predicting
from tests.tracking.empty import put_empty_store
from tests.training.added import added_field
from tests.training.old import as_of_old


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the grid study is finished."""
    folder = tmp_path_factory.mktemp("study")
    put_empty_store(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
        assert small.run(small.load(folder, small.GRID), folder) == 0
    return folder


@pytest.fixture
def own(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished study, in which nothing is to be trained."""
    shutil.copy(finished / "mlflow.db", tmp_path / "mlflow.db")
    shutil.copytree(finished / "out", tmp_path / "out")
    shutil.copytree(finished / "cache", tmp_path / "cache")
    shutil.copy(finished / "study.yaml", tmp_path)

    def train(*_: object) -> None:
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr("lchp.study.run.ray_tune.train", train)
    return tmp_path


@pytest.fixture
def fresh(finished: Path, tmp_path: Path) -> Path:
    """A folder in which nothing was run, with the images at hand."""
    put_empty_store(tmp_path)
    shutil.copytree(finished / "cache", tmp_path / "cache")
    return tmp_path


def nested(folder: Path) -> list[dict[str, object]]:
    """The runs of trials in the store: name, status, metrics, files, tags."""
    return [run for run in every_run(folder) if run["tags"]["lchp.kind"] == "trial"]  # type: ignore[index]


def every_run(folder: Path) -> list[dict[str, object]]:
    """The runs of the store, parents included."""
    mlflow_client = client(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = mlflow_client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = mlflow_client.search_runs([experiment.experiment_id])
    return [
        {
            "id": run.info.run_id,
            "name": run.info.run_name,
            "status": run.info.status,
            "metrics": run.data.metrics,
            "files": {file.path for file in mlflow_client.list_artifacts(run.info.run_id)},
            "tags": run.data.tags,
        }
        for run in runs
    ]


def test_run_study_results_have_the_promised_columns_and_rows(finished: Path) -> None:
    frame = pd.read_csv(finished / "out/tiny/results.csv")
    assert list(frame.columns) == ["study", "run_id", "seed", "delta", "tau", "method", "split", "metric", "value"]
    assert set(frame["method"]) == {name for name, method in METHODS.items() if not method.reference}
    assert set(frame["metric"]) == set(METRICS)
    shares = frame["metric"].map(lambda metric: METRICS[metric].share)
    assert frame.loc[shares, "value"].between(0, 1).all()
    assert frame.groupby(["delta", "tau"]).ngroups == frame["run_id"].nunique() == 4


def test_run_study_folder_holds_tables_and_configuration(finished: Path) -> None:
    files = {file.name for file in (finished / "out/tiny").iterdir()}
    assert (finished / "out/tiny/written.yaml").read_text(encoding="utf-8") == small.GRID
    assert {"study.json", "results.csv", "table.csv", "table.md", "table.tex", "report.html"} <= files
    assert not [name for name in files if name.startswith(".") and name != ".lock"]


def test_run_study_trials_share_initializations(finished: Path) -> None:
    assert len(list((finished / "out/.store/initialization").iterdir())) == 2
    assert len(list((finished / "out/.store/trial").iterdir())) == 4


def test_run_study_mlflow_has_one_finished_nested_run_per_trial(finished: Path) -> None:
    runs = nested(finished)
    assert sorted(str(run["name"]) for run in runs) == [
        f"delta={d} tau={t} seed=0" for d in (0.4, 0.5) for t in (0.0, 0.5)
    ]
    for run in runs:
        assert run["status"] == "FINISHED"
        assert {"config.json", "per_image.csv", "predictions.png"} <= run["files"]  # type: ignore[operator]
        assert "lchp_r/test/gt_known" in run["metrics"]  # type: ignore[operator]
        assert {"lchp.commit", "lchp.dataset", "lchp.seed", "lchp.version.torch"} <= set(run["tags"])  # type: ignore[call-overload]
        assert {"mlflow.user", "lchp.device"} <= set(run["tags"])  # type: ignore[call-overload]


def test_run_study_mlflow_trial_leads_with_what_varies_and_what_it_reached(finished: Path) -> None:
    mlflow_client = client(f"sqlite:///{finished / 'mlflow.db'}")
    run = mlflow_client.get_run(str(nested(finished)[0]["id"])).data
    assert list(run.params)[:3] == ["delta", "tau", "seed"]
    assert {"augmentation", "dataset.kind", "initialization.epochs", "view.crop"} <= run.params.keys()
    # The paper's own values stand in config.json.
    assert not {"evaluation.every", "refinement.rate", "pseudo_boxes.maps"} & run.params.keys()
    reached = {method: run.metrics[f"GT-Known test/{METHODS[method].title}"] for method in predicting()}
    assert reached == {method: run.metrics[f"{method}/test/gt_known"] for method in predicting()}
    words = [f"{100 * value:.2f}% by {METHODS[method].title}" for method, value in reached.items()]
    assert run.tags["mlflow.note.content"] == f"GT-Known on test: {', '.join(words)}."
    assert [name for name in run.metrics if "top1_cls" in name] == ["top1_cls/val", "top1_cls/test"]
    assert len(run.metrics) < 70
    assert run.metrics["cost/wall_seconds"] > 0


def test_run_study_mlflow_parent_has_best_and_mean_description_and_figures(finished: Path) -> None:
    frame = pd.read_csv(finished / "out/tiny/results.csv")
    values = frame.query("method == 'lchp_r' and split == 'test' and metric == 'gt_known'")
    (parent,) = (run for run in every_run(finished) if run["tags"]["lchp.kind"] == "study")  # type: ignore[index]
    metrics, files, tags = parent["metrics"], parent["files"], parent["tags"]
    assert metrics["mean/GT-Known test/LCHP-R"] == pytest.approx(values["value"].mean())  # type: ignore[index]
    assert metrics["best/GT-Known test/LCHP-R"] == values["value"].max()  # type: ignore[index]
    assert {"report.html", "table.md", "training.png", "ious.png"} <= files  # type: ignore[operator]
    assert str(tags["mlflow.note.content"]).startswith("does a study of four trials train?\n\nGT-Known on test")  # type: ignore[index]


def test_run_study_mlflow_says_what_a_trial_cost_and_what_it_would_have_cost_alone(finished: Path) -> None:
    costs: dict[object, list[tuple[float, float]]] = {}
    for run in nested(finished):
        tags, metrics = run["tags"], run["metrics"]
        cost = metrics["cost/seconds"], metrics["cost/seconds_alone"]  # type: ignore[index]
        costs.setdefault(tags["lchp.initialization"], []).append(cost)  # type: ignore[index]
    assert len(costs) == 2
    for sharing in costs.values():
        assert sorted(own < alone for own, alone in sharing) == [False, True]
        assert all(own <= alone for own, alone in sharing)


def test_run_study_mlflow_has_a_run_of_every_initialization_to_which_its_trials_lead(finished: Path) -> None:
    stages = [run for run in every_run(finished) if run["tags"]["lchp.kind"] == "initialization"]  # type: ignore[index]
    assert sorted(str(run["name"]) for run in stages) == [f"initialization delta={d} seed=0" for d in (0.4, 0.5)]
    for stage in stages:
        metrics: Any = stage["metrics"]
        assert stage["status"] == "FINISHED"
        assert metrics["epoch"] == 2
        assert {"train/initialization/loss", "lchp_i/test/gt_known"} <= metrics.keys()
        assert metrics["cost/seconds"] == metrics["cost/seconds_alone"] > 0
        sharing = [run for run in nested(finished) if run["tags"]["lchp.initialization_run"] == stage["id"]]  # type: ignore[index]
        assert len(sharing) == 2
        assert all(run["tags"]["lchp.initialization"] == stage["tags"]["lchp.key"] for run in sharing)  # type: ignore[index]


def test_run_study_of_a_store_without_runs_of_initializations_makes_them(own: Path) -> None:
    before = sorted((str(run["id"]), str(run["name"])) for run in every_run(own))
    mlflow_client = client(f"sqlite:///{own / 'mlflow.db'}")
    for run in every_run(own):
        mlflow_client.delete_tag(str(run["id"]), "lchp.kind")
        if "lchp.initialization_run" in run["tags"]:  # type: ignore[operator]
            mlflow_client.delete_tag(str(run["id"]), "lchp.initialization_run")
        elif str(run["name"]).startswith("initialization "):
            mlflow_client.delete_run(str(run["id"]))
    for card in (own / "out/tiny/runs").glob("*.json"):
        if json.loads(card.read_text(encoding="utf-8"))["name"].startswith("initialization "):
            card.unlink()
    assert small.run(small.load(own, small.GRID), own) == 0
    after = every_run(own)
    assert len(after) == len(before)
    assert len({run["tags"]["lchp.initialization_run"] for run in nested(own)}) == 2  # type: ignore[index]
    kept = {(str(run["id"]), str(run["name"])) for run in after}
    assert len(kept - set(before)) == 2


def test_run_study_degenerate_training_is_told_in_log_table_and_mlflow(finished: Path) -> None:
    log = (finished / "out/tiny/log.txt").read_text(encoding="utf-8")
    table = (finished / "out/tiny/table.md").read_text(encoding="utf-8")
    assert "delta=0.4 tau=0.5 seed=0: warning: LCHP-R, 0 selected: no box was selected in any epoch" in log
    assert "tau=0.0 seed=0: warning: LCHP-R, all selected: " in log
    rows = [line for line in table.splitlines() if line.startswith("| 0")]
    assert [("0 selected" in row, "all selected" in row) for row in rows] == [(False, True), (True, False)] * 2
    (parent,) = (run for run in every_run(finished) if run["tags"]["lchp.kind"] == "study")  # type: ignore[index]
    for run in [parent, *nested(finished)]:
        warned = str(run["tags"]["lchp.warnings"])  # type: ignore[index]
        assert ("0 selected" in warned) == ("tau=0.0" not in str(run["name"]))
    for run in nested(finished):
        counts = "8 val images; one image is worth 12.50 points\n16 test images; one image is worth 6.25 points"
        assert run["tags"]["lchp.counts"] == counts  # type: ignore[index]
    said = "16 test images; one image is worth 6.25 points.\n4 of 4 trials."
    assert parent["tags"]["lchp.counts"] == said  # type: ignore[index]
    assert said in table


def test_run_study_again_trains_nothing_and_gives_the_same_files(own: Path) -> None:
    before = {file: (own / "out/tiny" / file).read_bytes() for file in ("results.csv", "table.csv", "table.tex")}
    said: list[str] = []
    assert small.run(small.load(own, small.GRID), own, said) == 0
    assert "all 4 trials of tiny are finished: nothing to train" in said
    assert {file: (own / "out/tiny" / file).read_bytes() for file in before} == before
    assert len(nested(own)) == 4


def test_run_study_after_a_field_was_added_goes_on_with_what_is_stored(own: Path) -> None:
    before = (own / "out/tiny/results.csv").read_bytes()
    with added_field():
        said: list[str] = []
        assert small.run(small.load(own, small.GRID), own, said) == 0
        assert "all 4 trials of tiny are finished: nothing to train" in said
        with pytest.raises(Refusal, match=r"refinement\.patience: \(absent\) -> 8"):
            small.run(small.load(own, small.GRID, "refinement.patience=8"), own)
    assert (own / "out/tiny/results.csv").read_bytes() == before


def test_run_study_lost_tracking_store_is_rebuilt_from_files_but_for_models_whose_classifier_is_damaged(
    own: Path,
) -> None:
    before = pd.read_csv(own / "out/tiny/results.csv").drop(columns="run_id")
    (own / "mlflow.db").unlink()
    damaged = own / "out/.store" / str(read(own / "out/tiny")[0].initialization)
    (damaged / "networks.pt").write_bytes(b"cut")
    said: list[str] = []
    assert small.run(small.load(own, small.GRID), own, said) == 0
    runs = nested(own)
    assert [run["status"] for run in runs] == ["FINISHED"] * 4
    kept = {run["tags"]["lchp.initialization"]: "model" in run["files"] for run in runs}  # type: ignore[index,operator]
    assert sorted(kept.values()) == [False, True]
    assert not kept[damaged.name]
    assert (
        len([line for line in said if f"its initialization is damaged: {damaged}: networks.pt has 3 bytes" in line])
        == 2
    )
    pd.testing.assert_frame_equal(pd.read_csv(own / "out/tiny/results.csv").drop(columns="run_id"), before)


def test_run_study_other_configuration_in_the_folder_is_refused_by_field(own: Path) -> None:
    with pytest.raises(
        Refusal, match=r"holds another configuration of tiny:\n  base\.alpha: 20\.0 -> 3\.0\nname the study otherwise"
    ):
        small.run(small.load(own, small.GRID, "alpha=3", "seeds=[0, 1]"), own)


def test_run_study_other_data_in_the_folder_is_refused(own: Path) -> None:
    file = own / "out/tiny/study.json"
    plain = json.loads(file.read_text(encoding="utf-8"))
    del plain["fingerprint"]
    plain["data"] = dict.fromkeys(plain["data"], "0" * 64)
    file.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(Refusal, match=r"data\.synthetic"):
        small.run(small.load(own, small.GRID), own)


def test_run_study_whose_changed_configuration_is_deleted_as_it_is_told_goes_on_with_its_run(own: Path) -> None:
    file = own / "out/tiny/study.json"
    plain = json.loads(file.read_text(encoding="utf-8"))
    run = plain["run"]
    # As of a study that has grown, whose run has the name of what it was.
    old, new = (own / f"out/tiny/runs/{key}.json" for key in (run, "study-grown"))
    new.write_text(old.read_text(encoding="utf-8").replace(run, "study-grown"), encoding="utf-8")
    old.unlink()
    file.write_text(json.dumps({**plain, "run": "study-other"}), encoding="utf-8")
    with pytest.raises(Refusal, match=r"study\.json is not what was written there .*: delete it, and run the study"):
        small.run(small.load(own, small.GRID), own)
    file.unlink()
    assert small.run(small.load(own, small.GRID), own) == 0
    assert json.loads(file.read_text(encoding="utf-8"))["run"] == "study-grown"
    assert [path.stem for path in (own / "out/tiny/runs").glob("study-*")] == ["study-grown"]


def test_run_study_changed_image_is_named(own: Path) -> None:
    table = next((own / "out/.store/datasets").glob("*.csv"))
    path = table.read_text(encoding="utf-8").splitlines()[3].partition(",")[0]
    image = next(own.glob(f"cache/synthetic/*/{path}"))
    pixels = np.array(Image.open(image))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(image)
    with pytest.raises(Refusal, match=rf"(?s)data\.synthetic.*{path}: changed"):
        small.run(small.load(own, small.GRID), own)
    table.unlink()
    with pytest.raises(Refusal, match=r"(?s)data\.synthetic.*images changed \(sha256 .*: their list is gone"):
        small.run(small.load(own, small.GRID), own)


def test_require_continuable_is_about_the_configuration_not_the_data(own: Path) -> None:
    require_continuable(small.load(own, small.GRID), own / "out/tiny")
    require_continuable(small.load(own, small.GRID), own / "out/none")
    with pytest.raises(Refusal, match=r"holds another configuration of tiny:\n  base\.alpha: 20\.0 -> 3\.0\nname"):
        require_continuable(small.load(own, small.GRID, "alpha=3"), own / "out/tiny")


def test_require_continuable_does_not_import_what_trains() -> None:
    modules = "lchp.study.run.ownership, lchp.study.run.ledger"
    code = f"import sys, {modules}; print(sorted({{'torch', 'ray', 'mlflow'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("text", ["{", '[{"nonsense": 1}]', "[3]"])
def test_read_broken_ledger_is_refused_with_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "trials.json").write_text(text, encoding="utf-8")
    with pytest.raises(Refusal, match=r"trials\.json is (no list of trials|cut or damaged).* \(.*\): run the study"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("name", 3), ("seed", "a"), ("seed", None), ("varied", []), ("folder", 3), ("folder", "../up"), ("of", None)],
        *[("number", "1"), ("epochs", "x"), ("run_id", 5), ("message", []), ("initialization", 3), ("references", [])],
        *[("references", {"center": 3}), ("state", "gone"), ("state", [])],
    ],
)
def test_read_ledger_of_other_kinds_of_values_is_refused_by_the_field(
    tmp_path: Path, field: str, value: object
) -> None:
    entry = {"name": "a", "seed": 0, "varied": {}, "folder": "trial/1", "of": 4, "number": 0}
    (tmp_path / "trials.json").write_text(json.dumps([entry]), encoding="utf-8")
    assert [one.name for one in read(tmp_path)] == ["a"]
    (tmp_path / "trials.json").write_text(json.dumps([{**entry, field: value}]), encoding="utf-8")
    with pytest.raises(Refusal, match=r"trials\.json is no list of trials \(the entry .* has .*\): run the study"):
        read(tmp_path)


@pytest.mark.parametrize("text", ["", '{"name": "ti', "[1]", "null"])
def test_require_continuable_broken_configuration_is_refused_with_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.json").write_text(text, encoding="utf-8")
    with pytest.raises(Refusal, match=r"study\.json is .*: delete it, and run the study again"):
        require_continuable(small.load(tmp_path, small.GRID), tmp_path)


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_run_study_damaged_list_of_trials_is_named_and_written_again(own: Path, damage: str) -> None:
    file = own / "out/tiny/trials.json"
    before = file.read_bytes()
    if damage == "cut":
        file.write_bytes(before[: len(before) // 2])
    else:
        file.unlink()
    said: list[str] = []
    assert small.run(small.load(own, small.GRID), own, said) == 0
    assert file.read_bytes() == before
    assert [line.endswith("set aside as trials.json.damaged-1") for line in said if "trials.json" in line] == (
        [True] if damage == "cut" else []
    )


def test_run_study_damaged_trial_is_named_by_table_and_trained_again_by_run(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small.load(own, small.GRID)
    before = {name: (own / "out/tiny" / name).read_bytes() for name in ("results.csv", "table.tex")}
    entry = read(own / "out/tiny")[1]
    trial = own / "out/.store" / entry.folder
    (trial / "scores.json").write_bytes((trial / "scores.json").read_bytes()[:20])
    with pytest.raises(Refusal, match=rf"{trial}: scores\.json has 20 bytes of \d+: `lchp study run` makes it again"):
        make_tables(study, own / "out")
    monkeypatch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
    said: list[str] = []
    assert small.run(study, own, said) == 0
    assert "tiny: 1 of 4 trials to train" in "\n".join(said)
    named = [line for line in said if f"{trial}: scores.json has 20 bytes" in line]
    assert len(named) == 1
    assert f"{entry.name}: " in named[0]
    assert f"set aside as {trial.name}.damaged-1, made again" in named[0]
    assert {name: (own / "out/tiny" / name).read_bytes() for name in before} == before
    assert len(nested(own)) == 4
    assert {run["status"] for run in nested(own)} == {"FINISHED"}


def test_run_study_moved_project_goes_on_where_it_is(own: Path, tmp_path: Path) -> None:
    assert small.run(small.load(own, small.GRID), own) == 0
    shutil.copytree(own, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))
    moved = tmp_path / "copy"
    before = (moved / "out/tiny/results.csv").read_bytes()
    assert small.run(small.load(moved, small.GRID), moved) == 0
    assert (moved / "out/tiny/results.csv").read_bytes() == before
    assert len(nested(moved)) == 4


def test_run_study_deleted_parent_is_made_anew_and_its_trials_hang_below_it(own: Path) -> None:
    mlflow_client = client(f"sqlite:///{own / 'mlflow.db'}")
    parents = {str(run["tags"]["mlflow.parentRunId"]) for run in nested(own)}  # type: ignore[index]
    assert len(parents) == 1
    mlflow_client.delete_run(*parents)
    assert small.run(small.load(own, small.GRID), own) == 0
    below = {str(run["tags"]["mlflow.parentRunId"]) for run in nested(own)}  # type: ignore[index]
    assert len(below) == 1
    assert below != parents
    parent = mlflow_client.get_run(*below)
    assert (parent.info.status, parent.info.lifecycle_stage) == ("FINISHED", "active")


def test_run_study_of_two_people_in_one_tracking_store_have_runs_of_their_own(own: Path) -> None:
    uri = f"sqlite:///{own / 'mlflow.db'}"
    before = {run["id"]: (run["name"], run["tags"]["mlflow.parentRunId"]) for run in every_run(own) if below(run)}  # type: ignore[index]
    for run_id in before:
        # As version 0.3 left them.
        client(uri).delete_tag(str(run_id), "lchp.study")
    shutil.copytree(own / "out/.store", own / "another/.store")
    study, machine = small.load(own, small.GRID), Machine(own / "cache", "cpu")
    assert run_study(study, own / "another", uri, machine, lambda line: None) == 0
    both = {run["id"]: (run["name"], run["tags"]["mlflow.parentRunId"]) for run in every_run(own) if below(run)}  # type: ignore[index]
    assert {run_id: both[run_id] for run_id in before} == before
    assert sorted(name for name, _ in both.values()) == sorted(2 * [name for name, _ in before.values()])
    for output in ("out", "another"):
        said = (own / output / "tiny/results.csv").read_bytes()
        assert run_study(study, own / output, uri, machine, lambda line: None) == 0
        assert (own / output / "tiny/results.csv").read_bytes() == said
    runs = every_run(own)
    assert {run["id"]: (run["name"], run["tags"]["mlflow.parentRunId"]) for run in runs if below(run)} == both  # type: ignore[index]
    keys = {run["id"]: run["tags"]["lchp.key"] for run in runs if not below(run)}  # type: ignore[index]
    assert len(keys) == len(set(keys.values())) == 2
    for run in filter(below, runs):
        tags: Any = run["tags"]
        assert tags["lchp.study"] == keys[tags["mlflow.parentRunId"]]
        of_stage = tags.get("lchp.initialization_run")
        assert of_stage is None or both[of_stage][1] == tags["mlflow.parentRunId"]


def below(run: dict[str, Any]) -> bool:
    """Whether a run is another's child."""
    return "mlflow.parentRunId" in run["tags"]


def test_run_study_rebuilt_runs_say_what_the_trials_were_made_with(own: Path) -> None:
    put_empty_store(own)
    for file in (own / "out/.store/trial").glob("*/environment.json"):
        made = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps({**made, "commit": "once", "cpu": "another"}), encoding="utf-8")
        as_of_old(file.parent, own / "out/.store")
    assert small.run(small.load(own, small.GRID), own) == 0
    tags = [run["tags"] for run in nested(own)]
    assert [(t["lchp.commit"], t["lchp.cpu"]) for t in tags] == [("once", "another")] * 4  # type: ignore[index]


def test_run_study_runs_say_what_the_worker_was_and_not_the_driver(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def worker(*_: object) -> dict[str, object]:
        return {"commit": "there", "cpu": "worker's", "device": "NVIDIA H200", "versions": {"torch": "9"}}

    monkeypatch.setattr("lchp.store.folder.StageFolder.environment", worker)
    assert small.run(small.load(own, small.GRID), own) == 0
    made = {name: {run["tags"][f"lchp.{name}"] for run in nested(own)} for name in ("commit", "cpu", "device")}  # type: ignore[index]
    assert made == {"commit": {"there"}, "cpu": {"worker's"}, "device": {"NVIDIA H200"}}


def test_run_study_unusable_tracking_store_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database", encoding="utf-8")
    with pytest.raises(Refusal, match="cannot be opened"):
        small.run(small.load(tmp_path, small.GRID), tmp_path)
    assert not (tmp_path / "out/tiny").exists()


def test_run_study_paper_table_with_other_rows_is_refused(tmp_path: Path) -> None:
    text = small.GRID + "tables: [{by: [tau], paper: table3_delta, fixed: {delta: 0.5}}]\n"
    with pytest.raises(Refusal, match="table3_delta has rows by delta"):
        small.load(tmp_path, text)


def test_run_study_failed_trial_leaves_the_others_and_gives_one(
    finished: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "out/.store", fresh / "out/.store")

    def train(study: Study, trials: Sequence[ResolvedTrial], recorder: Recorder) -> None:
        recorder.start(trials[0])
        recorder.fail(trials[0], "Traceback ...\nFloatingPointError: the loss is nan\n")

    monkeypatch.setattr("lchp.study.run.ray_tune.train", train)
    text = small.TINY + "vary:\n- {delta: 0.4, tau: [0.0, 0.5]}\n- {delta: 0.5, tau: 0.7}\n"
    said: list[str] = []
    assert small.run(small.load(fresh, text), fresh, said) == 1
    assert "delta=0.5 tau=0.7 seed=0: failed: FloatingPointError: the loss is nan" in said[-1]
    assert pd.read_csv(fresh / "out/tiny/results.csv")["run_id"].nunique() == 2
    failed = [run for run in nested(fresh) if run["status"] == "FAILED"]
    assert [run["name"] for run in failed] == ["delta=0.5 tau=0.7 seed=0"]
    assert "Traceback" in failed[0]["tags"]["lchp.error"]  # type: ignore[index]
    assert [entry.state for entry in read(fresh / "out/tiny")] == ["finished", "finished", "failed"]


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (KeyboardInterrupt(), "stopped", "the same command continues it"),
        (Stopped(signal.SIGTERM), "stopped", "SIGTERM"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "stopped", "Broken pipe"),
        (RuntimeError("the disk is gone"), "failed", "RuntimeError: the disk is gone"),
    ],
)
def test_run_study_that_ends_early_leaves_true_states_everywhere(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, state: str, reason: str
) -> None:

    def train(study: Study, trials: Sequence[ResolvedTrial], recorder: Recorder) -> None:
        recorder.start(trials[0])
        raise error

    monkeypatch.setattr("lchp.study.run.study.reader_is_gone", lambda error: isinstance(error, BrokenPipeError))
    monkeypatch.setattr("lchp.study.run.ray_tune.train", train)
    with pytest.raises(type(error)):
        small.run(small.load(fresh, small.GRID), fresh)
    assert [entry.state for entry in read(fresh / "out/tiny")] == [state, "waiting", "waiting", "waiting"]
    runs = every_run(fresh)
    names = {"tiny", "initialization delta=0.4 seed=0", "delta=0.4 tau=0.0 seed=0"}
    assert {run["name"]: run["status"] for run in runs} == dict.fromkeys(names, "FAILED")
    assert all(reason in run["tags"]["lchp.error"] for run in runs)  # type: ignore[index]
    kept = (fresh / "out/tiny/log.txt").read_text(encoding="utf-8")
    assert "4 of 4 trials to train" in kept
    assert ("Traceback" in kept) == (state == "failed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_run_study_signal_ends_it_in_order_with_its_exit_code(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    # Whoever starts the tests by nohup has SIGHUP ignored, and `stoppable` leaves an ignored signal ignored.
    before = signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL
    inherited = signal.signal(number, before)

    def train(study: Study, trials: Sequence[ResolvedTrial], recorder: Recorder) -> None:
        recorder.start(trials[0])
        os.kill(os.getpid(), number)
        raise AssertionError("the signal did not arrive")

    monkeypatch.setattr("lchp.study.run.ray_tune.train", train)
    with pytest.raises(Stopped) as stopped, stoppable():
        small.run(small.load(fresh, small.GRID), fresh)
    assert stopped.value.exit_code == 128 + number
    assert signal.signal(number, inherited) is before
    assert (read(fresh / "out/tiny")[0].message or "").endswith(f"({number.name})")
    assert {run["status"] for run in every_run(fresh)} == {"FAILED"}


def test_run_study_that_ends_where_log_and_store_fail_still_marks_the_ledger(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def gone(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space is left")

    def train(study: Study, trials: Sequence[ResolvedTrial], recorder: Recorder) -> None:
        recorder.start(trials[0])
        monkeypatch.setattr("lchp.study.run.scribe.fail_run", gone)
        monkeypatch.setattr("lchp.study.run.log.StudyLog.failure", gone)
        raise RuntimeError("what ended it")

    monkeypatch.setattr("lchp.study.run.ray_tune.train", train)
    said: list[str] = []
    with pytest.raises(RuntimeError, match="what ended it"):
        small.run(small.load(fresh, small.GRID), fresh, said)
    assert said[-1].startswith("3 runs are not written: tracking store 'sqlite:///")
    assert f"cannot be written (no space is left): the same command, or `lchp study sync {fresh}" in said[-1]
    first = read(fresh / "out/tiny")[0]
    assert (first.state, first.message) == ("failed", "RuntimeError: what ended it")


def test_run_study_that_ends_where_the_ledger_fails_is_ended_by_what_ended_it(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def gone(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space is left")

    def train(study: Study, trials: Sequence[ResolvedTrial], recorder: Recorder) -> None:
        recorder.start(trials[0])
        monkeypatch.setattr("lchp.study.run.ledger.write_text", gone)
        raise RuntimeError("what ended it")

    monkeypatch.setattr("lchp.study.run.ray_tune.train", train)
    with pytest.raises(RuntimeError, match="what ended it") as ended:
        small.run(small.load(fresh, small.GRID), fresh)
    assert ended.value.__notes__[0] == "the trials could not be marked as ended: OSError: [Errno 28] no space is left"


def test_ledger_together_writes_once_and_keeps_what_was_there(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.put(Entry("a", 0, {}, "trial/1", 4, 0))
    with ledger.together():
        ledger.put(Entry("b", 0, {}, "trial/2", 4, 1))
        ledger.change("trial/1", state="finished")
        assert [entry.name for entry in read(tmp_path)] == ["a"]
    assert [(entry.name, entry.state) for entry in read(tmp_path)] == [("a", "finished"), ("b", "waiting")]


def test_ledger_of_many_entries_makes_the_text_of_the_changed_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, made = Ledger(tmp_path), list[Any]()
    with ledger.together():
        for number in range(50):
            ledger.put(Entry(f"seed={number}", number, {"tau": [0.5, "é"]}, f"trial/{number}", 2, number))
    monkeypatch.setattr("lchp.study.run.ledger.as_json", lambda value: made.append(value) or as_json(value))
    ledger.change("trial/7", state="running")
    assert [len(value) for value in made] == [1]
    assert ledger.file.read_text(encoding="utf-8") == as_json([vars(entry) for entry in ledger.entries.values()])
    assert read(tmp_path) == list(ledger.entries.values())


def test_status_of_a_trial_whose_process_was_killed_is_not_running(tmp_path: Path) -> None:
    entries = [Entry("a", 0, {}, "trial/1", 4, 0, epochs=2, state="running"), Entry("b", 0, {}, "trial/2", 4, 1)]
    with alone(tmp_path):
        assert is_running(tmp_path)
    assert not is_running(tmp_path)
    assert not is_running(tmp_path / "never run")
    assert "1 running, 1 waiting" in as_text(entries, running=True)
    told = as_text(entries, running=False)
    assert "a  stopped   epoch 2/4  its process is gone: the same command continues it" in told
    assert "1 stopped, 1 waiting" in told


def test_run_study_that_another_process_runs_is_refused(own: Path) -> None:
    with (own / "out/tiny/.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Refusal, match="another process is running this study"):
            small.run(small.load(own, small.GRID), own)


def test_run_study_weights_of_another_sha256_are_refused(fresh: Path) -> None:
    (fresh / "weights.pth").write_bytes(b"something")
    weights = f"{{file: {fresh / 'weights.pth'}, sha256: {'a' * 64}}}"
    with pytest.raises(Refusal, match=r"hashes to .*, not to weights\.classifier\.sha256 a+"):
        small.run(small.load(fresh, small.TINY, f"weights.classifier={weights}"), fresh)


def test_study_run_with_nothing_to_train_imports_neither_torch_nor_ray(own: Path) -> None:
    # In a process of its own: this one has imported both.
    (own / "tiny.yaml").write_text(small.GRID, encoding="utf-8")
    places = {"--output": own / "out", "--cache": own / "cache", "--tracking-uri": f"sqlite:///{own / 'mlflow.db'}"}
    command = ["study", "run", str(own / "tiny.yaml"), "--device", "cpu"]
    command += [str(part) for option in places.items() for part in option]
    ended = f"code = run({command!r}); print(code, sorted({{'torch', 'ray', 'optuna'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; from lchp.cli import run; {ended}"],
        cwd=own,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: object) -> None:
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr("lchp.study.run.ray_tune.train", train)


@pytest.mark.usefixtures("never")
def test_run_study_weights_that_do_not_fit_are_refused_before_training(fresh: Path) -> None:
    torch.save({"nonsense": torch.zeros(1)}, fresh / "weights.pth")
    weights = f"weights.regressor={{file: {fresh / 'weights.pth'}}}"
    with pytest.raises(Refusal, match=r"weights\.regressor\.file .* does not fit small_cnn"):
        small.run(small.load(fresh, small.TINY, weights), fresh)
    config = small.load(fresh, small.TINY, weights).base
    with pytest.raises(Refusal, match=r"weights\.regressor\.file .* does not fit small_cnn"):
        run_single(config, Machine(fresh / "cache", "cpu").runtime(fresh / "out"), print)
    assert not (fresh / "out/tiny").exists()
    assert client(f"sqlite:///{fresh / 'mlflow.db'}").get_experiment_by_name("tiny") is None


@pytest.mark.usefixtures("never")
def test_run_study_broken_image_is_refused_before_training(fresh: Path) -> None:
    draw_dataset(SyntheticDataset(train_per_class=6, test_per_class=2, size=40), fresh / "images")
    broken = fresh / "images/test/ringed-3/00001.png"
    broken.write_bytes(broken.read_bytes()[:-20])
    text = small.GRID.replace(
        "dataset: {kind: synthetic, train_per_class: 6, test_per_class: 2, size: 40}",
        f"dataset: {{kind: table, path: {fresh / 'images/dataset.csv'}}}",
    )
    study = small.load(fresh, text)
    with pytest.raises(Refusal, match=r"test/ringed-3/00001\.png: the image does not decode .*: replace or remove"):
        small.run(study, fresh)
    with pytest.raises(Refusal, match=r"test/ringed-3/00001\.png: the image does not decode .*: replace or remove"):
        run_single(study.base, Machine(fresh / "cache", "cpu").runtime(fresh / "out"), print)
    assert not list(fresh.glob("out/.store/*/*"))


@pytest.mark.usefixtures("never")
def test_run_study_weights_are_made_once_for_each_choice(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(
        "lchp.training.initialization.make_networks", lambda config, classes: made.append((config.delta, classes))
    )
    state = make_networks(small.load(fresh, small.TINY).base, 8).classifier.trunk.state_dict()
    torch.save(state, fresh / "weights.pth")
    study = small.load(fresh, small.GRID, f"weights.classifier={{file: {fresh / 'weights.pth'}}}")
    prepare(study, Machine(fresh / "cache", "cpu").runtime(fresh / "out"))
    assert made == [(0.4, 8)]


@pytest.mark.usefixtures("never")
def test_run_study_search_by_boxes_without_boxes_on_val_is_refused(fresh: Path) -> None:
    draw_dataset(SyntheticDataset(train_per_class=6, test_per_class=2, size=40), fresh / "images")
    table = fresh / "images" / "dataset.csv"
    frame = pd.read_csv(table)
    frame[["path", "label", "split"]].to_csv(table, index=False)
    text = small.TINY.replace(
        "dataset: {kind: synthetic, train_per_class: 6, test_per_class: 2, size: 40}",
        f"dataset: {{kind: table, path: {table}}}",
    )
    text += "search: {trials: 2, space: {tau: [0.1, 0.2]}}\n"
    with pytest.raises(Refusal, match=r"gt_known: needs true boxes on val, which 8 of its 8 images do not have"):
        small.run(small.load(fresh, text), fresh)
    runtime = Machine(fresh / "cache", "cpu").runtime(fresh / "out")
    assert prepare(small.load(fresh, text, "search.objective.metric=top1_cls"), runtime)


def test_alone_removes_what_a_killed_process_left_half_written(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for name in (".trials.123.json", "trials.json", "runs/.a.123.json"):
        (tmp_path / name).touch()
    with replacing(tmp_path / "study.json") as part, alone(tmp_path):
        left = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    assert left == {".lock", "trials.json", part.name}


def test_run_study_lock_is_taken_before_the_folder_is_claimed(tmp_path: Path) -> None:
    with alone(tmp_path / "tiny"), pytest.raises(Refusal, match="another process"), alone(tmp_path / "tiny"):
        raise AssertionError("held twice")
    assert [file.name for file in (tmp_path / "tiny").iterdir()] == [".lock"]


def test_run_study_whose_shared_store_is_away_at_the_start_begins_with_what_is_here(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(uri: str) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("lchp.store.shared._PAUSES", ())
    monkeypatch.setattr("lchp.store.file_system.opened", away)
    study, said, lost = small.load(own, small.GRID), list[str](), read(own / "out/tiny")[1]
    shutil.rmtree(own / "out/.store" / lost.folder)
    machine = Machine(own / "cache", "cpu", shared=str(own / "shared"))
    with pytest.raises(AssertionError, match="nothing is to be trained"):
        run_study(study, own / "out", f"sqlite:///{own / 'mlflow.db'}", machine, said.append)
    assert [line for line in said if "no route to host): trials begin with what is here" in line]
    assert [line for line in said if line.startswith("tiny: 1 of 4 trials to train")]


# MLflow's pyfunc warns of its own type hints when it is imported.
@pytest.mark.filterwarnings("ignore:.*type hint")
def test_run_study_model_of_a_run_gives_its_boxes_and_classes(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{finished / 'mlflow.db'}")
    run = nested(finished)[0]
    stage = StageFolder(finished / "out/.store/trial" / run["tags"]["lchp.key"])  # type: ignore[index]
    rows = pd.read_csv(io.StringIO(stage.per_image_text())).query("method == 'lchp_r' and split == 'test'")
    (first,) = finished.glob(f"cache/**/{rows['path'].iloc[0]}")
    root = first.parents[rows["path"].iloc[0].count("/")]
    model = mlflow.pyfunc.load_model(f"runs:/{run['id']}/model")
    answer = model.predict([str(root / path) for path in rows["path"]])
    assert answer[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == rows[["x1", "y1", "x2", "y2"]].to_numpy().tolist()
    assert ((answer["label"].to_numpy() == rows["label"].to_numpy()) == (rows["top1"].to_numpy() == 1)).all()
    assert answer["class"].tolist() == [sorted(CLASSES)[label] for label in answer["label"]]
    assert list(answer.columns) == [column["name"] for column in model.metadata.signature.outputs.to_dict()]
    pixels = decode(first).permute(1, 2, 0).numpy()
    for one in (pixels, [pixels], pd.DataFrame({"image": [pixels]}), first):
        assert model.predict(one)["x1"].iloc[0] == pytest.approx(answer["x1"].iloc[0], abs=1e-3)
    with pytest.raises(ValueError, match=r"float64 \(2, 2\): is no image"):
        model.predict([np.zeros((2, 2))])
    assert (root / stage.first_image()).exists()
    capsys.readouterr()
    words = [str(run["id"]), *(str(root / path) for path in rows["path"]), "--format", "csv"]
    assert command(["predict", *words, "--tracking-uri", f"sqlite:///{finished / 'mlflow.db'}"]) == 0
    told = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert told[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == rows[["x1", "y1", "x2", "y2"]].to_numpy().tolist()
    assert set(told["class"]) <= {Path(path).parent.name for path in rows["path"]}


def test_run_study_from_python_gives_results_and_tables(own: Path) -> None:
    told: list[str] = []
    finished = lchp.run_study(
        own / "study.yaml", own / "out", tracking_uri=f"sqlite:///{own / 'mlflow.db'}", cache=own / "cache",
        device="cpu", say=told.append,
    )  # fmt: skip
    assert (finished.folder, finished.complete) == (own / "out/tiny", True)
    assert told[0] == "all 4 trials of tiny are finished: nothing to train"
    assert finished.results().equals(lchp.results("tiny", own / "out"))
    assert list(finished.results()["value"]) == list(pd.read_csv(own / "out/tiny/results.csv")["value"])
    assert len(finished.table()) == len(pd.read_csv(own / "out/tiny/table.csv"))
    assert finished._repr_markdown_() == (own / "out/tiny/table.md").read_text(encoding="utf-8")


def test_study_in_an_archive_goes_on_and_is_reproduced_on_another_machine(
    finished: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, file = own / "there", str(finished / "study.yaml")
    archived = ["study", "archive", file, str(own / "tiny.zip"), "--output", str(finished / "out")]
    assert command(archived) == 0
    assert command(["study", "import", str(own / "tiny.zip"), "--output", str(there / "out")]) == 0
    uri = f"sqlite:///{put_empty_store(there)}"
    study = load_study(there / "out/tiny/written.yaml")
    assert run_study(study, there / "out", uri, Machine(own / "cache", "cpu"), print) == 0
    for name in ("table.csv", "differences.csv"):
        assert (there / "out/tiny" / name).read_bytes() == (finished / "out/tiny" / name).read_bytes()
    run = read(there / "out/tiny")[0].run_id
    assert run not in {entry.run_id for entry in read(finished / "out/tiny")}
    words = ["--tracking-uri", uri, "--output", str(there / "out"), "--cache", str(own / "cache"), "--device", "cpu"]
    capsys.readouterr()
    assert command(["reproduce", str(run), *words]) == 0
    assert "reproduced: everything agrees" in capsys.readouterr().out
    words = ["study", "rm", "tiny", "--output", str(there / "out"), "--yes", "--runs", "delete"]
    assert command([*words, "--tracking-uri", uri]) == 0
    found = client(uri).get_experiment_by_name("tiny")
    assert client(uri).search_runs([found.experiment_id]) == []


def test_run_study_runs_of_trials_name_their_dataset(finished: Path) -> None:
    mlflow_client = client(f"sqlite:///{finished / 'mlflow.db'}")
    for run in nested(finished):
        (named,) = mlflow_client.get_run(run["id"]).inputs.dataset_inputs
        assert named.dataset.name == "synthetic"
        assert run["tags"]["lchp.dataset"].startswith(named.dataset.digest)  # type: ignore[index]
        assert json.loads(named.dataset.source)["size"] == 40


def test_draw_of_a_run_is_the_picture_of_the_trial(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = nested(finished)[0], tmp_path / "boxes.png"
    arguments = [
        str(run["id"]),
        "--output",
        str(finished / "out"),
        "--cache",
        str(finished / "cache"),
        "--to",
        str(out),
    ]
    assert command(["draw", *arguments]) == 0
    stage = StageFolder(finished / "out/.store/trial" / run["tags"]["lchp.key"])  # type: ignore[index]
    assert stage.picture is not None
    assert out.read_bytes() == stage.picture.read_bytes()
    assert command(["draw", *arguments, "--choose", "worst", "--count", "3"]) == 0
    assert out.read_bytes() != stage.picture.read_bytes()
    assert capsys.readouterr().out == f"drawn: {out}\n" * 2
    assert command(["draw", "nothing", "--output", str(finished / "out")]) == 2


def test_draw_of_an_image_shows_the_steps_of_algorithm_1(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = read(finished / "out/tiny")[0]
    image, out = next(finished.glob("cache/**/test/**/*.png")), tmp_path / "steps.png"
    assert command(["draw", "tiny", "--output", str(finished / "out"), "--image", str(image), "--to", str(out)]) == 0
    with Image.open(out) as drawn:
        assert drawn.size == (5 * 330, 352)
    store = finished / "out" / ".store"
    config = stored_config(StageFolder(store / entry.folder).config())
    weights = StageFolder(store / str(entry.initialization)).networks()["momentum"]
    network = stored_classifier(config, 8, weights)
    steps = steps_of(config, network, decode(image))
    views = evaluation_view(resized(decode(image), config.view.resize)[None], config.view)
    label = torch.zeros(1, dtype=torch.int64)
    assert steps.found.merged.equal(live_boxes(config, network, views, label).boxes)
    assert (steps.activation.min(), steps.activation.max()) == (0, 1)
    assert tightest_box(steps.activation[None] > config.delta).equal(steps.found.region)
    assert command(["draw", "tiny", "--output", str(finished / "out"), "--image", str(tmp_path / "no.png")]) == 2
