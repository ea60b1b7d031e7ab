"""Things made once in the cache folder and shared by every process: extracted archives, resized images, drawn sets."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """``target``, made by ``build`` if it is not there yet; ``build`` gets a temporary path beside it to write to.

    The temporary file or folder is renamed when ``build`` returns, so that ``target`` is whole wherever it exists. Of
    several processes one builds while the others wait for it; what an interrupted one left behind is thrown away.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return target
        part = target.parent / f".{target.name}.part"
        _remove(part)
        try:
            build(part)
            part.replace(target)
        except BaseException:
            _remove(part)
            raise
    return target


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
