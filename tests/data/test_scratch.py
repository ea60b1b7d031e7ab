from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lchp.data.scratch import scratch_folder, sweep_scratch

HOLDER = """
import subprocess, sys
from pathlib import Path
from lchp.data.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)", str(folder)])
    print(child.pid, folder, flush=True)
    input()
"""


def made(folder: Path, mode: int = 0o700) -> Path:
    folder.mkdir()
    folder.chmod(mode)
    return folder


def test_sweep_removes_what_a_kill_at_any_moment_leaves(tmp_path: Path) -> None:
    made(tmp_path / "lchp-made_000")
    (made(tmp_path / "lchp-locked_0") / ".lchp-scratch").touch()
    filled = made(tmp_path / "lchp-filled_0")
    (filled / ".lchp-scratch").touch()
    (filled / "session").mkdir()
    (filled / "session/model.pt").touch()
    (filled / "latest").symlink_to(filled / "session")
    sweep_scratch(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_sweep_touches_nobody_elses(tmp_path: Path) -> None:
    made(tmp_path / "lchp-mine", 0o700)  # no name of ours
    made(tmp_path / "lchp-readable", 0o755)
    made(tmp_path / "lchp-results_", 0o755)
    (made(tmp_path / "lchp-results0") / "table.csv").touch()
    (tmp_path / "lchp-a_file00").touch()
    made(tmp_path / "lchp-12345678")  # a home folder
    before = set(tmp_path.iterdir())
    sweep_scratch(tmp_path)
    assert set(tmp_path.iterdir()) == before


def test_scratch_folder_that_is_swept_before_it_is_held_gives_way_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(prefix: str, dir: Path) -> str:
        swept.append(mkdtemp(prefix=prefix, dir=dir))
        if len(swept) == 1:
            sweep_scratch(dir)
        return swept[-1]

    mkdtemp, swept = tempfile.mkdtemp, list[str]()
    monkeypatch.setattr(tempfile, "mkdtemp", made)
    with scratch_folder(tmp_path) as folder:
        assert [Path(one).exists() for one in swept] == [False, True]
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").touch()
        sweep_scratch(tmp_path)
        assert (folder / "file").exists()
    assert list(tmp_path.iterdir()) == []


def test_scratch_folder_keeps_its_lock_over_what_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scratch_folder(tmp_path) as folder:
        (folder / "busy").mkdir()
        monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    assert {one.name for one in folder.iterdir()} == {"busy", ".lchp-scratch"}
    monkeypatch.undo()
    sweep_scratch(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_scratch_folder_goes_with_its_block(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert len(folder.name) == len("lchp-12345678")
        (folder / "session").mkdir()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_scratch_folder_of_a_killed_process_goes_at_the_next_start_and_a_living_ones_stays(tmp_path: Path) -> None:
    other = tmp_path / "lchp-study"
    other.mkdir()
    (other / ".lock").touch()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        child, _, left = holder.stdout.readline().strip().partition(" ")
        with scratch_folder(tmp_path):
            assert Path(left).is_dir()
            os.kill(int(child), 0)
        holder.kill()
        assert holder.wait() == -signal.SIGKILL
        with scratch_folder(tmp_path) as folder:
            assert set(tmp_path.iterdir()) == {folder, other}
        assert holder.stdout.read() == "", "the child, which could write there, has ended"
