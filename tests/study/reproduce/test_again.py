from __future__ import annotations

import csv
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tests.study.small as small
from lchp.data.config import SyntheticDataset
from lchp.data.locks import machine
from lchp.data.scratch import LOCK, scratch_folder
from lchp.data.synthetic import draw_dataset
from lchp.errors import Refusal
from lchp.study.reproduce.again import _is_exact, _log, _other_environment, reproduce
from lchp.study.reproduce.compare import Comparison
from lchp.study.run.options import Machine
from lchp.study.spec.moved import moved_paths
from lchp.tracking.runs import find_run
from lchp.tracking.store import client, ensure_experiment
from lchp.tracking.stored import read_run
from lchp.training.initialization import make_networks
from tests.tracking.empty import put_empty_store
from tests.training.added import added_field
from tests.training.tiny import tiny

OWN = small.TINY.replace(
    "dataset: {kind: synthetic, train_per_class: 6, test_per_class: 2, size: 40}", "dataset: {kind: table}"
)


@dataclass(frozen=True)
class Stored:
    """A finished run of a study on a folder of images."""

    folder: Path
    run_id: str

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        return Path(client(self.uri).get_run(self.run_id).info.artifact_uri.removeprefix("file://"))

    def again(self, data: Path | None = None, run_id: str | None = None, *sets: str) -> tuple[int, str]:
        said: list[str] = []
        machine = Machine(self.folder / "cache", "cpu")
        moved = moved_paths(sets, data)
        code = reproduce(run_id or self.run_id, self.uri, moved, self.folder / "out", machine, said.append)
        return code, "\n".join(said)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    folder = tmp_path_factory.mktemp("reproduce")
    put_empty_store(folder)
    draw_dataset(SyntheticDataset(train_per_class=6, test_per_class=2, size=40), folder / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
        torch.save(make_networks(small.load(folder, OWN).base, 8).classifier.trunk.state_dict(), folder / "weights.pth")
        study = small.load(
            folder,
            OWN,
            f"dataset.path={folder / 'images' / 'dataset.csv'}",
            f"weights.classifier={{file: {folder / 'weights.pth'}}}",
        )
        assert small.run(study, folder) == 0
    with (folder / "out/tiny/results.csv").open(encoding="utf-8", newline="") as file:
        return Stored(folder, next(csv.DictReader(file))["run_id"])


def test_reproduce_of_an_untouched_run_agrees_and_is_linked(stored: Stored) -> None:
    killed = stored.folder / "out/.reproduce-killed_0"
    (killed / "trial").mkdir(parents=True)
    (killed / LOCK).write_text(machine(), encoding="utf-8")
    with added_field():  # a later version's
        code, said = stored.again()
    assert code == 0
    assert "compared: exactly" in said
    assert "reproduced: everything agrees" in said
    assert "DIFFERS" not in said
    mlflow_client = client(stored.uri)
    experiment = mlflow_client.get_experiment_by_name("tiny")
    assert experiment is not None
    found = mlflow_client.search_runs([experiment.experiment_id], f"tags.`lchp.reproduces` = '{stored.run_id}'")
    assert found[0].info.status == "FINISHED"
    assert found[0].data.tags["lchp.agrees"] == "true"
    assert found[0].data.tags["mlflow.parentRunId"] == stored.run_id
    assert "comparison.csv" in {file.path for file in mlflow_client.list_artifacts(found[0].info.run_id)}
    assert not list((stored.folder / "out").glob(".reproduce-*"))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("per_image.csv", None, None, "box "),
        ("scores.json", '"lchp_r/test/gt_known": ', '"lchp_r/test/gt_known": 0.0123, "was": ', "lchp_r/test/gt_known"),
    ],
)
def test_reproduce_with_a_planted_artifact_fails(
    stored: Stored, file: str, old: str | None, new: str | None, message: str
) -> None:
    path = stored.artifacts / file
    text = path.read_text(encoding="utf-8")
    try:
        if old is None or new is None:
            lines = text.splitlines()
            cells = lines[5].split(",")
            cells[4] = repr(float(cells[4]) + 1e-9)
            planted = "\n".join([*lines[:5], ",".join(cells), *lines[6:]]) + "\n"
        else:
            planted = text.replace(old, new)
        assert planted != text
        path.write_text(planted, encoding="utf-8")
        code, said = stored.again()
    finally:
        path.write_text(text, encoding="utf-8")
    assert code == 1
    assert "DIFFERS" in said
    assert message in said
    assert said.endswith("NOT reproduced")


def test_reproduce_with_a_planted_metric_fails(stored: Stored) -> None:
    with closing(sqlite3.connect(stored.folder / "mlflow.db")) as database, database:
        where = "where key = 'lchp_r/test/mean_iou' and run_uuid = ?"
        before = database.execute(f"select value from latest_metrics {where}", [stored.run_id]).fetchone()[0]
        database.execute(f"update latest_metrics set value = value + 0.001 {where}", [stored.run_id])
    try:
        code, said = stored.again()
    finally:
        with closing(sqlite3.connect(stored.folder / "mlflow.db")) as database, database:
            database.execute(f"update latest_metrics set value = ? {where}", [before, stored.run_id])
    assert code == 1
    assert next(line for line in said.splitlines() if "DIFFERS" in line).startswith("lchp_r/test/mean_iou")


def test_reproduce_with_a_changed_image_names_it_while_the_list_is_there_and_does_not_train(
    stored: Stored, tmp_path: Path
) -> None:
    shutil.copytree(stored.folder / "images", tmp_path / "images")
    image = sorted((tmp_path / "images").rglob("*.png"))[3]
    pixels = np.array(Image.open(image))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(image)
    code, said = stored.again(tmp_path / "images" / "dataset.csv")
    assert code == 1
    assert f"dataset: {image.relative_to(tmp_path / 'images').as_posix()}: changed" in said
    assert "not trained again" in said
    assert "refinement 1" not in said
    parent = client(stored.uri).get_run(stored.run_id).data.tags["mlflow.parentRunId"]
    lists = stored.artifacts.parents[1] / parent / "artifacts/datasets"
    (kept,) = lists.iterdir()
    kept.rename(tmp_path / kept.name)
    try:
        code, said = stored.again(tmp_path / "images" / "dataset.csv")
    finally:
        (tmp_path / kept.name).rename(kept)
    assert code == 1
    assert f"dataset: images changed (sha256 {kept.stem} -> " in said
    assert "their list is gone" in said
    assert not (stored.artifacts / "dataset.csv").exists()


def test_reproduce_a_run_with_a_list_of_its_own_names_the_changed_image(stored: Stored) -> None:
    digest, own, path = stored.artifacts / "dataset.json", stored.artifacts / "dataset.csv", "pictures/0_train_0.png"
    text = digest.read_text(encoding="utf-8")
    try:
        digest.unlink()
        own.write_text(f"path,sha256\n{path},00\n", encoding="utf-8")
        code, said = stored.again()
    finally:
        own.unlink()
        digest.write_text(text, encoding="utf-8")
    assert code == 1
    assert f"dataset: {path}: missing" in said


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt("SIGTERM")])
def test_reproduce_that_ends_while_it_is_logged_leaves_a_failed_run(
    stored: Stored, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def ends(*_: object) -> None:
        raise error

    monkeypatch.setattr("lchp.study.reproduce.again.log_result", ends)
    run = read_run(stored.uri, stored.run_id, stored.folder / f"read-{type(error).__name__}")
    with pytest.raises(type(error)):
        _log(stored.uri, run, tiny(), type(error).__name__, (run.folder, Comparison(True, (), (), ())), [])
    experiment = ensure_experiment(stored.uri, run.experiment)
    found = client(stored.uri).search_runs([experiment], f"tags.`lchp.reproduces` = '{stored.run_id}'")
    newest = max(found, key=lambda run: run.info.start_time)
    assert newest.info.status == "FAILED"
    assert newest.data.tags["lchp.error"] == f"{type(error).__name__}: {error}"


@pytest.fixture
def begun(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The run that a repetition in `.reproduce-killed_1`, whose folder is not there, was writing when it was killed."""

    def killed(*_: object) -> None:
        raise _Killed

    class _Killed(Exception):
        pass

    run = read_run(stored.uri, stored.run_id, tmp_path / "read")
    with monkeypatch.context() as patch:
        patch.setattr("lchp.study.reproduce.again.log_result", killed)
        patch.setattr("lchp.study.reproduce.again.fail_run", killed)
        with pytest.raises(_Killed):
            _log(stored.uri, run, tiny(), ".reproduce-killed_1", (run.folder, Comparison(True, (), (), ())), [])
    experiment = ensure_experiment(stored.uri, run.experiment)
    begun = find_run(stored.uri, experiment, f"reproduce-{stored.run_id}-killed_1")
    assert begun is not None
    client(stored.uri).update_run(begun, status="RUNNING")  # also where another test has ended it
    return begun


def left(stored: Stored) -> Path:
    folder = stored.folder / "out/.reproduce-killed_1"
    folder.mkdir()
    (folder / LOCK).write_text(machine(), encoding="utf-8")
    return folder


def test_reproduce_of_any_run_marks_the_run_that_a_killed_repetition_was_writing(stored: Stored, begun: str) -> None:
    folder = left(stored)
    with pytest.raises(Refusal):
        stored.again(run_id="0" * 32)
    ended = client(stored.uri).get_run(begun)
    assert ended.info.status == "FAILED"
    assert "killed" in ended.data.tags["lchp.error"]
    assert not folder.exists()


def test_reproduce_without_its_store_leaves_what_says_which_run_a_killed_one_was_writing(stored: Stored) -> None:
    folder = left(stored)
    with pytest.raises(Refusal):
        reproduce(
            "0" * 32, "sqlite:///:memory:", moved_paths((), None), folder.parent, Machine(folder.parent, "cpu"), print
        )
    assert folder.exists()
    shutil.rmtree(folder)


@pytest.mark.parametrize(("hours", "status"), [(1.0, "RUNNING"), (25.0, "FAILED")])
def test_reproduce_marks_an_old_run_whose_repetition_has_no_folder_here(
    stored: Stored, begun: str, monkeypatch: pytest.MonkeyPatch, hours: float, status: str
) -> None:
    began = client(stored.uri).get_run(begun).info.start_time / 1000
    monkeypatch.setattr("lchp.study.reproduce.again.time.time", lambda: began + hours * 3600)
    with pytest.raises(Refusal):
        stored.again(run_id="0" * 32)
    assert client(stored.uri).get_run(begun).info.status == status


def test_reproduce_marks_no_run_that_is_being_written(stored: Stored, begun: str) -> None:
    with scratch_folder(stored.folder / "out", ".reproduce-") as folder:
        key = f"reproduce-{stored.run_id}-{folder.name[-8:]}"
        client(stored.uri).set_tag(begun, "lchp.key", key)
        with pytest.raises(Refusal):
            stored.again(run_id="0" * 32)
    assert client(stored.uri).get_run(begun).info.status == "RUNNING"


def test_reproduce_elsewhere_with_the_same_images_agrees(stored: Stored, tmp_path: Path) -> None:
    shutil.copytree(stored.folder / "images", tmp_path / "moved")
    assert stored.again(tmp_path / "moved" / "dataset.csv")[0] == 0


def test_reproduce_with_a_changed_parameter_names_it(stored: Stored) -> None:
    statement = "update params set value = ? where key = 'tau' and run_uuid = ?"
    with closing(sqlite3.connect(stored.folder / "mlflow.db")) as database, database:
        database.execute(statement, ["0.123", stored.run_id])
    try:
        code, said = stored.again()
    finally:
        with closing(sqlite3.connect(stored.folder / "mlflow.db")) as database, database:
            database.execute(statement, ["0.9", stored.run_id])
    assert code == 1
    assert "config: tau: MLflow's parameter says 0.123, config.json says 0.9" in said


def test_reproduce_reports_other_versions(stored: Stored) -> None:
    path = stored.artifacts / "environment.json"
    text = path.read_text(encoding="utf-8")
    try:
        path.write_text(text.replace('"pandas": "', '"pandas": "0.'), encoding="utf-8")
        code, said = stored.again()
    finally:
        path.write_text(text, encoding="utf-8")
    assert code == 0
    assert "environment: versions.pandas: 0." in said


@pytest.mark.parametrize("run_id", ["0" * 32, "nonsense"])
def test_reproduce_of_an_unknown_run_is_refused(stored: Stored, run_id: str) -> None:
    with pytest.raises(Refusal, match="there is no run"):
        stored.again(run_id=run_id)


def test_reproduce_without_the_data_is_refused(stored: Stored, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"--data .*: does not exist: give the table data with --data PATH"):
        stored.again(tmp_path / "gone.csv")


def test_reproduce_weights_that_moved_are_found_by_option_and_changed_ones_named(
    stored: Stored, tmp_path: Path
) -> None:
    weights, moved = stored.folder / "weights.pth", tmp_path / "moved.pth"
    weights.rename(moved)
    option = f"weights.classifier.file={moved}"
    try:
        with pytest.raises(Refusal, match=r"does not exist: give it with --set weights\.classifier\.file=PATH"):
            stored.again()
        assert stored.again(None, None, option)[0] == 0
        kept = moved.read_bytes()
        torch.save({name: value + 1 for name, value in torch.load(moved, weights_only=True).items()}, moved)
        code, said = stored.again(None, None, option)
        moved.write_bytes(kept)
    finally:
        moved.rename(weights)
    assert code == 1
    assert f"weights: classifier: {moved}: changed: sha256" in said
    assert "not trained again" in said


@pytest.mark.parametrize(
    ("option", "message"),
    [("tau=0.1", r"--set tau=0\.1: .*only dataset\.path"), ("weights.regressor.file=x", "the run took no file there")],
)
def test_reproduce_option_for_anything_but_a_path_is_refused(stored: Stored, option: str, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        stored.again(None, None, option)


PROCESSOR = {"family": "25", "model": "1", "torch": "AVX2"}


@pytest.mark.parametrize(
    ("there", "exact"),
    [
        ({"device": "cpu", "cpu": "AMD EPYC", "processor": PROCESSOR}, True),
        ({"device": "cpu", "cpu": "AMD EPYC", "processor": {**PROCESSOR, "torch": "AVX512"}}, False),
        ({"device": "cpu", "cpu": "AMD EPYC", "processor": {**PROCESSOR, "ONEDNN_MAX_CPU_ISA": "SSE41"}}, False),
        ({"device": "cpu", "cpu": "AMD EPYC"}, False),
    ],
)
def test_equal_bits_are_promised_on_the_same_processor_alone(there: dict[str, object], exact: bool) -> None:
    here = {"device": "cpu", "cpu": "AMD EPYC", "processor": PROCESSOR}
    assert _is_exact(tiny(), there, here) == exact
    told = "\n".join(_other_environment(there, here))
    assert ("processor" in told) == (not exact)
