"""The progress bar of long reads: on standard error, shown only where the reading takes longer than two seconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], doing: str, total: int | None = None, images: int = 1) -> Iterable[Item]:
    """``items`` as they are, with a bar that says what is being done and how many of ``total`` items are left, each of
    so many ``images``.
    """
    # A scale of 1 would be tqdm's 3.01k for 3,008.
    scale = images if images > 1 else False
    return tqdm(items, desc=doing, total=total, unit=" images", unit_scale=scale, delay=2, leave=False)
