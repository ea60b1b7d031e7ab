from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from lchp.data.locks import machine
from lchp.data.scratch import LOCK, is_left, scratch_folder, sweep_scratch

HOUR, DAY = 3600.0, 86400.0

HOLDER = """
import subprocess, sys
from pathlib import Path
from lchp.data.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)", str(folder)])
    print(child.pid, folder, flush=True)
    input()
"""


def made(folder: Path, mode: int = 0o700, age: float = 0) -> Path:
    folder.mkdir()
    folder.chmod(mode)
    aged(folder, age)
    return folder


def aged(folder: Path, seconds: float) -> None:
    """Let everything there have been written so long ago."""
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time.time() - seconds,) * 2, follow_symlinks=False)


def locked(folder: Path, machine: str) -> Path:
    """What a killed process of a machine left."""
    (made(folder) / LOCK).write_text(machine, encoding="utf-8")
    (folder / "session").mkdir()
    (folder / "session/model.pt").touch()
    (folder / "latest").symlink_to(folder / "session")
    return folder


def test_sweep_removes_what_a_kill_at_any_moment_leaves(tmp_path: Path) -> None:
    made(tmp_path / "lchp-tmp-made_000", age=2 * HOUR)
    (made(tmp_path / "lchp-tmp-locked_0") / LOCK).write_text(machine(), encoding="utf-8")
    locked(tmp_path / "lchp-tmp-filled_0", machine())
    sweep_scratch(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_sweep_touches_nobody_elses(tmp_path: Path) -> None:
    made(tmp_path / "lchp-analysis", age=9 * DAY)
    made(tmp_path / "lchp-12345678", age=9 * DAY)  # a home folder
    made(tmp_path / "lchp-tmp-mine", age=9 * DAY)  # no name of ours
    made(tmp_path / "lchp-tmp-fresh_00")  # its process may be about to hold it
    made(tmp_path / "lchp-tmp-readable", 0o755, age=9 * DAY)
    (made(tmp_path / "lchp-tmp-results0") / "table.csv").touch()
    aged(tmp_path / "lchp-tmp-results0", 9 * DAY)
    (tmp_path / "lchp-tmp-a_file00").touch()
    before = set(tmp_path.iterdir())
    sweep_scratch(tmp_path)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("of", ["another", ""], ids=["another machine", "one that could not hold it"])
def test_sweep_leaves_what_a_free_lock_says_nothing_of_until_it_is_old(of: str, tmp_path: Path) -> None:
    folder = locked(tmp_path / "lchp-tmp-filled_0", of)
    aged(folder, 6 * DAY)
    sweep_scratch(tmp_path)
    assert (folder / "session/model.pt").exists()
    aged(folder, 8 * DAY)
    (folder / "session/model.pt").write_bytes(b"an epoch")
    sweep_scratch(tmp_path)
    assert (folder / "session/model.pt").exists(), "its process is at work there"
    aged(folder, 8 * DAY)
    sweep_scratch(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_sweep_passes_over_what_cannot_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(path: Path, *_: object) -> list[Path]:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    folder = locked(tmp_path / "lchp-tmp-filled_0", "another machine's")
    aged(folder, 8 * DAY)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rglob", stale)
        assert not is_left(folder)
        patch.setattr(Path, "glob", stale)
        sweep_scratch(tmp_path)
    assert is_left(folder)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_scratch_folder_where_files_cannot_be_held_does_without(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: IO[bytes], how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with scratch_folder(tmp_path) as folder:
        (folder / "file").touch()
        sweep_scratch(tmp_path)
        assert (folder / "file").exists()
    assert list(tmp_path.iterdir()) == []


def test_scratch_folder_that_cannot_be_used_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space left"), scratch_folder(tmp_path):
        pytest.fail("nothing can be written there")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks for open files in /proc")
def test_scratch_folder_on_nfs_is_swept_and_goes_with_its_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There who holds a file can write to it, and what is removed while it is open stays under another name."""
    flock, unlink, rmdir = fcntl.flock, Path.unlink, Path.rmdir
    hidden = list[Path]()

    def held(file: IO[bytes], how: int) -> None:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(file, how)

    def is_open(removed: Path) -> bool:
        return f"{removed} (deleted)" in {os.path.realpath(one) for one in Path("/proc/self/fd").iterdir()}

    def renamed(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        if is_open(path):
            hidden.append(path.with_name(".nfs0001"))
            hidden[-1].touch()

    def after_closing(path: Path) -> None:
        if not is_open(path / LOCK):
            unlink(path / ".nfs0001", missing_ok=True)
        rmdir(path)

    monkeypatch.setattr(fcntl, "flock", held)
    monkeypatch.setattr(Path, "unlink", renamed)
    monkeypatch.setattr(Path, "rmdir", after_closing)
    locked(tmp_path / "lchp-tmp-filled_0", machine())
    with scratch_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert len(hidden) == 2, "both locks were open when they were removed"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("name", ["lchp-tmp-", ".reproduce-"])
def test_scratch_folder_ends_who_names_it_in_the_temporary_folder_alone(name: str, tmp_path: Path) -> None:
    with scratch_folder(tmp_path, name) as folder:
        code = "import sys; print('here', flush=True); sys.stdin.read()"
        started = [sys.executable, "-c", code, str(folder / "log.txt")]
        reader = subprocess.Popen(started, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        # Before it runs it has no command line, for a moment.
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"here\n"
    assert list(tmp_path.iterdir()) == []
    _, ended = reader.communicate(), reader.returncode
    assert ended == (-signal.SIGKILL if name == "lchp-tmp-" else 0)


def test_scratch_folder_keeps_its_lock_over_what_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scratch_folder(tmp_path) as folder:
        (folder / "busy").mkdir()
        monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    assert {one.name for one in folder.iterdir()} == {"busy", LOCK}
    monkeypatch.undo()
    sweep_scratch(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_scratch_folder_goes_with_its_block(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert len(folder.name) == len("lchp-tmp-12345678")
        (folder / "session").mkdir()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_scratch_folder_of_a_killed_process_goes_at_the_next_start_and_a_living_ones_stays(tmp_path: Path) -> None:
    other = tmp_path / "lchp-tmp-study"
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
