"""Things made once in the cache folder and shared by every process: extracted archives, resized images, drawn sets."""

from __future__ import annotations

import errno
import fcntl
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lchp.at_work import speaking

FULL = (errno.ENOSPC, errno.EDQUOT)


def build_once(target: Path, build: Callable[[Path], None], fault: Callable[[Path], str | None] | None = None) -> Path:
    """``target``, made by ``build`` if it is not there yet; ``build`` gets a temporary path beside it to write to.

    The temporary file or folder is renamed when ``build`` returns, so that ``target`` is whole wherever it exists; what
    was damaged later, as ``fault`` says in a few words, is made again, and standard error tells of it. Of several
    processes one builds while the others wait for it; what an interrupted one left behind is thrown away. Nothing is
    written where ``target`` is there already: the cache may be read-only.

    Raises:
        ValueError: the folder of ``target`` cannot be written to, or its disk is full; names it and the remedy.
    """
    if target.exists() and (fault is None or fault(target) is None):
        return target
    with _locked(target):
        found = None if fault is None or not target.exists() else fault(target)
        if found is not None:
            with speaking():
                print(f"{target} is damaged ({found}): it is made again", file=sys.stderr)
            _remove(target)
        if not target.exists():
            _build(target, build)
    return target


def made_once(path: Path) -> Path | None:
    """What :func:`build_once` made and ``path`` is or lies in; None for what people gave."""
    return next((target for target in (path, *path.parents) if _lock(target).exists()), None)


def remedy(missing: Path) -> str:
    """What to do about a file of a dataset that is not there: another thing if the cache holds the dataset."""
    folder = made_once(missing)
    return (
        "put it back or remove it from the dataset"
        if folder is None
        else f"delete the folder {folder}, which is then made again"
    )


def _lock(target: Path) -> Path:
    return target.parent / f".{target.name}.lock"


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(target).open("w")
    except OSError as error:
        raise ValueError(
            f"the cache folder {target.parent} cannot be written to ({error.strerror}): give another with --cache DIR"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(target: Path, build: Callable[[Path], None]) -> None:
    part = target.parent / f".{target.name}.part"
    _remove(part)
    try:
        build(part)
        part.replace(target)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise ValueError(
            f"the disk of the cache folder {target.parent} is full: make room, or give another with --cache DIR"
        ) from error
    finally:
        _remove(part)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
