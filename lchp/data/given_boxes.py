"""Boxes of one's own, one an image, from a CSV: those of another method, to be learned and refined.

The first line names the columns ``path, x1, y1, x2, y2``; others are passed over. Paths are those of the dataset's
images, relative to its root. Boxes are pixels of the stored image with exclusive ends, as in ``per_image.csv``: one
over a whole 80 x 64 image is 0, 0, 80, 64. What overhangs the image is clipped.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lchp.data.files import read_utf8
from lchp.data.headers import header
from lchp.data.listing import columns_are
from lchp.data.records import Dataset, PixelBox
from lchp.data.true_boxes import as_parts, fault

COLUMNS = ("path", "x1", "y1", "x2", "y2")


def read_given_boxes(file: Path, dataset: Dataset) -> dict[str, npt.NDArray[np.float64]]:
    """By path the box (4,), corners in [0, 1] of the image, of every image of ``dataset`` that ``file`` has a line for.

    Lines of images that are not in the dataset are passed over: another method may have been run on more.

    Raises:
        ValueError: a training image has no line, or an image two; a line is no box. Names file, line and remedy.
    """
    images = set(dataset.images.paths)
    found: dict[str, npt.NDArray[np.float64]] = {}
    lines: dict[str, int] = {}
    for line, path, box in _rows(file):
        if path not in images:
            continue
        if path in lines:
            raise ValueError(f"{file}, line {line}: {path} has a box in line {lines[path]} already: keep one of them")
        lines[path] = line
        size = header(dataset.root / path)
        parts, is_sound = as_parts(np.array([box], np.float64), np.array([[size.width, size.height]], np.float64))
        if not is_sound.all():
            corners = ", ".join(f"{value:g}" for value in box)
            raise ValueError(
                f"{file}, line {line}: the box ({corners}) of {path} {fault(box, size.width, size.height)}: "
                "give pixels of the stored image, x1 < x2 and y1 < y2"
            )
        found[path] = parts[0]
    without = [path for path in dataset.train.paths if path not in found]
    if without:
        raise ValueError(
            f"{file}: {len(without)} of the {len(dataset.train)} training images have no box (first {without[0]}): "
            "give each a line, its path as the dataset writes it"
        )
    return found


def _rows(file: Path) -> Iterator[tuple[int, str, PixelBox]]:
    """Line number, path and box of every row."""
    reader = csv.DictReader(io.StringIO(read_utf8(file).removeprefix("\ufeff"), newline=""), strict=True)
    try:
        columns = [column.strip() for column in reader.fieldnames or ()]
        missing = [column for column in COLUMNS if columns.count(column) != 1]
        if missing:
            raise ValueError(
                f"{file}, line 1: {columns_are(missing)} missing or there twice: "
                f"the first line names the columns {','.join(COLUMNS)}"
            )
        reader.fieldnames = columns
        for row in reader:
            yield reader.line_num, (row["path"] or "").strip(), _box(file, reader.line_num, row)
    except csv.Error as error:
        raise ValueError(
            f"{file}, line {reader.line_num}: this is no CSV ({error}): correct the line, or save the table again"
        ) from error


def _box(file: Path, line: int, row: Mapping[str, str | None]) -> PixelBox:
    corners = []
    for column in COLUMNS[1:]:
        cell = row[column]
        try:
            corners.append(float(cell or ""))
        except ValueError:
            raise ValueError(
                f"{file}, line {line}, column {column}: {cell or ''!r} is not a number: give pixels with a point"
            ) from None
    x1, y1, x2, y2 = corners
    return x1, y1, x2, y2
