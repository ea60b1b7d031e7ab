"""People's own images: a CSV with the columns path, label, split and, where boxes are known, x1, y1, x2, y2 or mask.

Paths are relative to the CSV's folder and may not leave it. Splits are ``train``, ``test`` and ``val``; where no row
is of ``val``, that split is drawn from ``train``. Boxes are pixels of the original image with exclusive ends: one over
a whole 80 x 64 image is 0, 0, 80, 64; where a column ``units`` says ``fractions``, parts of its width and height.
Several rows with one path are several boxes of that image; a row with four empty box cells has no box. In their place a
column ``mask`` may name a picture of the image's size, whose box is the smallest around all that is
neither black nor transparent.

Boxes count in the pixels as they are stored. Where they were drawn on the picture that viewers show, turned as its EXIF
says, a column ``orientation`` says ``exif``. Classes are the labels in alphabetical order or, where
``<table>.classes.txt`` lies beside the CSV, the lines of that; labels are then its names, or their indices from 0.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from lchp.data.files import read_utf8
from lchp.data.listing import LINE_BREAKING, columns_are, lines
from lchp.data.records import Dataset, ImageRecord, PixelBoxes, Records
from lchp.data.table_boxes import (
    CORNERS,
    MASK,
    ORIENTATION,
    UNITS,
    Row,
    are_fractions,
    boxes_of_rows,
    refusal,
    refuse_other_boxes,
)
from lchp.vocabulary import TEST, TRAIN, VAL

REQUIRED = ("path", "label", "split")
SPLITS = (TRAIN, VAL, TEST)
COLUMNS = "the first line names the columns path,label,split and, for boxes, all of x1,y1,x2,y2"
CLASSES = ".classes.txt"
"""What the name of a table's list of classes ends in, in place of ``.csv``."""


def read(file: Path, /) -> Dataset:
    """The images and labels of the CSV ``file``; box cells are not read as numbers. Errors name line and column."""
    rows: dict[str, Row] = {}
    seen: dict[tuple[str, tuple[str, ...] | None, str], int] = {}
    for row in _rows(file)[1]:
        first = rows.setdefault(row.path, row)
        for column in ("label", "split", ORIENTATION):
            ours, theirs = getattr(row, column), getattr(first, column)
            if ours != theirs:
                remedy = f"where {row.path} has {theirs!r} in line {first.line}: make them agree"
                raise refusal(file, row.line, column, ours, remedy)
        repeated = seen.setdefault((row.path, row.corners, row.mask), row.line)
        if repeated != row.line:
            raise refusal(file, row.line, "path", row.path, f"repeats line {repeated}: remove one of the two")
    classes, index = _classes(file, list(rows.values()))
    records = {row.path: ImageRecord(row.path, index[row.label]) for row in rows.values()}
    train, test = (
        tuple(records[row.path] for row in rows.values() if (row.split == TEST) == of_test) for of_test in (False, True)
    )
    held_out = frozenset(row.path for row in rows.values() if row.split == VAL)
    turned = frozenset(row.path for row in rows.values() if row.orientation)
    return Dataset.of(file.stem, file.parent, classes, train, test, file, turned=turned, held_out=held_out)


def _classes(file: Path, rows: Sequence[Row]) -> tuple[tuple[str, ...], dict[str, int]]:
    """The classes, and the index of each label as it is written."""
    listed = file.with_name(f"{file.stem}{CLASSES}")
    if not listed.exists():
        classes = tuple(sorted({row.label for row in rows}))
        return classes, {label: number for number, label in enumerate(classes)}
    names: dict[str, int] = {}
    for line, name in lines(listed, "its source"):
        if name in names:
            raise ValueError(f"{listed}, line {line}: the class {name!r} is there twice: keep one")
        if name.isdecimal():
            raise ValueError(f"{listed}, line {line}: the class {name!r} looks like an index: name it otherwise")
        names[name] = len(names)
    index = {str(number): number for number in names.values()} | names
    for row in rows:
        if row.label not in index:
            remedy = f"is neither a class of {listed.name} nor an index from 0 to {len(names) - 1}: correct it"
            raise refusal(file, row.line, "label", row.label, remedy)
    return tuple(names), index


def read_boxes(dataset: Dataset, records: Records, cache: Path | None = None, /) -> PixelBoxes | None:
    """The true boxes of every image of ``records`` that has any, in stored pixels; None without columns of boxes.

    Those of masks, which take a decoding each, are remembered in ``cache``.
    """
    file = dataset.source
    columns, rows = _rows(file)
    if not {*CORNERS, MASK} & set(columns):
        return None
    wanted = set(records.paths)
    return boxes_of_rows(file, [row for row in rows if row.path in wanted], cache)


def columns_of(file: Path) -> list[str]:
    """The names in the first line of a CSV, whatever they are; none of a file that is no text."""
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as opened:
        try:
            return [column.strip().lstrip("\ufeff") for column in next(csv.reader(opened), [])]
        except csv.Error:
            return []


def _rows(file: Path) -> tuple[list[str], Iterator[Row]]:
    """The names of the columns, and the rows, which are checked as they are asked for."""
    text = read_utf8(file).lstrip("\ufeff")
    try:
        columns = [column.strip() for column in next(csv.reader(io.StringIO(text, newline=""), strict=True), [])]
    except csv.Error as error:
        raise _no_csv(file, 1, error) from error
    require_columns(file, columns)
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


def require_columns(file: Path, columns: Sequence[str]) -> None:
    """See that the first line names what is needed, each once, and no boxes in another way."""
    for separator in (";", "\t", "|", " "):
        if len(columns) == 1 and set(REQUIRED) <= {cell.strip().lower() for cell in columns[0].split(separator)}:
            raise ValueError(f"{file}, line 1: columns are separated by {separator!r}: save the table with commas")
    known = {*REQUIRED, *CORNERS, ORIENTATION, UNITS, MASK}
    for column in columns:
        if column not in known and column.lower() in known:
            raise ValueError(f"{file}, line 1: column {column!r} is not known: write it {column.lower()!r}")
    twice = sorted({column for column in columns if column in known and columns.count(column) > 1})
    if twice:
        raise ValueError(f"{file}, line 1: {columns_are(twice)} there twice: keep one")
    has_boxes = any(column in columns for column in CORNERS)
    if not has_boxes:
        refuse_other_boxes(file, {column.lower() for column in columns})
    missing = [column for column in (*REQUIRED, *(CORNERS if has_boxes else ())) if column not in columns]
    if missing:
        found = ascii(", ".join(filter(None, columns)))[1:-1][:200] or "nothing"
        raise ValueError(f"{file}, line 1: {columns_are(missing)} missing (found: {found}): {COLUMNS}")


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
            raise refusal(file, line, column, "", "is empty: fill it or remove the row")
    path = _inside(file, line, "path", row["path"])
    if row["split"] not in SPLITS:
        near = _NEAR_SPLITS.get(row["split"].lower(), row["split"].lower())
        remedy = f"write it {near!r}" if near in SPLITS else "correct it"
        raise refusal(file, line, "split", row["split"], f"is none of {', '.join(SPLITS)}: {remedy}")
    orientation = row.get(ORIENTATION, "").lower()
    if orientation not in ("", "exif"):
        raise refusal(
            file, line, ORIENTATION, row[ORIENTATION],
            "is not known: write exif where the boxes were drawn on the picture turned as its EXIF says, else nothing",
        )  # fmt: skip
    fractions = are_fractions(file, line, row.get(UNITS, ""))
    x1, y1, x2, y2 = (row.get(column, "") for column in CORNERS)
    corners = (x1, y1, x2, y2) if any((x1, y1, x2, y2)) else None
    mask = row.get(MASK, "")
    if mask and corners:
        raise refusal(file, line, MASK, mask, "stands beside x1, y1, x2, y2: give the box in one way")
    return Row(
        line, str(path), row["label"], row["split"], corners, orientation, fractions,
        str(_inside(file, line, MASK, mask)) if mask else "",
    )  # fmt: skip


def _inside(file: Path, line: int, column: str, cell: str) -> PurePosixPath:
    """A path that stays in the table's folder."""
    if "://" in cell:
        raise refusal(file, line, column, cell, "is an address: fetch the file, and give its path")
    if LINE_BREAKING.search(cell):
        raise refusal(file, line, column, cell, "holds a control character: rename the file, and correct the cell")
    path = PurePosixPath(cell)
    if path.is_absolute() or ".." in path.parts:
        remedy = "leaves the table's folder: give a path relative to it, without '..'"
        raise refusal(file, line, column, cell, remedy)
    return path


_NEAR_SPLITS = {"validation": VAL, "valid": VAL, "dev": VAL, "training": TRAIN, "testing": TEST}
