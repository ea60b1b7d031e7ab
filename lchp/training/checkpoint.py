"""Tensors in files: written whole or not at all, read without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lchp.data.files import replacing


def save_tensors(path: Path, payload: dict[str, Any]) -> None:
    """Writes tensors, state dicts and plain values to ``path`` by way of a temporary name in the same folder."""
    with replacing(path) as part:
        torch.save(payload, part)


def load_tensors(path: Path) -> dict[str, Any]:
    """Reads what :func:`save_tensors` wrote, on the CPU.

    Raises:
        ValueError: the file cannot be read; names it and the remedy.
    """
    try:
        payload: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes of the reader, it is the file that is at fault
        raise ValueError(
            f"{path} cannot be read ({reading_fault(error)}): delete it, and the stage is trained again"
        ) from error
    return payload


def reading_fault(error: Exception) -> str:
    """What to say of an error of ``torch.load``; not its own words, which advise to unpickle what is not trusted."""
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
