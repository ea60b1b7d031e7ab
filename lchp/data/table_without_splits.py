"""Tables that lack their splits alone: rows of path and label, with boxes where they are known."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lchp.data.collections import Collection, Found, Pictures
from lchp.data.files import read_utf8
from lchp.data.listing import near
from lchp.data.records import PixelBox
from lchp.data.table import columns_of, require_columns
from lchp.data.table_boxes import CORNERS, MASK, ORIENTATION, UNITS, are_fractions, corners_of

_SHOWN = 80
"""Letters of a first line that a message shows."""


def table_without_splits(folder: Path, pictures: Pictures, file: Path | None = None) -> Collection | None:
    """The rows of ``file``, or of the only CSV right inside ``folder`` that has the columns path and label, no split.

    Raises:
        ValueError: there are several, or one is damaged; names it and the remedy.
    """
    files = [file] if file else sorted(folder.glob("*.csv"))
    found = [(file, columns) for file in files if (columns := _columns(file)) is not None]
    if not found:
        return None
    if len(found) > 1:
        raise ValueError(
            f"{folder}: holds several tables, {', '.join(file.name for file, _ in found)}: give one as FOLDER"
        )
    file, columns = found[0]
    boxes, parts = defaultdict[str, list[PixelBox]](list), defaultdict[str, list[PixelBox]](list)
    first: dict[str, Found] = {}
    rows = [(line, f"{file}, line {line}", cells) for line, cells in _cells_of(file, columns)]
    for _, where, cells in rows:
        if not cells["path"] or not cells["label"]:
            raise ValueError(f"{where}: path or label is empty: fill it or remove the row")
    matched = pictures.matched({cells["path"]: where for _, where, cells in rows})
    for line, where, cells in rows:
        path = matched.paths.get(cells["path"])
        if path is None:
            hint = near(folder / cells["path"])
            raise ValueError(
                f"{where}: {cells['path']} does not exist below {folder}{hint}: put it back, or remove the row"
            )
        image = Found(path, cells["label"], mask=cells.get(MASK, ""))
        if first.setdefault(path, image).label != image.label:
            raise ValueError(f"{where}: {path} has the label {first[path].label}, too: keep one")
        fractions = are_fractions(file, line, cells.get(UNITS, ""))
        corners = [cells.get(column, "") for column in CORNERS]
        if any(corners):
            (parts if fractions else boxes)[path].append(corners_of(file, line, fractions, corners))
    images = tuple(
        replace(image, boxes=tuple(boxes.get(path, ())), parts=tuple(parts.get(path, ())))
        for path, image in first.items()
    )
    return Collection(f"rows of {file.name}", images, told=matched.told)


def _cells_of(file: Path, columns: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows below the first line."""
    reader = csv.DictReader(io.StringIO(read_utf8(file).lstrip("\ufeff"), newline=""), columns)
    try:
        next(reader)
        for row in reader:
            if any(more := row.get(None, ())):
                raise ValueError(
                    f"{file}, line {reader.line_num}: has {len(columns) + len(more)} cells where the first line names "
                    f"{len(columns)} columns: put a cell with a comma into quotes"
                )
            cells = {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
            yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: this is no CSV ({error}): correct the line") from error


def no_table(file: Path) -> str:
    """Why a CSV is no table, for messages: what its first line says.

    Raises:
        ValueError: it is no text in UTF-8; names it and the remedy.
    """
    first = next(iter(read_utf8(file).removeprefix("\ufeff").splitlines()), "")
    return (
        f"is no table: its first line, {first[:_SHOWN]!r}, does not name the columns path, label and, where known, "
        "split with a comma between"
    )


def _columns(file: Path) -> list[str] | None:
    """The columns of a table that lacks its splits alone; None of any other."""
    columns = columns_of(file)
    wanted = {"path", "label"} <= set(columns) and "split" not in columns
    if wanted and ORIENTATION in columns:
        raise ValueError(f"{file}: has the column {ORIENTATION}, and no column split: add one yourself")
    if not wanted:
        return None
    require_columns(file, [*columns, "split"])
    return columns
