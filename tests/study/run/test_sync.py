"""Studies whose tracking store is away in the middle: training goes on, and in the end the store holds the same."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from mlflow.tracking import MlflowClient
from PIL import Image

import tests.study.small as small
from lchp.cli import run
from lchp.errors import Refusal
from lchp.study.run.cards import Cards
from lchp.study.run.ledger import read
from lchp.study.run.ownership import alone
from lchp.study.run.recorder import Recorder
from lchp.study.run.sync import sync_study
from lchp.study.spec.load import Study
from lchp.study.spec.trials import ResolvedTrial
from lchp.tracking.store import client
from tests.tracking.empty import put_empty_store

TEXT = small.TINY + "vary: {tau: [0.0, 0.5]}\nreferences: [supervised]\n"
CALLS = ("create_run", "search_runs", "get_run", "log_batch", "update_run", "set_tag", "log_artifact", "set_terminated")
OF_A_MACHINE = ("mlflow.user", "mlflow.source.name", "mlflow.parentRunId", "mlflow.source.git.commit", "lchp.study")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that nothing disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    put_empty_store(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
        assert small.run(small.load(folder, TEXT), folder) == 0
    return folder


@pytest.fixture
def disturbed(calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a study that is disturbed."""
    put_empty_store(tmp_path)
    shutil.copytree(calm / "cache", tmp_path / "cache")
    monkeypatch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
    monkeypatch.setattr("lchp.study.run.writer._FIRST_PAUSE", 0.01)
    monkeypatch.setattr("lchp.study.run.recorder._EPOCH_SECONDS", 0.0)
    return tmp_path


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], bool]]:
    """Say of each of MLflow's calls whether it fails; half of them do so after they have done what they were to do."""
    asked: list[Callable[[], bool]] = []
    after = count()

    def failing(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if not any(fails() for fails in asked):
                return call(*arguments, **options)
            if next(after) % 2:
                call(*arguments, **options)
            raise MlflowException("the disk of the server is full", TEMPORARILY_UNAVAILABLE)

        return wrapped

    for name in CALLS:
        monkeypatch.setattr(MlflowClient, name, failing(getattr(MlflowClient, name)))
    return asked


def everything(folder: Path) -> dict[str, dict[str, Any]]:
    """All that a study's store says of its runs, by name; of what is measured in seconds, that it was measured."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    store = client(uri)
    experiment = store.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = store.search_runs([experiment.experiment_id])
    names = {run.info.run_id: run.info.run_name for run in runs}
    assert len(set(names.values())) == len(runs), "one run a trial"
    found = {}
    for one in runs:
        place = Path(unquote(urlsplit(one.info.artifact_uri).path))
        histories = {
            name: [(point.step, point.value) for point in store.get_metric_history(one.info.run_id, name)]
            for name in one.data.metrics
        }
        found[str(one.info.run_name)] = {
            "status": one.info.status,
            "params": one.data.params,
            "tags": {
                # The key of a study's own run is no other folder's.
                name: "study" if value.startswith("study-") else names.get(value, value)
                for name, value in one.data.tags.items()
                if name not in OF_A_MACHINE
            },
            "below": names.get(one.data.tags.get("mlflow.parentRunId", "")),
            "metrics": {
                name: [step for step, _ in points] if name.startswith(("seconds", "waiting_share", "cost/")) else points
                for name, points in histories.items()
            },
            "files": {
                file.relative_to(place).as_posix(): _content(file, names) for file in place.rglob("*") if file.is_file()
            },
        }
    return found


def _content(file: Path, names: dict[str, str | None]) -> object:
    if file.name == "history.json":
        return [
            {**epoch, "seconds": None, "waiting_share": None} for epoch in json.loads(file.read_text(encoding="utf-8"))
        ]
    if file.name == "report.json":
        plain = json.loads(file.read_text(encoding="utf-8"))
        return {**plain, "trials": [{**one, "run_id": names.get(one["run_id"])} for one in plain["trials"]]}
    if file.name == "results.csv":
        frame = pd.read_csv(file)
        return frame.assign(run_id=frame["run_id"].map(names)).to_csv()
    return None if file.name == "report.html" else file.read_bytes()


def away(first: int, last: float, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Whether the store is away: from the epoch of that number on, over all trials, when the trial's run is there,
    until the last, at which it has been noticed.
    """
    epochs = 0
    record = Recorder.epochs

    def counted(recorder: Recorder, trial: ResolvedTrial, *arguments: Any) -> None:
        nonlocal epochs
        record(recorder, trial, *arguments)
        while epochs + 1 == first and Path(recorder.entry(trial).folder).name not in recorder.writer.run_ids:
            time.sleep(0.01)
        while epochs + 1 == last and not any(line.startswith("tracking store") for line in said):
            time.sleep(0.01)
        epochs += 1

    monkeypatch.setattr(Recorder, "epochs", counted)
    return lambda: first <= epochs < last


def test_run_study_whose_store_is_away_in_the_middle_ends_with_the_same_runs(
    calm: Path, disturbed: Path, faults: list[Callable[[], bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    faults.append(away(3, 7, said, monkeypatch))
    assert small.run(small.load(disturbed, TEXT), disturbed, said) == 0
    told = [line for line in said if line.startswith("tracking store")]
    assert len(told) == 2
    assert "cannot be written (the disk of the server is full): training goes on" in told[0]
    assert told[1].endswith("is back: what was kept is being written")
    assert everything(disturbed) == everything(calm)


def test_run_study_every_third_call_of_whose_store_fails_ends_with_the_same_runs(
    calm: Path, disturbed: Path, faults: list[Callable[[], bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count(1)
    faults.append(lambda: next(calls) % 3 == 0)
    code = small.run(small.load(disturbed, TEXT), disturbed)
    faults.clear()
    if code:
        assert sync_study(disturbed / "out/tiny", f"sqlite:///{disturbed / 'mlflow.db'}", print) == 0
    assert next(calls) > 15
    assert everything(disturbed) == everything(calm)


@pytest.mark.parametrize("mended_by", ["sync", "run"])
def test_run_study_whose_store_stays_away_says_how_to_mend_it_and_that_does(
    calm: Path, disturbed: Path, faults: list[Callable[[], bool]], monkeypatch: pytest.MonkeyPatch, mended_by: str
) -> None:
    study, uri, said = small.load(disturbed, TEXT), f"sqlite:///{disturbed / 'mlflow.db'}", list[str]()
    faults.append(away(3, float("inf"), said, monkeypatch))
    assert small.run(study, disturbed, said) == 1
    folder = disturbed / "out/tiny"
    assert said[-1].endswith(f"`lchp study sync {folder} --tracking-uri {uri}` writes it, and so does the same command")
    assert said[-1].startswith("5 runs are not written: tracking store ")
    assert [entry.state for entry in read(folder)] == ["finished"] * 2
    before = pd.read_csv(folder / "results.csv")
    assert set(before["run_id"]) == {entry.run_id or Path(entry.folder).name for entry in read(folder)}
    assert [entry.run_id is None for entry in read(folder)] == [False, True]
    faults.clear()
    if mended_by == "sync":
        lines: list[str] = []
        assert sync_study(folder, uri, lines.append) == 0
        assert lines == [f"all 5 runs of tiny are in tracking store '{uri}'"]
        after = pd.read_csv(folder / "results.csv")
        assert set(after["run_id"]) == {entry.run_id for entry in read(folder)}
        assert after.drop(columns="run_id").equals(before.drop(columns="run_id"))
    else:
        assert small.run(study, disturbed) == 0
    assert everything(disturbed) == everything(calm)


def test_sync_of_a_study_whose_process_was_killed_says_so_of_what_ran(
    calm: Path, disturbed: Path, faults: list[Callable[[], bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(study: Study, trials: Sequence[ResolvedTrial], recorder: Recorder) -> None:
        faults.append(lambda: True)
        recorder.start(trials[0])
        reports = [{"step": 1, "metrics": {"train/initialization/loss": 0.5}, "seconds": 1.0, "reused": False}]
        recorder._cards.write(recorder._card_of(trials[0]).with_epochs(reports))
        # As a kill leaves it: nothing is written any more.
        monkeypatch.setattr(Recorder, "end", lambda *_: None)
        raise RuntimeError("SIGKILL")

    monkeypatch.setattr("lchp.study.run.ray_tune.train", train)
    with pytest.raises(RuntimeError, match="SIGKILL"):
        small.run(small.load(disturbed, TEXT), disturbed)
    faults.clear()
    assert sync_study(disturbed / "out/tiny", f"sqlite:///{disturbed / 'mlflow.db'}", print) == 0
    runs = everything(disturbed)
    names = {"tiny", "initialization seed=0", "tau=0.0 seed=0"}
    assert {name: one["status"] for name, one in runs.items()} == dict.fromkeys(names, "FAILED")
    assert {one["tags"]["lchp.error"] for one in runs.values()} == {
        "its process is gone: the same command continues it"
    }
    assert runs["tau=0.0 seed=0"]["metrics"]["train/initialization/loss"] == [(1, 0.5)]


def test_sync_where_nothing_was_run_is_refused_with_remedy(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="holds no run of the study: start it with `lchp study run`"):
        sync_study(tmp_path, None, print)
    (tmp_path / "trials.json").write_text("[]", encoding="utf-8")
    with pytest.raises(Refusal, match="holds no record of its runs"):
        sync_study(tmp_path, None, print)


def test_sync_of_a_study_that_is_running_is_refused(calm: Path) -> None:
    folder = calm / "out/tiny"
    with alone(folder), pytest.raises(Refusal, match="another process is running this study"):
        sync_study(folder, f"sqlite:///{calm / 'mlflow.db'}", print)


def test_study_sync_takes_a_file_or_a_folder(calm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(calm)
    for named in ([str(calm / "study.yaml"), "--output", str(calm / "out")], [str(calm / "out/tiny")]):
        assert run(["study", "sync", *named, "--tracking-uri", f"sqlite:///{calm / 'mlflow.db'}"]) == 0
        assert "all 5 runs of tiny are in tracking store" in capsys.readouterr().out
    assert everything(calm) == before


def test_run_study_damaged_card_is_told_and_written_again(calm: Path, disturbed: Path) -> None:
    shutil.copytree(calm / "out", disturbed / "out")
    shutil.copy(calm / "mlflow.db", disturbed / "mlflow.db")
    folder = disturbed / "out/tiny"
    key = Path(read(folder)[0].folder).name
    file = Cards(folder).folder / f"{key}.json"
    before = json.loads(file.read_text(encoding="utf-8"))
    file.write_text("{", encoding="utf-8")
    said: list[str] = []
    assert small.run(small.load(disturbed, TEXT), disturbed, said) == 0
    assert next(line for line in said if file.name in line).endswith(f"set aside as {file.name}.damaged-1")
    after = json.loads(file.read_text(encoding="utf-8"))
    assert {name: after[name] for name in ("name", "params", "tags", "state")} == {
        name: before[name] for name in ("name", "params", "tags", "state")
    }


def test_report_from_a_tracking_store_alone_is_the_studys_own(
    calm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{calm / 'mlflow.db'}"
    assert run(["report", "tiny", "--tracking-uri", uri, "--output", str(tmp_path)]) == 0
    own, fetched = calm / "out" / "tiny", tmp_path / "tiny"
    for name in ("results.csv", "table.csv", "table.md", "differences.csv", "report.json", "training.png", "ious.png"):
        assert (own / name).read_bytes() == (fetched / name).read_bytes(), name
    assert run(["report", "nothing", "--tracking-uri", uri, "--output", str(tmp_path)]) == 2
    assert "holds no study 'nothing': choose one of " in capsys.readouterr().err
    assert run(["report", "tiny", "--tracking-uri", uri, "--output", str(calm / "out")]) == 2
    assert "the study was run there" in capsys.readouterr().err


def test_compare_from_a_tracking_store_alone_is_that_of_the_folders_with_a_picture(
    calm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, output = f"sqlite:///{calm / 'mlflow.db'}", calm / "out"
    runs = [str(entry.run_id) for entry in read(output / "tiny")][:2]
    monkeypatch.chdir(tmp_path)
    found = []
    for names, where in (
        (runs, ["--output", str(output)]),
        (
            runs,
            ["--output", "nothing", "--tracking-uri", uri, "--picture", "moved.png", "--cache", str(calm / "cache")],
        ),
    ):
        assert run(["compare", *names, *where, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    assert found[0]["differences"]
    with Image.open(tmp_path / "moved.png") as picture:
        assert picture.width > 1000
    told = []
    for where in (["--output", str(output)], ["--tracking-uri", uri]):
        assert run(["compare", "tiny", runs[0], *where]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert run(["compare", "tiny", "0" * 32, "--tracking-uri", uri]) == 2
    assert f"there is no run '{'0' * 32}' in " in capsys.readouterr().err
