"""The progress bar of long reads: on standard error, shown only where the reading takes longer than two seconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], doing: str, total: int | None = None, unit: str = "image") -> Iterable[Item]:
    """``items`` as they are, with a bar that says what is being done and how much of ``total`` ``unit`` is left."""
    return tqdm(items, desc=doing, total=total, unit=unit, delay=2, leave=False)
