from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import tests.study.small as small
from lchp.study.ledger import read
from lchp.study.source import Refusal
from lchp.study.tracked import Recorder
from lchp.tracking.store import client

METHODS = {"pseudo_label", "lchp_i", "lchp_r", "whole_image", "centred_box"}
METRICS = {
    "gt_known", "top1_loc", "top5_loc", "box_acc_30", "box_acc_70", "mean_box_acc", "mean_iou", "top1_cls"
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the grid study is finished."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lchp.study.schedule.train", small.train_serially)
        assert small.run(small.load(folder, small.GRID), folder) == 0
    return folder


@pytest.fixture
def own(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished study, in which nothing is to be trained."""
    shutil.copy(finished / "mlflow.db", tmp_path / "mlflow.db")
    shutil.copytree(finished / "out", tmp_path / "out")
    shutil.copytree(finished / "cache", tmp_path / "cache")

    def train(*_: object) -> None:
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr("lchp.study.schedule.train", train)
    return tmp_path


def nested(folder: Path) -> list[dict[str, object]]:
    """The runs of the store but parents: name, status, metrics, files."""
    door = client(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = door.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = door.search_runs([experiment.experiment_id])
    return [
        {
            "name": run.info.run_name,
            "status": run.info.status,
            "metrics": run.data.metrics,
            "files": {file.path for file in door.list_artifacts(run.info.run_id)},
            "tags": run.data.tags,
        }
        for run in runs
        if "mlflow.parentRunId" in run.data.tags
    ]


def test_run_study_results_have_the_promised_columns_and_rows(finished: Path) -> None:
    frame = pd.read_csv(finished / "out/tiny/results.csv")
    assert list(frame.columns) == ["study", "run_id", "seed", "delta", "tau", "method", "split", "metric", "value"]
    assert set(frame["method"]) == METHODS
    assert set(frame["metric"]) == METRICS
    assert frame["value"].between(0, 1).all()
    assert frame.groupby(["delta", "tau"]).ngroups == frame["run_id"].nunique() == 4


def test_run_study_folder_holds_tables_and_configuration(finished: Path) -> None:
    files = {file.name for file in (finished / "out/tiny").iterdir()}
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


def test_run_study_again_trains_nothing_and_gives_the_same_files(own: Path) -> None:
    before = {file: (own / "out/tiny" / file).read_bytes() for file in ("results.csv", "table.csv", "table.tex")}
    said: list[str] = []
    assert small.run(small.load(own, small.GRID), own, said) == 0
    assert "all 4 trials of tiny are finished: nothing to train" in said
    assert {file: (own / "out/tiny" / file).read_bytes() for file in before} == before
    assert len(nested(own)) == 4


def test_run_study_lost_tracking_store_is_rebuilt_from_files(own: Path) -> None:
    before = pd.read_csv(own / "out/tiny/results.csv").drop(columns="run_id")
    (own / "mlflow.db").unlink()
    assert small.run(small.load(own, small.GRID), own) == 0
    runs = nested(own)
    assert [run["status"] for run in runs] == ["FINISHED"] * 4
    pd.testing.assert_frame_equal(pd.read_csv(own / "out/tiny/results.csv").drop(columns="run_id"), before)


def test_run_study_other_configuration_in_the_folder_is_refused_by_field(own: Path) -> None:
    with pytest.raises(
        Refusal, match=r"(?s)holds another configuration.*base\.alpha: 20\.0 -> 3\.0.*seeds: \[0\] -> \[0,1\]"
    ):
        small.run(small.load(own, small.GRID, "alpha=3", "seeds=[0, 1]"), own)


def test_run_study_other_data_in_the_folder_is_refused(own: Path) -> None:
    file = own / "out/tiny/study.json"
    plain = json.loads(file.read_text(encoding="utf-8"))
    plain["data"] = dict.fromkeys(plain["data"], "0" * 64)
    file.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(Refusal, match=r"data\.synthetic"):
        small.run(small.load(own, small.GRID), own)


def test_run_study_unusable_tracking_store_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database", encoding="utf-8")
    with pytest.raises(Refusal, match="cannot be opened"):
        small.run(small.load(tmp_path, small.GRID), tmp_path)
    assert not (tmp_path / "out/tiny").exists()


def test_run_study_paper_table_with_other_rows_is_refused(tmp_path: Path) -> None:
    text = small.GRID + "tables: [{by: [tau], paper: table3_delta, fixed: {delta: 0.5}}]\n"
    with pytest.raises(Refusal, match="table3_delta has rows by delta"):
        small.run(small.load(tmp_path, text), tmp_path)


def test_run_study_failed_trial_leaves_the_others_and_gives_one(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "out/.store", tmp_path / "out/.store")
    shutil.copytree(finished / "cache", tmp_path / "cache")

    def train(study: object, names: list[str], missing: int, recorder: Recorder) -> None:
        trial = small.trial_of(recorder, names[0])
        trial.error_file = str(tmp_path / "error.txt")
        Path(trial.error_file).write_text("Traceback ...\nFloatingPointError: the loss is nan\n", encoding="utf-8")
        recorder.on_trial_start(0, [], trial)
        recorder.on_trial_error(0, [], trial)

    monkeypatch.setattr("lchp.study.schedule.train", train)
    text = small.TINY + "vary:\n- {delta: 0.4, tau: [0.0, 0.5]}\n- {delta: 0.5, tau: 0.7}\n"
    said: list[str] = []
    assert small.run(small.load(tmp_path, text), tmp_path, said) == 1
    assert "delta=0.5 tau=0.7 seed=0: failed: FloatingPointError: the loss is nan" in said[-1]
    assert pd.read_csv(tmp_path / "out/tiny/results.csv")["run_id"].nunique() == 2
    failed = [run for run in nested(tmp_path) if run["status"] == "FAILED"]
    assert [run["name"] for run in failed] == ["delta=0.5 tau=0.7 seed=0"]
    assert "Traceback" in failed[0]["tags"]["lchp.error"]  # type: ignore[index]
    assert [entry.state for entry in read(tmp_path / "out/tiny")] == ["finished", "finished", "failed"]


def test_run_study_interrupted_marks_what_was_running(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "cache", tmp_path / "cache")

    def train(study: object, names: list[str], missing: int, recorder: Recorder) -> None:
        recorder.on_trial_start(0, [], small.trial_of(recorder, names[0]))
        raise KeyboardInterrupt

    monkeypatch.setattr("lchp.study.schedule.train", train)
    with pytest.raises(KeyboardInterrupt):
        small.run(small.load(tmp_path, small.GRID), tmp_path)
    assert [entry.state for entry in read(tmp_path / "out/tiny")] == ["stopped", "waiting", "waiting", "waiting"]
    assert [run["status"] for run in nested(tmp_path)] == ["FAILED"]


def test_run_study_that_another_process_runs_is_refused(own: Path) -> None:
    with (own / "out/tiny/.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Refusal, match="another process is running this study"):
            small.run(small.load(own, small.GRID), own)


def test_run_study_weights_of_another_sha256_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"something")
    weights = f"{{file: {tmp_path / 'weights.pth'}, sha256: {'a' * 64}}}"
    with pytest.raises(Refusal, match=r"hashes to .*, not to weights\.classifier\.sha256 a+"):
        small.run(small.load(tmp_path, small.TINY, f"weights.classifier={weights}"), tmp_path)
