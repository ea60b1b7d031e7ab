"""True boxes, for evaluation only: what a box must hold, and boxes as parts of their images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lchp.data.config import DatasetConfig
from lchp.data.headers import Headers
from lchp.data.reading import read_boxes
from lchp.data.records import Boxes, Dataset, PixelBox

NO_AREA = "has no area"


@dataclass(frozen=True)
class BadBox:
    """A true box that is none, of the image in ``row`` of the dataset."""

    row: int
    path: str
    box: PixelBox
    fault: str

    def __str__(self) -> str:
        corners = ", ".join(f"{value:g}" for value in self.box)
        return f"{self.path}: ({corners}) {self.fault}"


@dataclass(frozen=True, eq=False)
class Truth:
    """The true boxes of all images of a dataset, by their rows: as written (``pixels``), as parts of their images
    (``sound``: corners in [0, 1], overhanging ones clipped), and those that are none.
    """

    pixels: Boxes
    headers: Headers
    is_sound: npt.NDArray[np.bool_]
    """Of every box in ``pixels``, (k,)."""
    sound: Boxes
    bad: tuple[BadBox, ...]

    @property
    def overhanging(self) -> int:
        """How many boxes leave their image, those that are none apart."""
        return int(np.count_nonzero(self.overhang() > 0))

    def overhang(self) -> npt.NDArray[np.float64]:
        """By how much of its image's side every box leaves it at most, (k,); 0 of those that do not, or are none."""
        corners, sizes = self.pixels.corners, np.maximum(self.headers[self.pixels.owners, :2], 1)
        with np.errstate(invalid="ignore"):
            out = np.maximum(-corners[:, :2], corners[:, 2:] - sizes) / sizes
        return np.where(self.is_sound, out.max(1, initial=0.0), 0.0)


def read_truth(config: DatasetConfig, dataset: Dataset, headers: Headers, cache: Path | None = None) -> Truth | None:
    """The true boxes of all images; None where the dataset has no box file at all.

    ``cache`` may remember them as written. Boxes of images whose header could not be read are passed over. Raises
    ValueError for a box file that cannot be read.
    """
    pixels = read_boxes(config, dataset, dataset.images, cache)
    if pixels is None:
        return None
    owners = pixels.owners
    sizes = headers[owners, :2].astype(np.float64)
    readable = sizes[:, 0] > 0
    parts, is_sound = as_parts(pixels.corners, sizes)
    bad = _bad(dataset, pixels, headers, readable & ~is_sound)
    is_sound &= readable
    return Truth(pixels, headers, is_sound, Boxes(pixels.ends, parts).only(is_sound), bad)


def _bad(dataset: Dataset, pixels: Boxes, headers: Headers, which: npt.NDArray[np.bool_]) -> tuple[BadBox, ...]:
    found, owners = [], pixels.owners
    for place in np.flatnonzero(which).tolist():
        row = int(owners[place])
        x1, y1, x2, y2 = pixels.corners[place].tolist()
        width, height, _ = headers[row].tolist()
        box = x1, y1, x2, y2
        found.append(BadBox(row, dataset.images[row].path, box, fault(box, width, height)))
    return tuple(found)


def as_parts(
    corners: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Pixel boxes, (k, 4), in images of these widths and heights, (k, 2), as parts of them: corners in [0, 1], (k, 4);
    and which of them are boxes, (k,): finite, and of some area inside. :func:`fault` says what the others are.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = np.clip(corners / np.tile(sizes, 2), 0.0, 1.0)
    return parts, (parts[:, 0] < parts[:, 2]) & (parts[:, 1] < parts[:, 3]) & np.isfinite(corners).all(1)


def fault(box: PixelBox, width: int, height: int) -> str:
    """What is wrong with a box that is none in an image of that size: not finite, not in order, or outside."""
    if not all(map(math.isfinite, box)):
        return "is not finite"
    x1, y1, x2, y2 = box
    return NO_AREA if x1 >= x2 or y1 >= y2 else f"lies outside the {width} x {height} image"
