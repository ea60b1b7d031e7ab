"""People's own images: a CSV with the columns path, label, split and, where boxes are known, x1, y1, x2, y2.

Paths are relative to the CSV's folder and may not leave it. Splits are ``train`` and ``test`` (the validation split is
drawn from ``train``). Boxes are pixels of the original image with exclusive ends: a box over a whole 80 x 64 image is
0, 0, 80, 64. Several rows with one path are several boxes of that image; a row with four empty box cells has no box.
Classes are the labels in alphabetical order.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lchp.data.records import Dataset, ImageRecord, PixelBox, PixelBoxes

REQUIRED = ("path", "label", "split")
CORNERS = ("x1", "y1", "x2", "y2")
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Row:
    """One line of the CSV, checked. ``corners`` holds the four box cells as written, or None where they are empty."""

    line: int
    path: str
    label: str
    split: str
    corners: tuple[str, str, str, str] | None


def read_table(file: Path, name: str | None = None) -> Dataset:
    """The images and labels of the CSV ``file``; box cells are not read as numbers. Errors name line and column."""
    rows: dict[str, Row] = {}
    seen: dict[tuple[str, tuple[str, ...] | None], int] = {}
    for row in _rows(file):
        first = rows.setdefault(row.path, row)
        for column in ("label", "split"):
            ours, theirs = getattr(row, column), getattr(first, column)
            if ours != theirs:
                raise _refusal(
                    file, row.line, column, ours, f"{row.path} has {theirs!r} in line {first.line}: make them agree"
                )
        repeated = seen.setdefault((row.path, row.corners), row.line)
        if repeated != row.line:
            raise _refusal(file, row.line, "path", row.path, f"repeats line {repeated}: remove one of the two")
        if row is first and not (file.parent / row.path).is_file():
            raise _refusal(
                file, row.line, "path", row.path, f"no such file under {file.parent}: correct it or remove the row"
            )
    classes = tuple(sorted({row.label for row in rows.values()}))
    index = {label: number for number, label in enumerate(classes)}
    train, test = (
        tuple(ImageRecord(row.path, index[row.label]) for row in rows.values() if row.split == split)
        for split in SPLITS
    )
    return Dataset(name or file.stem, file.parent, classes, train, test)


def read_table_boxes(file: Path) -> PixelBoxes | None:
    """The true boxes of every image that has any, in pixels; None where the CSV has no box columns."""
    boxes: PixelBoxes = {}
    with file.open(newline="", encoding="utf-8-sig") as text:
        if not set(CORNERS) <= set(_header(file, csv.reader(text))):
            return None
    for row in _rows(file):
        if row.corners is not None:
            boxes.setdefault(row.path, []).append(_box(file, row, row.corners))
    return boxes


def _rows(file: Path) -> Iterator[Row]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.reader(text, strict=True)
            header = _header(file, reader)
            for cells in reader:
                if cells:
                    yield _row(file, reader.line_num, header, cells)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not a CSV file in UTF-8: {error}. Save it as a comma-separated table") from error


def _header(file: Path, reader: Iterator[list[str]]) -> list[str]:
    header = next(reader, [])
    known = {*REQUIRED, *CORNERS}
    for column in header:
        if column not in known and column.strip().lower() in known:
            raise ValueError(f"{file}, line 1: column {column!r} is not known: write it {column.strip().lower()!r}")
    boxes = [column for column in CORNERS if column in header]
    wanted = (*REQUIRED, *CORNERS) if boxes else REQUIRED
    missing = [column for column in wanted if column not in header]
    if missing:
        raise ValueError(
            f"{file}, line 1: column {', '.join(missing)} is missing (found: {', '.join(header) or 'nothing'}): "
            "the first line names the columns path,label,split and, for boxes, all of x1,y1,x2,y2"
        )
    twice = sorted({column for column in header if column in known and header.count(column) > 1})
    if twice:
        raise ValueError(f"{file}, line 1: column {', '.join(twice)} appears twice: keep one")
    return header


def _row(file: Path, line: int, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        raise ValueError(
            f"{file}, line {line}: {len(cells)} cells where the first line names {len(header)} columns: complete it"
        )
    row = {column: cell.strip() for column, cell in zip(header, cells, strict=True)}
    for column in REQUIRED:
        if not row[column]:
            raise _refusal(file, line, column, "", "empty: fill it or remove the row")
    path = PurePosixPath(row["path"])
    if path.is_absolute() or ".." in path.parts:
        raise _refusal(
            file, line, "path", row["path"], "leaves the table's folder: give a path relative to it, without '..'"
        )
    if row["split"] not in SPLITS:
        raise _refusal(
            file, line, "split", row["split"], "is neither train nor test (val is drawn from train): correct it"
        )
    x1, y1, x2, y2 = (row.get(column, "") for column in CORNERS)
    corners = (x1, y1, x2, y2) if any((x1, y1, x2, y2)) else None
    return Row(line, str(path), row["label"], row["split"], corners)


def _box(file: Path, row: Row, cells: tuple[str, str, str, str]) -> PixelBox:
    corners = []
    for column, cell in zip(CORNERS, cells, strict=True):
        try:
            corners.append(float(cell))
        except ValueError:
            corners.append(math.nan)
        if not math.isfinite(corners[-1]):
            raise _refusal(
                file, row.line, column, cell, "is not a number: give pixels, or leave all four box cells empty"
            )
    x1, y1, x2, y2 = corners
    for column, low, high in (("x2", x1, x2), ("y2", y1, y2)):
        if low >= high:
            cell = cells[CORNERS.index(column)]
            raise _refusal(
                file, row.line, column, cell, f"is not beyond {column[0]}1 = {low:g}: ends are exclusive pixels"
            )
    return x1, y1, x2, y2


def _refusal(file: Path, line: int, column: str, value: str, remedy: str) -> ValueError:
    return ValueError(f"{file}, line {line}, column {column}: {value!r} {remedy}")
