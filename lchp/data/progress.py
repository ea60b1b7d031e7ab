"""The progress of long reads, on standard error: a bar on a terminal, a line now and then anywhere else; nothing where
the reading takes less than two seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

_DELAY, _BETWEEN = 2.0, 30.0
"""Seconds until the first sign, and between two lines."""


def on_terminal() -> bool:
    """Whether standard error is a terminal, on which a bar can be drawn."""
    return sys.stderr is not None and sys.stderr.isatty()


def progress(items: Iterable[Item], doing: str, total: int | None = None, images: int = 1) -> Iterable[Item]:
    """``items`` as they are, telling what is being done and how many of ``total`` items are left, each of so many
    ``images``.
    """
    if not on_terminal():
        return _in_lines(items, doing, images)
    # A scale of 1 would be tqdm's 3.01k for 3,008.
    scale = images if images > 1 else False
    return tqdm(items, desc=doing, total=total, unit=" images", unit_scale=scale, delay=_DELAY, leave=False)


def _in_lines(items: Iterable[Item], doing: str, images: int) -> Iterator[Item]:
    due = time.monotonic() + _DELAY
    for done, item in enumerate(items):
        if time.monotonic() >= due:
            print(f"{doing}: {done * images} done", file=sys.stderr, flush=True)
            due = time.monotonic() + _BETWEEN
        yield item
