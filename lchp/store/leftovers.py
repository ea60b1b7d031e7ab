"""What processes that were killed have left half-written in a store: swept where nobody is at work."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from lchp.data.files import left_parts
from lchp.store.folder import StageFolder


def sweep(store: Path) -> None:
    """Removes from the folders of stages the temporary files of processes that are gone.

    Who trains a stage holds its lock, on whatever machine: a folder that is held is passed over.
    """
    for folder in store.glob("*/*/"):
        if left_parts(folder):
            with suppress(BlockingIOError), StageFolder(folder).lock(wait=False):
                for part in left_parts(folder):
                    part.unlink(missing_ok=True)
