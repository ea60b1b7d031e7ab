"""Things made once: whole or absent, by one process while others wait."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lchp.data.once import build_once


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
