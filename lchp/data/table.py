"""People's own images: a CSV with the columns path, label, split and, where boxes are known, x1, y1, x2, y2.

Paths are relative to the CSV's folder and may not leave it. Splits are ``train`` and ``test`` (the validation split is
drawn from ``train``). Boxes are pixels of the original image with exclusive ends: a box over a whole 80 x 64 image is
0, 0, 80, 64. Several rows with one path are several boxes of that image; a row with four empty box cells has no box.
Boxes count in the pixels as they are stored. Where they were drawn on the picture that viewers show, turned as its EXIF
says, a column ``orientation`` says ``exif``. Classes are the labels in alphabetical order.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lchp.data.files import read_utf8
from lchp.data.headers import Header, header
from lchp.data.records import Dataset, ImageRecord, PixelBox, PixelBoxes
from lchp.vocabulary import TEST, TRAIN

REQUIRED = ("path", "label", "split")
CORNERS = ("x1", "y1", "x2", "y2")
ORIENTATION = "orientation"
SPLITS = (TRAIN, TEST)
COLUMNS = "the first line names the columns path,label,split and, for boxes, all of x1,y1,x2,y2"

_OTHER_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
_SIZED = (("x", "y", "w", "h"), ("x", "y", "width", "height"), ("left", "top", "width", "height"))

_BOX_COLUMN = re.compile(r"bbox|^box|(?:^|_)[xy]_?(?:min|max|[012])(?:_|$)")


@dataclass(frozen=True)
class Row:
    """One line of the CSV, checked. ``corners`` holds the four box cells as written, or None where they are empty."""

    line: int
    path: str
    label: str
    split: str
    corners: tuple[str, str, str, str] | None
    orientation: str


def read(file: Path, /) -> Dataset:
    """The images and labels of the CSV ``file``; box cells are not read as numbers. Errors name line and column."""
    rows: dict[str, Row] = {}
    seen: dict[tuple[str, tuple[str, ...] | None], int] = {}
    for row in _rows(file)[1]:
        first = rows.setdefault(row.path, row)
        for column in ("label", "split", ORIENTATION):
            ours, theirs = getattr(row, column), getattr(first, column)
            if ours != theirs:
                remedy = f"where {row.path} has {theirs!r} in line {first.line}: make them agree"
                raise _refusal(file, row.line, column, ours, remedy)
        repeated = seen.setdefault((row.path, row.corners), row.line)
        if repeated != row.line:
            raise _refusal(file, row.line, "path", row.path, f"repeats line {repeated}: remove one of the two")
    classes = tuple(sorted({row.label for row in rows.values()}))
    index = {label: number for number, label in enumerate(classes)}
    train, test = (
        tuple(ImageRecord(row.path, index[row.label]) for row in rows.values() if row.split == split)
        for split in SPLITS
    )
    turned = frozenset(row.path for row in rows.values() if row.orientation)
    return Dataset(file.stem, file.parent, classes, train, test, file, turned=turned)


def read_boxes(dataset: Dataset, records: Iterable[ImageRecord], _cache: Path | None = None, /) -> PixelBoxes | None:
    """The true boxes of every image of ``records`` that has any, in stored pixels; None without box columns."""
    file = dataset.source
    header_row, rows = _rows(file)
    if not set(CORNERS) <= set(header_row):
        return None
    wanted = {record.path for record in records}
    boxes: PixelBoxes = {}
    headers: dict[str, Header] = {}
    for row in rows:
        if row.corners is None or row.path not in wanted:
            continue
        box = _box(file, row, row.corners)
        if row.orientation:
            if row.path not in headers:
                headers[row.path] = header(dataset.root / row.path)
            box = headers[row.path].stored(box)
        boxes.setdefault(row.path, []).append(box)
    return boxes


def _rows(file: Path) -> tuple[list[str], Iterator[Row]]:
    """The names of the columns, and the rows, which are checked as they are asked for."""
    text = read_utf8(file).removeprefix("\ufeff")
    try:
        columns = [column.strip() for column in next(csv.reader(io.StringIO(text, newline=""), strict=True), [])]
    except csv.Error as error:
        raise _no_csv(file, 1, error) from error
    _require_columns(file, columns)
    return columns, _checked(file, text, columns)


def _checked(file: Path, text: str, columns: list[str]) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        next(reader)
        for cells in reader:
            if cells:
                yield _row(file, reader.line_num, columns, cells)
    except csv.Error as error:
        raise _no_csv(file, reader.line_num, error) from error


def _no_csv(file: Path, line: int, error: csv.Error) -> ValueError:
    return ValueError(f"{file}, line {line}: this is no CSV ({error}): correct the line, or save the table again")


def _require_columns(file: Path, columns: list[str]) -> None:
    """See that the first line names what is needed, each once, and no boxes in another way."""
    for separator in (";", "\t", "|", " "):
        if len(columns) == 1 and set(REQUIRED) <= {cell.strip().lower() for cell in columns[0].split(separator)}:
            raise ValueError(f"{file}, line 1: columns are separated by {separator!r}: save the table with commas")
    known = {*REQUIRED, *CORNERS, ORIENTATION}
    for column in columns:
        if column not in known and column.lower() in known:
            raise ValueError(f"{file}, line 1: column {column!r} is not known: write it {column.lower()!r}")
    twice = sorted({column for column in columns if column in known and columns.count(column) > 1})
    if twice:
        raise ValueError(f"{file}, line 1: column {', '.join(twice)} appears twice: keep one")
    has_boxes = any(column in columns for column in CORNERS)
    if not has_boxes:
        _refuse_other_boxes(file, {column.lower() for column in columns})
    missing = [column for column in (*REQUIRED, *(CORNERS if has_boxes else ())) if column not in columns]
    if missing:
        found = ascii(", ".join(filter(None, columns)))[1:-1][:200] or "nothing"
        raise ValueError(f"{file}, line 1: column {', '.join(missing)} is missing (found: {found}): {COLUMNS}")


def _refuse_other_boxes(file: Path, columns: set[str]) -> None:
    """Boxes in columns of other names would be passed over."""
    for names in _OTHER_CORNERS:
        if columns >= set(names):
            raise ValueError(f"{file}, line 1: columns {', '.join(names)} are not read: call them {', '.join(CORNERS)}")
    for names in _SIZED:
        if columns >= set(names):
            x, y, width, height = names
            raise ValueError(
                f"{file}, line 1: columns {', '.join(names)} are not read: give corners, x1 = {x}, y1 = {y}, "
                f"x2 = {x} + {width}, y2 = {y} + {height}"
            )

    boxes = sorted(column for column in columns if _BOX_COLUMN.search(column))
    if boxes:
        raise ValueError(
            f"{file}, line 1: columns {', '.join(boxes)} are not read: boxes stand in {', '.join(CORNERS)}"
        )


def _row(file: Path, line: int, columns: list[str], cells: list[str]) -> Row:
    if len(cells) != len(columns):
        hint = " (a decimal comma? write 1.5)" if len(cells) > len(columns) and "x1" in columns else ""
        raise ValueError(
            f"{file}, line {line}: {len(cells)} cells where the first line names {len(columns)} columns{hint}: "
            "correct it"
        )
    row = {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}
    for column in REQUIRED:
        if not row[column]:
            raise _refusal(file, line, column, "", "is empty: fill it or remove the row")
    path = PurePosixPath(row["path"])
    if path.is_absolute() or ".." in path.parts:
        raise _refusal(
            file, line, "path", row["path"], "leaves the table's folder: give a path relative to it, without '..'"
        )
    if row["split"] not in SPLITS:
        near = row["split"].lower()
        remedy = f"write it {near!r}" if near in SPLITS else "correct it"
        raise _refusal(
            file, line, "split", row["split"], f"is neither train nor test (val is drawn from train): {remedy}"
        )
    orientation = row.get(ORIENTATION, "").lower()
    if orientation not in ("", "exif"):
        raise _refusal(
            file, line, ORIENTATION, row[ORIENTATION],
            "is not known: write exif where the boxes were drawn on the picture turned as its EXIF says, else nothing",
        )  # fmt: skip
    x1, y1, x2, y2 = (row.get(column, "") for column in CORNERS)
    corners = (x1, y1, x2, y2) if any((x1, y1, x2, y2)) else None
    return Row(line, str(path), row["label"], row["split"], corners, orientation)


def _box(file: Path, row: Row, cells: tuple[str, str, str, str]) -> PixelBox:
    """The four cells as numbers; whether they are a box in their image is for ``lchp.data.true_boxes`` to say."""
    corners = []
    for column, cell in zip(CORNERS, cells, strict=True):
        try:
            corners.append(float(cell))
        except ValueError:
            hint = " with a point instead of the comma" if "," in cell else ""
            raise _refusal(
                file, row.line, column, cell, f"is not a number: give pixels{hint}, or leave all four box cells empty"
            ) from None
    x1, y1, x2, y2 = corners
    return x1, y1, x2, y2


def _refusal(file: Path, line: int, column: str, value: str, remedy: str) -> ValueError:
    return ValueError(f"{file}, line {line}, column {column}: {value!r} {remedy}")
