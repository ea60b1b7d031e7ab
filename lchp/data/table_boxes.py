"""The true boxes of a table's rows: corners in pixels or fractions, or the box around a mask's foreground."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lchp.data.identities import state_of
from lchp.data.records import Boxes, PixelBox, PixelBoxes

if TYPE_CHECKING:
    from PIL import Image

    from lchp.data.headers import Header

CORNERS = ("x1", "y1", "x2", "y2")
ORIENTATION = "orientation"
UNITS = "units"
MASK = "mask"

_OTHER_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
_SIZED = (("x", "y", "w", "h"), ("x", "y", "width", "height"), ("left", "top", "width", "height"))

_BOX_COLUMN = re.compile(r"bbox|^box|(?:^|_)[xy]_?(?:min|max|[012])(?:_|$)")

_FURTHEST = 1.5
"""How far from its image a corner that is a fraction may lie, in sizes of the image."""


@dataclass(frozen=True)
class Row:
    """One line of the CSV, checked.

    Attributes:
        corners: the four box cells as written, or None where they are empty.
        orientation: ``exif`` where boxes count on the picture turned so, else empty.
        fractions: whether the corners are parts of the image's width and height.
        mask: the path of the mask whose foreground the box is around, empty where there is none.
    """

    line: int
    path: str
    label: str
    split: str
    corners: tuple[str, str, str, str] | None
    orientation: str
    fractions: bool
    mask: str


def are_fractions(file: Path, line: int, units: str) -> bool:
    """Whether a cell of ``units`` says that the row's corners are parts of the image's width and height.

    Raises:
        ValueError: it says something that is not known.
    """
    if units.lower() not in ("", "pixels", "fractions"):
        raise refusal(file, line, UNITS, units, "is neither pixels nor fractions: correct it, or leave it empty")
    return units.lower() == "fractions"


def boxes_of_rows(file: Path, rows: Sequence[Row], cache: Path | None) -> PixelBoxes:
    """The boxes of some rows of the table ``file`` by image, in stored pixels.

    Raises:
        ValueError: a cell that is no number, a mask that is none; names line, column and remedy.
    """
    # Pillow is imported by those alone who look into pictures.
    from lchp.data.headers import header

    of_masks = _of_masks(file, [row for row in rows if row.mask], cache)
    headers: dict[str, Header] = {}
    boxes: PixelBoxes = {}
    for row in rows:
        if row.mask:
            box = of_masks[row.line]
        elif row.corners is not None:
            box = corners_of(file, row.line, row.fractions, row.corners)
        else:
            continue
        if row.fractions or row.orientation:
            if row.path not in headers:
                headers[row.path] = header(file.parent / row.path)
            size = headers[row.path]
            box = size.stored(_scaled(file, row, box, size)) if row.orientation else _scaled(file, row, box, size)
        boxes.setdefault(row.path, []).append(box)
    return boxes


def _scaled(file: Path, row: Row, box: PixelBox, size: Header) -> PixelBox:
    """A box in pixels of the picture on which it was drawn."""
    if not row.fractions or row.mask:
        return box
    if not all(-_FURTHEST < value < 1 + _FURTHEST for value in box):
        shown = ", ".join(f"{value:g}" for value in box)
        raise refusal(file, row.line, UNITS, "fractions", f"but the box is ({shown}): say pixels, or correct the box")
    width, height = size.seen if row.orientation else (size.width, size.height)
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height


def corners_of(file: Path, line: int, fractions: bool, cells: Sequence[str]) -> PixelBox:
    """The four cells as numbers; whether they are a box in their image is for ``lchp.data.true_boxes`` to say.

    Raises:
        ValueError: a cell is no number; names line, column and remedy.
    """
    corners = []
    for column, cell in zip(CORNERS, cells, strict=True):
        try:
            # Python takes 1_000, and digits of other scripts, which no other tool that reads the table does.
            if "_" in cell or not cell.isascii():
                raise ValueError(cell)
            corners.append(float(cell))
        except ValueError:
            hint = " with a point instead of the comma" if "," in cell else ""
            what = "fractions" if fractions else "pixels"
            raise refusal(
                file, line, column, cell, f"is not a number: give {what}{hint}, or leave all four box cells empty"
            ) from None
    x1, y1, x2, y2 = corners
    return x1, y1, x2, y2


_RULE = "neither black nor transparent"
"""What of a mask is foreground: what is remembered by another rule is found no more."""


def _of_masks(file: Path, rows: Sequence[Row], cache: Path | None) -> dict[int, PixelBox]:
    """The boxes around masks by line, in pixels of the mask."""
    if not rows:
        return {}
    from lchp.data.image_files import CHUNK, READING_THREADS
    from lchp.data.progress import progress

    states = []
    for row in rows:
        try:
            states.append(f"{row.line} {row.path} {row.mask} {_state(file.parent / row.mask)}")
        except OSError as error:
            raise refusal(
                file, row.line, MASK, row.mask, f"cannot be read ({error.strerror}): put it back, or correct the cell"
            ) from error

    def parse() -> Boxes:
        with ThreadPoolExecutor(READING_THREADS) as pool:
            # A pool takes everything that it is given at once.
            chunks = progress(range(0, len(rows), CHUNK), f"reading {len(rows)} masks", images=CHUNK)
            return Boxes.of(
                [box] for start in chunks for box in pool.map(partial(_around, file), rows[start : start + CHUNK])
            )

    if cache is None:
        found = parse()
    else:
        from lchp.data.remembered import remembered_boxes

        key = hashlib.sha256(
            "\n".join([_RULE, str(file.resolve()), *states]).encode(errors="surrogateescape")
        ).hexdigest()
        found = remembered_boxes(cache, f"masks-{key[:16]}", len(rows), parse)
    return {row.line: (x1, y1, x2, y2) for row, ((x1, y1, x2, y2),) in zip(rows, found.lists(), strict=True)}


def _state(file: Path) -> str:
    return " ".join(map(str, state_of(str(file))))


def _around(file: Path, row: Row) -> PixelBox:
    """The smallest box around what is neither black nor transparent in a row's mask, which has the size of the row's
    picture.
    """
    from PIL import Image

    from lchp.data.headers import header

    size = header(file.parent / row.path)
    expected = size.seen if row.orientation else (size.width, size.height)
    try:
        with Image.open(file.parent / row.mask) as mask:
            found = mask.size
            is_jpeg = mask.format in ("JPEG", "MPO")
            box = None if is_jpeg else _foreground(mask).getbbox()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise refusal(file, row.line, MASK, row.mask, f"is no image ({error}): replace it") from error
    if is_jpeg:
        raise refusal(file, row.line, MASK, row.mask, "is a JPEG, whose black is not all black: save the mask as PNG")
    if found != expected:
        sizes = f"is {found[0]} x {found[1]} pixels, the image {expected[0]} x {expected[1]}"
        raise refusal(file, row.line, MASK, row.mask, f"{sizes}: give a mask of the image's size")
    if box is None:
        raise refusal(
            file, row.line, MASK, row.mask, "is black or transparent all over: correct it, or leave the cell empty"
        )
    x1, y1, x2, y2 = map(float, box)
    return x1, y1, x2, y2


def _foreground(mask: Image.Image) -> Image.Image:
    """The mask, black where it is transparent."""
    from PIL import Image

    if mask.mode in ("RGBA", "LA", "PA") or ("transparency" in mask.info and mask.mode in ("1", "L", "RGB", "P")):
        seen = mask.convert("RGBA")
        black = Image.new("RGB", mask.size)
        black.paste(seen.convert("RGB"), mask=seen.getchannel("A").point([0] + [255] * 255))
        return black
    return mask.convert("RGB") if mask.mode in ("P", "CMYK") else mask


def refuse_other_boxes(file: Path, columns: set[str]) -> None:
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


def refusal(file: Path, line: int, column: str, value: str, remedy: str) -> ValueError:
    """What is wrong with one cell."""
    return ValueError(f"{file}, line {line}, column {column}: {value!r} {remedy}")
