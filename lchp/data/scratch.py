"""Temporary folders that outlive nobody: what a killed process left of one goes at the next start.

They lie with the data because every floor above makes some. ``tempfile.TemporaryDirectory`` removes none of a process
that is killed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

NAME, LOCK = "lchp-", ".lchp-scratch"
"""How such a folder's name begins, unless it is told otherwise, and the file in it that its process holds."""
_OWN = 0o700
"""The rights that it gives."""


@contextmanager
def scratch_folder(parent: Path | None = None, name: str = NAME) -> Iterator[Path]:
    """A new folder below ``parent``, or the temporary folder: ``name`` and eight letters, since paths of sockets are
    short; with it go the processes that were started in it.

    Its lock tells that its process lives, in whatever container: what others left whose lock is free is removed.
    """
    parent = parent or Path(tempfile.gettempdir())
    sweep_scratch(parent, name)
    folder, lock = _held(parent, name)
    with lock:
        try:
            yield folder
        finally:
            _remove(folder)


def sweep_scratch(parent: Path | None = None, name: str = NAME) -> None:
    """Remove the folders of :func:`scratch_folder` whose processes were killed, and end what these had started."""
    made = re.compile(rf"{re.escape(name)}[a-z0-9_]{{8}}")  # as tempfile.mkdtemp has it
    for folder in (parent or Path(tempfile.gettempdir())).glob(f"{name}*"):
        if made.fullmatch(folder.name):
            _remove_if_left(folder, name)


def _held(parent: Path, name: str) -> tuple[Path, TextIO]:
    """A new folder and its lock, which is held."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=name, dir=parent))  # noqa: TID251
        # Another's sweep may meet the folder before it is held, and remove it: then the next is made.
        with ExitStack() as stack, suppress(FileNotFoundError):
            lock = stack.enter_context((folder / LOCK).open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(lock.fileno()), (folder / LOCK).stat()):
                stack.pop_all()
                return folder, lock


def end_processes(folder: Path) -> None:
    """End the processes whose command line names a scratch folder: what was started in it, and is nobody else's."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(folder) in file.read_bytes():
                os.kill(int(file.parent.name), signal.SIGKILL)
        except OSError:
            continue


def _remove_if_left(folder: Path, name: str) -> None:
    with suppress(OSError):  # held, or gone by now
        there = folder.lstat()
        if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.getuid():
            return
        if not (folder / LOCK).exists():
            # Killed before it could hold the folder, which is empty then, or after it had given it up. A number is
            # that of a home folder's user (lchp.surroundings), or of a job (deploy/slurm.sbatch).
            if stat.S_IMODE(there.st_mode) == _OWN and not folder.name.removeprefix(name).isdigit():
                folder.rmdir()
            return
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder)


def _remove(folder: Path) -> None:
    """The lock goes last: of what a kill leaves in between, or cannot be removed, the next sweep knows what it is."""
    end_processes(folder)
    with suppress(OSError):
        for inside in (one for one in folder.iterdir() if one.name != LOCK):
            if inside.is_dir() and not inside.is_symlink():
                shutil.rmtree(inside, ignore_errors=True)
            else:
                inside.unlink(missing_ok=True)
        if [one.name for one in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
            folder.rmdir()
