"""What every reader gives: images and labels for training, and true boxes apart, for evaluation only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

TrueBoxes: TypeAlias = "dict[str, npt.NDArray[np.float64]]"
"""Image path to its true boxes, shape (k, 4), k >= 1, in the convention of ``lchp.method.boxes``."""

PixelBox = tuple[float, float, float, float]
"""A box as a file gives it: corners (x1, y1, x2, y2) in pixels of the image, ends exclusive; for readers only."""

PixelBoxes = dict[str, list[PixelBox]]
"""Image path to its boxes in pixels, neither clipped nor checked."""


@dataclass(frozen=True)
class ImageRecord:
    """One image: its path relative to the dataset's root (POSIX, unique in the dataset, without ``.`` and ``..``), and
    its class index.
    """

    path: str
    label: int


def by_path(records: Iterable[ImageRecord]) -> tuple[ImageRecord, ...]:
    """Records in the order of their paths."""
    return tuple(sorted(records, key=lambda record: record.path))


@dataclass(frozen=True)
class Dataset:
    """A dataset as training may see it: without boxes, which ``lchp.data.true_boxes`` reads."""

    name: str
    root: Path
    classes: tuple[str, ...]
    train: tuple[ImageRecord, ...]
    test: tuple[ImageRecord, ...]
    source: Path = Path()
    """What it was read from: the root, or the CSV file that lists it."""
    left_out: tuple[str, ...] = ()
    """What lies among the images and is not read as one, relative to the root."""
    held_out: frozenset[str] = frozenset()
    """Images of ``train`` that the dataset itself keeps for ``val``; where there are any, no other is drawn."""
    turned: frozenset[str] = frozenset()
    """Images whose boxes are given on the picture turned as its EXIF says; pixels are read as stored all the same."""


@dataclass(frozen=True)
class Splits:
    """Disjoint splits of a dataset: ``val`` is held out of the training images and not trained on."""

    train: tuple[ImageRecord, ...]
    val: tuple[ImageRecord, ...]
    test: tuple[ImageRecord, ...]
