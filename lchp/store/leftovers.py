"""What processes that were killed have left half-written in a store: swept where nobody is at work."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from lchp.data.files import left_parts
from lchp.store.folder import BROUGHT, REMOVED, StageFolder


def sweep(store: Path) -> None:
    """Removes from the folders of stages the temporary files of processes that are gone.

    Who trains a stage holds its lock, on whatever machine: a folder that is held is passed over.
    """
    for folder in store.glob("*/*/"):
        if left_in(folder):
            with suppress(BlockingIOError), StageFolder(folder).lock(wait=False):
                for part in left_in(folder):
                    if part.is_dir():
                        shutil.rmtree(part, ignore_errors=True)
                    else:
                        part.unlink(missing_ok=True)


def sweep_removed(store: Path) -> None:
    """Goes on with removals that a kill has ended, for who has the store alone; what cannot be removed is left.

    Raises:
        OSError: the store cannot be listed.
    """
    for folder in store.glob(f"*/*{REMOVED}/"):
        with suppress(OSError):  # a link, or another user's; then: others lie beside it
            shutil.rmtree(folder)
            folder.parent.rmdir()


def left_in(folder: Path) -> list[Path]:
    """The temporary files and folders in that of a stage whose process is gone, as :func:`left_parts`: who removes them
    holds the folder's lock, as who makes them does.
    """
    return sorted(folder.glob(f"{BROUGHT}*")) + left_parts(folder)
