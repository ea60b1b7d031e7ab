"""True boxes, for evaluation only: what a box must hold, and boxes as parts of their images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lchp.data.config import DatasetConfig
from lchp.data.headers import Header
from lchp.data.reading import read_pixel_boxes
from lchp.data.records import Dataset, ImageRecord, PixelBox, PixelBoxes, TrueBoxes

NO_AREA = "has no area"


@dataclass(frozen=True)
class BadBox:
    """A true box that is none."""

    path: str
    box: PixelBox
    fault: str

    def __str__(self) -> str:
        corners = ", ".join(f"{value:g}" for value in self.box)
        return f"{self.path}: ({corners}) {self.fault}"


@dataclass(frozen=True)
class Truth:
    """The true boxes of some records: as written (``pixels``), as parts of their images (``sound``: float64 corners in
    [0, 1], shape (k, 4), overhanging ones clipped), and those that are none. Images without a sound box are absent
    from ``sound``.
    """

    pixels: PixelBoxes
    headers: Mapping[str, Header]
    sound: TrueBoxes
    bad: tuple[BadBox, ...]


def read_truth(
    config: DatasetConfig,
    dataset: Dataset,
    records: Iterable[ImageRecord],
    headers: Mapping[str, Header],
    cache: Path | None = None,
) -> Truth | None:
    """The true boxes of ``records``; None where the dataset has no box file at all.

    ``cache`` may remember them as written. ``headers`` are those of the images that can be read: others' boxes are
    passed over. Raises ValueError for a box file that cannot be read.
    """
    pixels = read_pixel_boxes(config, dataset, records, cache)
    if pixels is None:
        return None
    sound: TrueBoxes = {}
    bad: list[BadBox] = []
    for path, of_image in pixels.items():
        if path not in headers:
            continue
        width, height = headers[path].width, headers[path].height
        inside = []
        for box in of_image:
            part = clipped(box, width, height)
            # A part that has an area is all that most boxes are asked for: ImageNet has half a million.
            if part[0] < part[2] and part[1] < part[3] and all(map(math.isfinite, box)):
                inside.append(part)
            else:
                bad.append(BadBox(path, box, fault(box, width, height)))
        if inside:
            sound[path] = np.array(inside, dtype=np.float64)
    return Truth(pixels, headers, sound, tuple(bad))


def fault(box: PixelBox, width: int, height: int) -> str:
    """What is wrong with a box that is none in an image of that size: not finite, not in order, or outside."""
    if not all(map(math.isfinite, box)):
        return "is not finite"
    x1, y1, x2, y2 = box
    return NO_AREA if x1 >= x2 or y1 >= y2 else f"lies outside the {width} x {height} image"


def clipped(box: PixelBox, width: int, height: int) -> PixelBox:
    """The part of a pixel box inside its image, as corners in [0, 1]."""
    x1, x2 = (min(max(x / width, 0.0), 1.0) for x in (box[0], box[2]))
    y1, y2 = (min(max(y / height, 0.0), 1.0) for y in (box[1], box[3]))
    return x1, y1, x2, y2
