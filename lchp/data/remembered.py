"""Boxes that are dear to parse, remembered in the cache folder: ImageNet has more than half a million files of them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lchp.data.once import build_once
from lchp.data.records import PixelBox

Boxes = list[list[PixelBox]]
"""The boxes of each of some images, in pixels as written."""


def remembered_boxes(cache: Path, key: str, count: int, parse: Callable[[], Boxes]) -> Boxes:
    """What ``parse`` gives, of ``count`` images; it is asked once for a ``key``, which is to change with every file
    that it reads. A file of the cache that was damaged is made again.

    Raises:
        ValueError: as ``parse``, after which nothing is remembered, and as :func:`lchp.data.once.build_once`.
    """
    target = cache / "boxes" / f"{key}.npz"
    build_once(target, lambda part: _write(part, parse()), lambda file: _fault(file, count))
    counts, boxes = _read(target, count)
    corners = [(x1, y1, x2, y2) for x1, y1, x2, y2 in boxes.tolist()]
    ends = np.concatenate(([0], np.cumsum(counts))).tolist()
    return [corners[start:end] for start, end in pairwise(ends)]


def _write(part: Path, found: Boxes) -> None:
    corners = np.array([box for boxes in found for box in boxes], np.float64).reshape(-1, 4)
    with part.open("wb") as file:
        np.savez(file, counts=np.array([len(boxes) for boxes in found], np.int64), boxes=corners)


def _read(file: Path, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """How many boxes each image has, shape (count,), and the boxes of all, shape (k, 4). ValueError if damaged."""
    try:
        # The archive has checksums of both, at which reading stops.
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as held:
            counts, boxes = held["counts"], held["boxes"]
    except (OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"it cannot be read: {error}") from error
    if counts.shape != (count,) or boxes.shape != (counts.sum(), 4):
        raise ValueError("it holds something else")
    return counts, boxes


def _fault(file: Path, count: int) -> str | None:
    try:
        _read(file, count)
    except ValueError as error:
        return str(error)
    return None
