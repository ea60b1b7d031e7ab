"""Boxes that are dear to parse, remembered in the cache folder: ImageNet has more than half a million files of them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lchp.data.once import build_once
from lchp.data.records import Boxes


def remembered_boxes(cache: Path, key: str, count: int, parse: Callable[[], Boxes]) -> Boxes:
    """What ``parse`` gives, of ``count`` images, in pixels as written; it is asked once for a ``key``, which is to
    change with every file that it reads. A file of the cache that was damaged is made again.

    Raises:
        ValueError: as ``parse``, after which nothing is remembered, and as :func:`lchp.data.once.build_once`.
    """
    target = cache / "boxes" / f"{key}.npz"
    build_once(target, lambda part: _write(part, parse()), lambda file: _fault(file, count))
    counts, boxes = _read(target, count)
    return Boxes(np.concatenate(([0], np.cumsum(counts))), boxes)


def _write(part: Path, found: Boxes) -> None:
    with part.open("wb") as file:
        np.savez(file, counts=found.counts, boxes=found.corners)


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
