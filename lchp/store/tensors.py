"""Tensors in files: written whole or not at all, read without pickle, and only if every byte is as it was written.

torch is imported where it is needed: who asks whether a stage is whole, or makes a table, does without.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from lchp.data.files import replacing
from lchp.store.checks import Damaged


def save_tensors(path: Path, payload: dict[str, Any]) -> None:
    """Writes tensors, state dicts and plain values to ``path`` by way of a temporary name in the same folder."""
    import torch

    # By way of memory: where a disk is full torch's own writer does not say so.
    data = io.BytesIO()
    torch.save(payload, data)
    with replacing(path) as part:
        part.write_bytes(data.getbuffer())


def load_tensors(path: Path) -> dict[str, Any]:
    """Reads what :func:`save_tensors` wrote, on the CPU.

    Raises:
        Damaged: the file cannot be read, or is not what was written.
    """
    import torch

    check_tensors(path)
    try:
        payload: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes of the reader, it is the file that is at fault
        raise Damaged(path, f"cannot be read ({reading_fault(error)})") from error
    return payload


def check_tensors(path: Path, checksums: bool = True) -> None:
    """See that a file of tensors is whole. It is an archive whose records carry checksums, at which ``torch.load``
    does not look; without ``checksums`` only its table of contents is read.

    Raises:
        Damaged: it is not.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip() if checksums else None
    except Exception as error:  # as above
        raise Damaged(path, f"cannot be read ({reading_fault(error)})") from error
    if broken is not None:
        raise Damaged(path, f"is not what was written (the checksum of its record {broken} differs)")


def reading_fault(error: Exception) -> str:
    """What to say of an error of ``torch.load``; not its own words, which advise to unpickle what is not trusted."""
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
