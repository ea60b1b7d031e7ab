"""Temporary folders that outlive nobody: what a killed process left of one goes at the next start."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME, LOCK = "lchp-", ".lchp-scratch"
"""How such a folder's name begins, and the file in it that its process holds."""


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder below ``parent``, ``lchp-`` and eight letters, since paths of sockets are short; with it go the
    processes that were started in it.

    Its lock tells that its process lives, in whatever container: what others left whose lock is free is removed.
    """
    sweep_scratch(parent)
    folder = Path(tempfile.mkdtemp(prefix=_NAME, dir=parent))
    unseen = folder / f"{LOCK}.new"
    with unseen.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unseen.rename(folder / LOCK)  # never there without being held
        try:
            yield folder
        finally:
            _remove(folder)


def sweep_scratch(parent: Path) -> None:
    """Remove the folders of :func:`scratch_folder` whose processes were killed, and end what these had started."""
    for left in parent.glob(f"{_NAME}*/{LOCK}"):
        _remove_if_left(left)


def end_processes(folder: Path) -> None:
    """End the processes whose command line names a scratch folder: what was started in it, and is nobody else's."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(folder) in file.read_bytes():
                os.kill(int(file.parent.name), signal.SIGKILL)
        except OSError:
            continue


def _remove_if_left(lock: Path) -> None:
    try:
        if lock.parent.lstat().st_uid != os.getuid():
            return
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(lock.parent)
    except OSError:  # held, or gone by now
        return


def _remove(folder: Path) -> None:
    end_processes(folder)
    shutil.rmtree(folder, ignore_errors=True)
