"""Things made once: whole or absent, by one process while others wait."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lchp.data.once import build_once, remedy


def test_build_once_builds_a_file_a_single_time(tmp_path: Path) -> None:
    built = []

    def build(part: Path) -> None:
        built.append(part)
        part.write_text("whole")

    for _ in range(2):
        assert build_once(tmp_path / "deep/er/thing", build).read_text() == "whole"
    assert len(built) == 1


def test_build_once_failure_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    def fail(part: Path) -> None:
        part.mkdir()
        (part / "half").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        build_once(tmp_path / "thing", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".thing.lock"]
    assert build_once(tmp_path / "thing", Path.mkdir).is_dir()


def test_build_once_remains_of_a_killed_builder_are_thrown_away(tmp_path: Path) -> None:
    (tmp_path / ".thing.part").mkdir()
    (tmp_path / ".thing.part/old").write_text("half")
    assert list(build_once(tmp_path / "thing", Path.mkdir).iterdir()) == []


def test_build_once_damaged_target_is_made_again_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def build(part: Path) -> None:
        part.write_text("whole")

    def fault(target: Path) -> str | None:
        return None if target.read_text() == "whole" else "half"

    (tmp_path / "thing").write_text("ha")
    for _ in range(2):
        assert build_once(tmp_path / "thing", build, fault).read_text() == "whole"
    assert capsys.readouterr().err == f"{tmp_path / 'thing'} is damaged (half): it is made again\n"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_build_once_on_a_full_disk_is_refused_and_leaves_nothing(code: int, tmp_path: Path) -> None:
    def fill(part: Path) -> None:
        part.write_text("half")
        raise OSError(code, os.strerror(code))

    with pytest.raises(ValueError, match=rf"the disk of the cache folder {tmp_path} is full: make room, or .*--cache"):
        build_once(tmp_path / "thing", fill)
    assert [path.name for path in tmp_path.iterdir()] == [".thing.lock"]


def test_build_once_in_a_cache_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(
        ValueError, match=r"the cache folder .*cache/resized cannot be written to .*: give another with"
    ):
        build_once(tmp_path / "cache/resized/thing", Path.mkdir)


def test_build_once_what_is_there_already_needs_no_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "thing").write_text("whole")
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("a read-only cache cannot be locked"))
    assert build_once(tmp_path / "thing", Path.mkdir, lambda _: None) == tmp_path / "thing"


def test_remedy_of_a_file_that_the_cache_holds_is_to_delete_its_folder_there(tmp_path: Path) -> None:
    def build(part: Path) -> None:
        (part / "images").mkdir(parents=True)
        (part / "images/a.jpg").touch()

    missing = build_once(tmp_path / "set", build) / "images/a.jpg"
    missing.unlink()
    assert remedy(missing) == f"delete the folder {tmp_path / 'set'}, which is then made again"
    shutil.rmtree(tmp_path / "set")
    assert (build_once(tmp_path / "set", build) / "images/a.jpg").exists()
    assert remedy(tmp_path / "images/a.jpg") == "put it back or remove it from the dataset"


RACER = """
import sys, time
from pathlib import Path
from lchp.data.once import build_once
folder = Path(sys.argv[1])
def build(part):
    with (folder / "builders").open("a") as log:
        log.write("built\\n")
    part.write_text("half")
    time.sleep(0.3)
    part.write_text("whole")
(folder / f"ready-{sys.argv[2]}").touch()
while not (folder / "go").exists():
    time.sleep(0.01)
print(build_once(folder / "thing", build).read_text())
"""


def test_build_once_racing_processes_build_once_and_see_it_whole(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, str(tmp_path), str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(3)
    ]
    while len(list(tmp_path.glob("ready-*"))) < 3:
        assert all(racer.poll() is None for racer in racers)
    (tmp_path / "go").touch()
    assert [racer.communicate(timeout=60)[0] for racer in racers] == ["whole\n"] * 3
    assert (tmp_path / "builders").read_text() == "built\n"
