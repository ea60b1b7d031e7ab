"""The table of a collection of pictures, with a test split that is drawn where it has none, as a file."""

from __future__ import annotations

import csv
import io
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lchp.data.collections import Collection, Found
from lchp.data.files import replacing
from lchp.data.records import PixelBox
from lchp.data.table import REQUIRED, read
from lchp.data.table_boxes import CORNERS, MASK, UNITS
from lchp.vocabulary import TEST, TRAIN

TABLE = "images.csv"
"""The table of a folder."""


def with_splits(collection: Collection, share: float, seed: int = 0) -> Collection:
    """The collection with a split for every image. Where none is of test, that ``share`` of every class is, one at
    least and never all: a seeded draw.
    """
    if any(found.split == TEST for found in collection.images):
        return collection
    by_class: dict[str, list[Found]] = defaultdict(list)
    for found in collection.images:
        if found.split in (None, TRAIN):
            by_class[found.label].append(found)
    draw, test = random.Random(seed), set[str]()
    for label in sorted(by_class):
        paths = sorted(found.path for found in by_class[label])
        count = min(max(round(len(paths) * share), 1), len(paths) - 1)
        test.update(draw.sample(paths, count))
    images = tuple(
        replace(found, split=TEST if found.path in test else found.split or TRAIN) for found in collection.images
    )
    told = f"{len(test)} of {len(images)} images are drawn for test, a share of {share:g} of every class (seed {seed})"
    return replace(collection, images=images, told=(*collection.told, told))


def write_table(collection: Collection, folder: Path) -> Path:
    """Write the table of a collection, whose images have splits, into its folder; gives the file.

    Raises:
        FileExistsError: there is one.
        ValueError: what would be written is no table that can be read; names the remedy.
    """
    file = folder / TABLE
    if file.exists():
        raise ValueError(f"{file}: is there already: remove it, or begin with it: `lchp init {file}`")
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(_rows(collection))
    with replacing(file) as part:
        part.write_text(text.getvalue(), encoding="utf-8", newline="")
        try:
            read(part)
        except ValueError as error:
            raise of_unwritten(ValueError(str(error).replace(str(part), str(file))), file) from error
    return file


def of_unwritten(error: ValueError, file: Path) -> ValueError:
    """What is wrong with a table that is not there: lines of it are what pictures, or what describes them, say."""
    return ValueError(f"{error}; {file.name} is what would be written: correct the pictures, or what describes them")


def _rows(collection: Collection) -> Iterator[list[str]]:
    fractions = any(found.parts for found in collection.images)
    boxes = fractions or any(found.boxes for found in collection.images)
    masks = any(found.mask for found in collection.images)
    yield [*REQUIRED, *(CORNERS if boxes else ()), *([UNITS] if fractions else []), *([MASK] if masks else [])]
    for found in collection.images:
        of_image = [(_cells(box), "") for box in dict.fromkeys(found.boxes)]
        of_image += [(_cells(box), "fractions") for box in dict.fromkeys(found.parts)]
        for cells, unit in of_image or [([""] * 4, "")]:
            box = cells if boxes else []
            units = [unit] if fractions else []
            yield [found.path, found.label, str(found.split), *box, *units, *([found.mask] if masks else [])]


def _cells(box: PixelBox) -> list[str]:
    return [format(value, ".10g") for value in box]
