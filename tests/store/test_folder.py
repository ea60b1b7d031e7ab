from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lchp.store import checks
from lchp.store.checks import Damaged
from lchp.store.folder import RECORDS, StageFolder, StageResult

EPOCH = {"stage": "initialization", "epoch": 1, "step": 1, "metrics": {"loss": 0.5}, "seconds": 1.0, "reused": False}
RESULT = StageResult(
    config={"seed": 3, "delta": 0.7},
    environment={"commit": "abc", "versions": {"lchp": "0.1.0"}},
    history=[EPOCH, {**EPOCH, "epoch": 2, "step": 2}],
    scores={"lchp_i/test/gt_known": 1 / 3},
    per_image='path,iou\n"a, b.png",0.1\nc.png,\n',
    selection="tau,selected\n0.0,4\n",
    dataset="0" * 64,
    networks={"regressor": {"weight": torch.arange(1000.0)}},
)
FILES = (*RECORDS, "selection.csv", "networks.pt", "manifest.json")
OLD_RECORDS = [name.replace("dataset.json", "dataset.csv") for name in RECORDS]
DAMAGES = ("cut", "flipped", "empty", "removed")


@pytest.fixture
def folder(tmp_path: Path) -> StageFolder:
    """A finished stage."""
    folder = StageFolder(tmp_path / "stage")
    with folder.lock():
        folder.save_checkpoint({"epoch": 2})
        folder.finish(RESULT)
    return folder


@pytest.fixture
def old(folder: StageFolder) -> StageFolder:
    """A finished stage of before there were manifests, with a list of images of its own."""
    (folder.path / "manifest.json").unlink()
    (folder.path / "dataset.json").unlink()
    (folder.path / "dataset.csv").write_text("path,sha256\na.png,00\n", encoding="utf-8")
    return folder


def damage(file: Path, how: str) -> None:
    data = file.read_bytes()
    middle = len(data) // 2
    if how == "removed":
        file.unlink()
    else:
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        file.write_bytes({"cut": data[:middle], "flipped": flipped, "empty": b""}[how])


def test_finish_files_read_back_as_they_were_given(folder: StageFolder) -> None:
    assert folder.done
    assert folder.whole
    assert not folder.has_checkpoint
    assert (folder.config(), folder.environment()) == (RESULT.config, RESULT.environment)
    assert (folder.history(), folder.scores()) == (RESULT.history, RESULT.scores)
    assert (folder.per_image_text(), folder.selection_text()) == (RESULT.per_image, RESULT.selection)
    assert folder.per_image() == [{"path": "a, b.png", "iou": "0.1"}, {"path": "c.png", "iou": ""}]
    assert folder.selection() == [{"tau": "0.0", "selected": "4"}]
    assert folder.dataset_digest() == RESULT.dataset
    assert folder.own_list() is None
    assert torch.equal(folder.networks()["regressor"]["weight"], torch.arange(1000.0))


def test_finish_manifest_lists_every_other_file_with_its_digest(folder: StageFolder) -> None:
    manifest = json.loads((folder.path / "manifest.json").read_text(encoding="utf-8"))
    assert set(manifest) == {file.name for file in folder.path.iterdir()} - {"manifest.json", ".lock"}
    assert manifest["scores.json"]["bytes"] == (folder.path / "scores.json").stat().st_size


def test_folder_whose_manifest_lists_a_list_of_its_own_is_whole(old: StageFolder) -> None:
    names = [*OLD_RECORDS, "selection.csv", "networks.pt"]
    manifest = {name: checks.described(old.path / name) for name in names}
    (old.path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert old.fault() is None
    assert {file.name for file in old.records()} == {*OLD_RECORDS, "selection.csv"}
    assert old.own_list() == {"a.png": "00"}
    del manifest["dataset.csv"]
    (old.path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert old.fault() == "manifest.json does not list dataset.json"


def test_finish_without_selection_takes_an_old_one_away(folder: StageFolder) -> None:
    folder.finish(replace(RESULT, selection=None))
    assert folder.selection() is None
    assert folder.whole


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_fault_names_the_damaged_file(folder: StageFolder, name: str, how: str) -> None:
    assert folder.fault() is None
    damage(folder.path / name, how)
    fault = folder.fault()
    assert fault is not None
    if (name, how) != ("manifest.json", "flipped"):
        assert fault.startswith(name)
        assert not folder.whole


@pytest.mark.parametrize("how", ["cut", "empty", "removed"])
@pytest.mark.parametrize("name", [*OLD_RECORDS, "selection.csv", "networks.pt"])
def test_fault_of_an_old_folder_is_found_by_structure(old: StageFolder, name: str, how: str) -> None:
    assert old.whole
    damage(old.path / name, how)
    if (name, how) == ("selection.csv", "removed"):
        assert old.whole  # a trial without true boxes has none
    elif (name, how) == ("dataset.csv", "removed"):
        assert (old.fault() or "").startswith("dataset.json")  # what stands there since version 0.3
    else:
        assert (old.fault() or "").startswith(name)


def test_fault_of_an_old_folders_networks_is_found_by_their_checksums(old: StageFolder) -> None:
    damage(old.path / "networks.pt", "flipped")
    assert old.fault(networks=False) is None
    assert "networks.pt is not what was written (the checksum of its record" in (old.fault() or "")
    with pytest.raises(Damaged, match=r"networks\.pt is not what was written"):
        old.networks()


def test_fault_without_networks_compares_their_size_alone(folder: StageFolder) -> None:
    damage(folder.path / "networks.pt", "flipped")
    assert folder.fault(networks=False) is None
    assert folder.fault() == "networks.pt is not what was written (its SHA-256 differs)"
    damage(folder.path / "networks.pt", "cut")
    assert "networks.pt has" in (folder.fault(networks=False) or "")


def test_fault_of_a_folder_that_was_found_whole_reads_nothing_again(
    folder: StageFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folder.whole
    monkeypatch.setattr(checks, "described", lambda path: pytest.fail(f"{path} is read again"))
    assert folder.whole
    assert folder.fault(networks=False) is None


def test_fault_of_a_stage_under_way_is_none(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path / "stage")
    assert (folder.fault(), folder.done, folder.whole) == (None, False, False)
    with folder.lock():
        folder.save_checkpoint({"epoch": 1})
    assert (folder.fault(), folder.done, folder.whole) == (None, False, False)


def test_stage_whose_manifest_is_gone_is_damaged_but_for_an_old_one_and_a_copy(folder: StageFolder) -> None:
    (folder.path / "manifest.json").unlink()
    assert (folder.done, folder.fault()) == (False, "manifest.json is missing")
    (folder.path / "networks.pt").rename(folder.path.parent / "networks.pt")
    assert folder.done
    (folder.path.parent / "networks.pt").rename(folder.path / "networks.pt")
    (folder.path / "dataset.json").rename(folder.path / "dataset.csv")
    assert folder.done


def test_stage_whose_process_ended_before_its_checkpoint_was_put_away_is_not_done(folder: StageFolder) -> None:
    folder.save_checkpoint({"epoch": 2})
    for name in ("manifest.json", "scores.json"):
        assert not folder.done
        assert folder.fault() is None
        (folder.path / name).unlink()
    milestone = folder.path.parent / "milestones/2.pt"
    folder.finish(RESULT, milestone)
    assert folder.whole
    assert milestone.is_file()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("scores.json", "[]"),
        ("scores.json", '{"lchp_i/test/gt_known": "high"}'),
        ("history.json", "{}"),
        ("history.json", "[]"),
        ("history.json", '[{"stage": "initialization"}]'),
        ("config.json", "[" * 3000),
        ("environment.json", "3"),
        ("per_image.csv", 'path,iou\n"a.png\n'),
        ("per_image.csv", ""),
        ("selection.csv", "tau,selected\n0.0\n"),
        ("dataset.csv", "path,digest\na.png,0\n"),
    ],
)
def test_fault_of_an_old_folder_with_another_content_is_found(old: StageFolder, name: str, text: str) -> None:
    (old.path / name).write_text(text, encoding="utf-8")
    assert (old.fault() or "").startswith(name)


def test_read_damaged_file_is_named_with_the_remedy(folder: StageFolder) -> None:
    damage(folder.path / "history.json", "cut")
    with pytest.raises(Damaged, match=r"stage.history\.json cannot be read \(.*\): run the study again, which makes"):
        folder.history()
    (folder.path / "config.json").write_bytes(b"\xff")
    with pytest.raises(Damaged, match=r"config\.json cannot be read \(it is not UTF-8\)"):
        folder.config()


def test_set_aside_keeps_every_file_and_leaves_the_lock(folder: StageFolder) -> None:
    names = {file.name for file in folder.path.iterdir()} - {".lock"}
    with folder.lock():
        first = folder.set_aside()
        folder.finish(RESULT)
        second = folder.set_aside()
    assert (first.name, second.name) == ("stage.damaged-1", "stage.damaged-2")
    assert {file.name for file in first.iterdir()} == {file.name for file in second.iterdir()} == names
    assert [file.name for file in folder.path.iterdir()] == [".lock"]
    assert (folder.done, folder.fault()) == (False, None)


def test_records_of_an_unfinished_folder_are_refused(folder: StageFolder) -> None:
    assert [file.name for file in folder.records()] == [*RECORDS, "selection.csv"]
    (folder.path / "scores.json").unlink()
    with pytest.raises(ValueError, match=r"no finished trial, it lacks scores\.json"):
        folder.records()


def _hold(path: Path, held: multiprocessing.synchronize.Event, end: multiprocessing.synchronize.Event) -> None:
    with StageFolder(path).lock():
        held.set()
        end.wait(60)
        (path / "let go").touch()


def test_lock_waits_for_another_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, end = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held, end))
    process.start()
    assert held.wait(60)
    end.set()
    with StageFolder(tmp_path).lock():
        assert (tmp_path / "let go").exists()
    process.join(60)


def test_folder_is_looked_at_without_torch() -> None:
    code = "import sys, lchp.store.folder; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
