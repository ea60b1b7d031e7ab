"""The progress of long reads, on standard error: a bar on a terminal, a line now and then anywhere else; nothing before
the command has been silent for two seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from lchp.at_work import FIRST, between, drawing_bar, is_quiet, on_terminal, silent_for, speaking

Item = TypeVar("Item")


def progress(items: Iterable[Item], doing: str, total: int | None = None, images: int = 1) -> Iterable[Item]:
    """``items`` as they are, each of so many ``images``, telling what is being done and how many images are done; a bar
    also says of how many, where the ``total`` of items is given, and how long the others take.
    """
    if is_quiet():
        return items
    if not on_terminal():
        return _in_lines(items, doing, images)
    # A scale of 1 would be tqdm's 3.01k for 3,008.
    scale = images if images > 1 else False
    delay = max(0.0, FIRST - silent_for())
    bar = tqdm(items, desc=doing, total=total, unit=" images", unit_scale=scale, delay=delay, leave=False)
    return _in_bar(bar)


def _in_bar(bar: Iterable[Item]) -> Iterator[Item]:
    with drawing_bar():
        yield from bar


def _in_lines(items: Iterable[Item], doing: str, images: int) -> Iterator[Item]:
    begun = time.monotonic()
    due = begun + max(0.0, FIRST - silent_for())
    for done, item in enumerate(items):
        # Before the first one is done there is nothing to tell but what `doing` tells.
        if done and time.monotonic() >= due:
            with speaking():
                print(f"{doing}: {done * images} done", file=sys.stderr, flush=True)
            due = time.monotonic() + between(time.monotonic() - begun)
        yield item
