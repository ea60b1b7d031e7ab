"""Locks that go with their process, however it ends: files held with flock(2), which a machine's own disks honour."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO


def machine() -> str:
    """Who shares these locks: the running kernel, by the number that Linux drew at its start and gives to every
    container; elsewhere the host.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return socket.gethostname()


@contextmanager
def locked(path: Path, *, wait: bool = True, shared: bool = False) -> Iterator[None]:
    """Holds the file at ``path``, which is made, and its folder; where ``shared``, beside others that hold it so.

    Raises:
        BlockingIOError: another process holds it, and this one is not to wait.
    """
    with hold(path, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)):
        yield


def is_held(path: Path) -> bool:
    """Whether a process holds the file at ``path`` now, not shared; nothing is made."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def hold(path: Path, how: int) -> TextIO:
    """The file at ``path``, which is made with its folder, open and held as ``flock`` says; what it holds stays.

    Raises:
        BlockingIOError: another process holds it, and ``how`` is not to wait.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack, suppress(FileNotFoundError):
            file = stack.enter_context(path.open("a"))
            fcntl.flock(file, how)
            # Whoever held it may have removed it: then the next process would make, and hold, another.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                stack.pop_all()
                return file
