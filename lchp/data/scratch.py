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
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lchp.data.locks import machine

NAME, LOCK = "lchp-tmp-", ".lchp-scratch"
"""How such a folder's name begins, unless it is told otherwise, and the file in it that its process holds."""
_OWN = 0o700
"""The rights that it gives."""
_NEW, _OLD = 3600.0, 7 * 86400.0
"""Seconds in which nothing was written there, before which one without a lock may be about to get it, and after which
nobody is at work in one whose lock tells nothing here.
"""


@contextmanager
def scratch_folder(parent: Path | None = None, name: str = NAME) -> Iterator[Path]:
    """A new folder below ``parent``, or the temporary folder: ``name`` and eight letters, since paths of sockets are
    short. With one of :data:`NAME` go the processes that were started in it; any other lies beside what people look at.

    Its lock tells that its process lives, in whatever container: what others left is removed (:func:`sweep_scratch`).

    Raises:
        OSError: no folder, or nothing in it, can be made.
    """
    parent = parent or Path(tempfile.gettempdir())
    sweep_scratch(parent, name)
    folder = Path(tempfile.mkdtemp(prefix=name, dir=parent))  # noqa: TID251
    try:
        with (folder / LOCK).open("wb", buffering=0) as lock:
            try:
                # Where files cannot be held, or the disk is full, it stays empty: it tells nothing then.
                with suppress(OSError):
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    lock.write(machine().encode())
                yield folder
            finally:
                _empty(folder, name)
    finally:
        _drop(folder)


def sweep_scratch(parent: Path | None = None, name: str = NAME) -> None:
    """Remove the folders of :func:`scratch_folder` whose processes were killed, and end what these had started. What
    cannot be looked at, as on a mount whose server is gone, is passed over.
    """
    made = re.compile(rf"{re.escape(name)}[a-z0-9_]{{8}}")  # as tempfile.mkdtemp has it
    there = list[Path]()
    with suppress(OSError):
        there += (parent or Path(tempfile.gettempdir())).glob(f"{name}*")
    for folder in there:
        if made.fullmatch(folder.name):
            with suppress(OSError):  # gone by now
                _remove_if_left(folder, name)


def is_left(folder: Path) -> bool:
    """Whether the process of a scratch folder is gone; not of one that cannot be looked at."""
    with _held_if_left(folder) as left:
        return left


def _remove_if_left(folder: Path, name: str) -> None:
    there = folder.lstat()
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.getuid():
        return
    if (folder / LOCK).exists():
        with _held_if_left(folder) as left:
            if left:
                _empty(folder, name)
        if left:
            _drop(folder)
    # Killed before it could hold the folder, which is empty then, or after it had given it up.
    elif stat.S_IMODE(there.st_mode) == _OWN and _is_untouched(folder, _NEW):
        _drop(folder)


@contextmanager
def _held_if_left(folder: Path) -> Iterator[bool]:
    """Whether a folder's process is gone; then its lock is held in the block, where it can be.

    That nobody holds it here means so for a process of this machine alone: some network file systems keep the locks of
    each to itself. What another made, or this one before it was started again, is left once it is old.
    """
    with ExitStack() as stack:
        ours = False
        try:
            # Over NFS a file is held by who may write to it.
            lock = stack.enter_context((folder / LOCK).open("rb+"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = lock.read() == machine().encode()
        except BlockingIOError:
            yield False
            return
        except OSError:  # none is there, or it cannot be held
            pass
        yield ours or _is_untouched(folder, _OLD)


def _is_untouched(folder: Path, seconds: float) -> bool:
    """Whether nothing was written in a folder for so long, as far as it can be looked at."""
    try:
        last = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    except OSError:  # somebody has just removed it, or its server is gone
        return False
    return time.time() - last > seconds


def _empty(folder: Path, name: str) -> None:
    """Remove what lies in a folder. The lock goes last: of what a kill leaves in between, or cannot be removed, the
    next sweep knows what it is.
    """
    if name == NAME:
        _end_processes(folder)
    with suppress(OSError):
        for inside in (one for one in folder.iterdir() if one.name != LOCK):
            if inside.is_dir() and not inside.is_symlink():
                shutil.rmtree(inside, ignore_errors=True)
            else:
                inside.unlink(missing_ok=True)
        if [one.name for one in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()


def _drop(folder: Path) -> None:
    """Remove an empty folder, whose lock is closed: over NFS it is no sooner gone."""
    with suppress(OSError):
        folder.rmdir()


def _end_processes(folder: Path) -> None:
    """End the processes whose command line names a folder: what was started in it, and is nobody else's."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(folder) in file.read_bytes():
                os.kill(int(file.parent.name), signal.SIGKILL)
        except OSError:
            continue
