"""The picture of a trial: the boxes that it predicts on some test images.

It is drawn for every trial, by the process that trained it, and so without matplotlib and pandas, which take a second
to import and another to lay a picture out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lchp.store.per_image import IOU, METHOD, PATH, SPLIT, box_of
from lchp.vocabulary import BEST, CHANGED, LCHP_R, METHODS, PSEUDO_LABEL, RANDOM, TEST, TRUTH_COLOUR, WORST

TRUTH = "truth"
COLOURS = {name: method.colour for name, method in METHODS.items() if method.colour} | {TRUTH: TRUTH_COLOUR}
"""Of boxes on photographs: a method's own, and the truth's red."""

Box = tuple[float, float, float, float]
Boxes = Mapping[str, Sequence[Box]]
_TRUTH = (TRUTH.capitalize(), TRUTH_COLOUR)
"""In a legend."""

_ACROSS = 4
_SIDE, _GAP, _CAPTION, _LEGEND = 312, 18, 22, 44
"""Pixels: the longer side of a photograph, what is between two, the heights of a caption and of the legend."""
_LINE = 3


def draw_predictions(
    per_image: Iterable[Mapping[str, str]],
    root: Path,
    out: Path,
    count: int = 12,
    seed: int = 0,
    truth: Boxes | None = None,
    choice: str = RANDOM,
) -> None:
    """Draw the boxes of every method that has a colour on test images.

    Args:
        per_image: the rows of per_image.csv of a trial (boxes in pixels of the original image).
        root: the folder that the paths in ``per_image`` start from.
        out: the picture (.png).
        count: images drawn; all where there are fewer.
        seed: chooses among all of them, where ``choice`` is ``random``.
        truth: the true boxes in pixels, any number an image; None where none are known.
        choice: of ``PICTURED``.

    Raises:
        ValueError: ``per_image`` has no test image, or none by whose IoU one could choose.
    """
    by_path: dict[str, list[Mapping[str, str]]] = {}
    for row in per_image:
        if row[SPLIT] == TEST and row[METHOD] in COLOURS:
            by_path.setdefault(row[PATH], []).append(row)
    paths = list(by_path)
    if not paths:
        raise ValueError("per_image.csv has no boxes on the test split: nothing to draw")
    chosen = _chosen(by_path, choice, count, seed)
    cells = []
    for path in chosen:
        boxes = [(TRUTH_COLOUR, box) for box in (truth or {}).get(path, ())]
        boxes += [(COLOURS[row[METHOD]], box_of(row)) for row in by_path[path]]
        cells.append((root / path, _caption(by_path[path]), boxes))
    names = [name for name in COLOURS if any(row[METHOD] == name for row in by_path[paths[0]])]
    legend = [(METHODS[name].title, COLOURS[name]) for name in names]
    _draw_cells(cells, [*legend, *([_TRUTH] if any((truth or {}).values()) else [])], out)


def draw_moved(
    images: Sequence[tuple[str, tuple[float, float], Sequence[Box]]],
    names: tuple[str, str],
    root: Path,
    out: Path,
    truth: Boxes | None = None,
) -> None:
    """Draw images of which two results, of these names, have other boxes.

    Args:
        images: the path of each, its IoU by either result, and the box of either.
        root, out, truth: as of :func:`draw_predictions`.
    """
    colours = COLOURS[PSEUDO_LABEL], COLOURS[LCHP_R]
    cells = [
        (
            root / path,
            f"IoU {ious[0]:.2f} \N{RIGHTWARDS ARROW} {ious[1]:.2f}",
            [*((TRUTH_COLOUR, box) for box in (truth or {}).get(path, ())), *zip(colours, boxes, strict=True)],
        )
        for path, ious, boxes in images
    ]
    legend = [*zip(names, colours, strict=True), *([_TRUTH] if any((truth or {}).values()) else [])]
    _draw_cells(cells, legend, out)


def _draw_cells(
    cells: Sequence[tuple[Path, str, Sequence[tuple[str, Box]]]], legend: Sequence[tuple[str, str]], out: Path
) -> None:
    """Draw photographs, each with its caption and its boxes in their colours, above a legend of titles and colours."""
    wide, high = _SIDE + _GAP, _SIDE + _CAPTION + _GAP
    sheet = Image.new("RGB", (_ACROSS * wide, -(-len(cells) // _ACROSS) * high + _LEGEND), "white")
    for place, cell in enumerate(cells):
        corner = place % _ACROSS * wide + _GAP // 2, place // _ACROSS * high + _GAP // 2
        _draw_cell(sheet, corner, *cell)
    _draw_legend(sheet, legend)
    sheet.save(out, "PNG", compress_level=1)


def draw_panels(panels: Sequence[tuple[str, Image.Image, Sequence[tuple[float, ...]]]], out: Path) -> None:
    """Draw square pictures under their captions side by side, each with boxes, corners in [0, 1] of it."""
    sheet = Image.new("RGB", (len(panels) * (_SIDE + _GAP), _SIDE + _CAPTION + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (caption, picture, boxes) in enumerate(panels):
        left, top = place * (_SIDE + _GAP) + _GAP // 2, _CAPTION + _GAP // 2
        how = Image.Resampling.NEAREST if picture.width < _SIDE else Image.Resampling.BILINEAR
        sheet.paste(picture.convert("RGB").resize((_SIDE, _SIDE), how), (left, top))
        pen.text((left + _SIDE / 2, top - _CAPTION / 2), caption, "black", ImageFont.load_default(14), anchor="mm")
        for x1, y1, x2, y2 in boxes:
            start, end = (left + x1 * _SIDE, top + y1 * _SIDE), (left + x2 * _SIDE - 1, top + y2 * _SIDE - 1)
            pen.rectangle((*start, *end), outline=COLOURS[PSEUDO_LABEL], width=_LINE)
    sheet.save(out, "PNG", compress_level=1)


def _chosen(by_path: Mapping[str, Sequence[Mapping[str, str]]], choice: str, count: int, seed: int) -> list[str]:
    """The images that are drawn, in the order in which they are."""
    paths = list(by_path)
    if choice == RANDOM:
        drawn = np.random.default_rng(seed).choice(len(paths), min(count, len(paths)), replace=False)
        return [paths[number] for number in np.sort(drawn)]
    ious = {path: {row[METHOD]: float(row[IOU]) for row in rows if row[IOU]} for path, rows in by_path.items()}
    wanted = [LCHP_R, PSEUDO_LABEL] if choice == CHANGED else [LCHP_R]
    known = [path for path in paths if all(name in ious[path] for name in wanted)]
    if not known:
        titles = " and ".join(METHODS[name].title for name in wanted)
        raise ValueError(f"no test image has an IoU of {titles}, by which {choice} ones are chosen: draw random ones")
    places: dict[str, Callable[[str], float]] = {
        BEST: lambda path: -ious[path][LCHP_R],
        WORST: lambda path: ious[path][LCHP_R],
        CHANGED: lambda path: -abs(ious[path][LCHP_R] - ious[path][PSEUDO_LABEL]),
    }
    return sorted(known, key=places[choice])[:count]


def _draw_cell(
    sheet: Image.Image,
    corner: tuple[int, int],
    photo: Path,
    caption: str,
    boxes: Sequence[tuple[str, Box]],
) -> None:
    """One photograph under its caption, in the middle of its cell, whose top left is at ``corner``."""
    with Image.open(photo) as image:
        scale = _SIDE / max(image.size)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        # Pixels of small images stay squares.
        how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
        pixels = image.convert("RGB").resize(size, how, reducing_gap=2.0)
    left, top = corner[0] + (_SIDE - size[0]) // 2, corner[1] + _CAPTION + (_SIDE - size[1]) // 2
    sheet.paste(pixels, (left, top))
    pen = ImageDraw.Draw(sheet)
    middle = corner[0] + _SIDE / 2, top - _CAPTION / 2
    pen.text(middle, caption, "black", ImageFont.load_default(14), anchor="mm")
    for colour, (x1, y1, x2, y2) in boxes:
        # The middle of a line lies on the box's edge; Pillow counts the last pixel in.
        start = [round(at + scale * value - _LINE / 2) for at, value in ((left, x1), (top, y1))]
        end = [round(at + scale * value + _LINE / 2) - 1 for at, value in ((left, x2), (top, y2))]
        pen.rectangle((*start, *end), outline=colour, width=_LINE)


def _caption(rows: Iterable[Mapping[str, str]]) -> str:
    known = {row[METHOD]: float(row[IOU]) for row in rows if row[IOU]}
    shown = [f"{METHODS[name].short} {known[name]:.2f}" for name in METHODS if name in known]
    return "IoU " + "  ".join(shown) if shown else ""


def _draw_legend(sheet: Image.Image, named: Sequence[tuple[str, str]]) -> None:
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    mark, space = 34, 26
    lengths = [mark + 8 + pen.textlength(title, font) for title, _ in named]
    x, y = (sheet.width - sum(lengths) - space * (len(named) - 1)) / 2, sheet.height - _LEGEND / 2
    for (title, colour), length in zip(named, lengths, strict=True):
        pen.line((x, y, x + mark, y), colour, width=_LINE + 1)
        pen.text((x + mark + 8, y), title, "black", font, anchor="lm")
        x += length + space
