"""Files of a stage: written whole or not at all, read without pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch


def save_tensors(path: Path, payload: dict[str, Any]) -> None:
    """Writes tensors, state dicts and plain values to ``path`` by way of a temporary name in the same folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    torch.save(payload, temporary)
    temporary.replace(path)


def load_tensors(path: Path) -> dict[str, Any]:
    """Reads what :func:`save_tensors` wrote, on the CPU.

    Raises:
        ValueError: the file cannot be read; names it and the remedy.
    """
    try:
        payload: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes of the reader, it is the file that is at fault
        # Not torch's own words, which advise to unpickle what is not trusted.
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise ValueError(f"{path} cannot be read ({reason}): delete it, and the stage is trained again") from error
    return payload


def write_text(path: Path, text: str) -> None:
    """Writes a text file by way of a temporary name in the same folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, floats with all their digits, by way of a temporary name."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
