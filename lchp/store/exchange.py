"""What a machine of a cluster brings of a stage from the shared store, and leaves there, where it has one.

Every function is for who holds the folder, and raises :class:`lchp.store.shared.StoreAway` where the store does not do
what is asked. A folder of which no other machine knows is left as it is.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from lchp.store.checks import Damaged
from lchp.store.folder import BROUGHT, CHECKPOINT, MANIFEST, StageFolder
from lchp.store.shared import SharedFolder

_SHARED_CHECKPOINT = "checkpoint.json"
"""The pointer to a checkpoint."""


def keeps(folder: StageFolder, say: Callable[[str], None]) -> bool:
    """As :func:`arrives`, for who trains the stage where it is not: a checkpoint is brought, too."""
    if not arrives(folder, say) and folder.shared is not None:
        _bring_checkpoint(folder, folder.shared, say)
    return folder.done


def arrives(folder: StageFolder, say: Callable[[str], None]) -> bool:
    """Whether a folder has its stage done and whole, by now: what another machine has left of it is brought, what the
    shared store lacks of it is left there. A damaged one is set aside.
    """
    fault = folder.fault()
    if fault is not None:
        say(f"{folder.path}: {fault}: set aside as {folder.set_aside().name}, made again")
    if folder.shared is None:
        return folder.done
    if folder.done:
        if not folder.shared.has(MANIFEST):
            leave(folder)
    elif folder.shared.bring(folder.path, MANIFEST, say):
        (folder.path / CHECKPOINT).unlink(missing_ok=True)
    return folder.done


def leave(folder: StageFolder) -> None:
    """Leave a stage that is done, or of which more is done than was."""
    # Folders of before version 0.3 have no manifest: they stay where they are.
    if folder.shared is not None and (folder.path / MANIFEST).is_file():
        folder.shared.leave(folder.path, MANIFEST, folder.listed())
        folder.shared.drop(_SHARED_CHECKPOINT)


def leave_checkpoint(folder: StageFolder) -> None:
    """Let other machines go on from here."""
    if folder.shared is not None:
        folder.shared.leave(folder.path, _SHARED_CHECKPOINT, [CHECKPOINT])


def _bring_checkpoint(folder: StageFolder, shared: SharedFolder, say: Callable[[str], None]) -> None:
    """The shared checkpoint, unless the one that is here is of the same epoch or a later one."""
    if not folder.has_checkpoint:
        shared.bring(folder.path, _SHARED_CHECKPOINT, say, with_pointer=False)
        return
    with tempfile.TemporaryDirectory(prefix=BROUGHT, dir=folder.path) as scratch:  # noqa: TID251 (swept with the stage)
        there = StageFolder(Path(scratch))
        brought = shared.bring(there.path, _SHARED_CHECKPOINT, say, with_pointer=False)
        if brought and _epochs(there) > _epochs(folder):
            (there.path / CHECKPOINT).replace(folder.path / CHECKPOINT)


def _epochs(folder: StageFolder) -> int:
    """How many epochs lie before a checkpoint; none before one that is damaged."""
    try:
        return len(json.loads(folder.checkpoint()["history"]))
    except Damaged:
        return 0
