"""Tiny-ImageNet-200 in its original layout: wnids.txt, words.txt, train/<wnid>/images/*.JPEG, val/images/*.JPEG.

Its test images have no labels: the validation images are the test split. Classes are in the order of wnids.txt. Boxes
(train/<wnid>/<wnid>_boxes.txt, val/val_annotations.txt) are x1, y1, x2, y2 in pixels with inclusive ends, so that
0, 0, 63, 63 is the whole image; ends are moved by one here.
"""

from __future__ import annotations

import os
from pathlib import Path

from lchp.data.files import read_utf8
from lchp.data.records import Dataset, ImageRecord, PixelBox, PixelBoxes

VAL_ANNOTATIONS = "val/val_annotations.txt"
"""Holds, tab-separated, a validation image's name, its class and its box: the labels are read without the box."""


def read_tiny_imagenet(root: Path) -> Dataset:
    """The images and labels below ``root``; of val_annotations.txt only names and classes are read."""
    wnids = read_utf8(root / "wnids.txt").split()
    index = {wnid: number for number, wnid in enumerate(wnids)}
    train = []
    for wnid in wnids:
        folder = root / "train" / wnid / "images"
        if not folder.is_dir():
            raise ValueError(f"{folder} is missing: wnids.txt names {wnid}; restore the folder or remove the line")
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(".JPEG"))
        train += [ImageRecord(f"train/{wnid}/images/{name}", index[wnid]) for name in names]
    test = []
    for number, (name, wnid, *_) in _annotations(root / VAL_ANNOTATIONS, 2):
        if wnid not in index:
            raise ValueError(
                f"{root / VAL_ANNOTATIONS}, line {number}: class {wnid!r} is not in wnids.txt: "
                "add it or remove the line"
            )
        path = f"val/images/{name}"
        if not (root / path).is_file():
            raise ValueError(
                f"{root / VAL_ANNOTATIONS}, line {number}: {path} does not exist: put it back or remove the line"
            )
        test.append(ImageRecord(path, index[wnid]))
    return Dataset("tiny-imagenet", root, _class_names(root, wnids), tuple(train), tuple(test))


def read_tiny_imagenet_boxes(root: Path) -> PixelBoxes | None:
    """The true boxes in pixels, one an image, ends exclusive; None where no box file is left at all."""
    boxes: PixelBoxes = {}
    files = sorted((root / "train").glob("*/*_boxes.txt"))
    for file in files:
        wnid = file.parent.name
        for number, (name, *corners) in _annotations(file, 5):
            boxes[f"train/{wnid}/images/{name}"] = [_box(file, number, corners[:4])]
    for number, (name, _, *corners) in _annotations(root / VAL_ANNOTATIONS, 2):
        if corners:
            boxes[f"val/images/{name}"] = [_box(root / VAL_ANNOTATIONS, number, corners[:4])]
    return boxes if files or boxes else None


def _box(file: Path, line: int, cells: list[str]) -> PixelBox:
    try:
        x1, y1, x2, y2 = (int(cell) for cell in cells)
    except ValueError:
        raise ValueError(
            f"{file}, line {line}: the box {cells} is not four whole numbers of pixels: correct it"
        ) from None
    return float(x1), float(y1), float(x2 + 1), float(y2 + 1)


def _class_names(root: Path, wnids: list[str]) -> tuple[str, ...]:
    """``<wnid> <first name>`` where words.txt has one, so that two classes of one name stay apart."""
    file = root / "words.txt"
    lines = read_utf8(file).splitlines() if file.is_file() else []
    words = {wnid: names.split(",")[0].strip() for wnid, _, names in (line.partition("\t") for line in lines)}
    return tuple(f"{wnid} {words[wnid]}" if words.get(wnid) else wnid for wnid in wnids)


def _annotations(file: Path, least: int) -> list[tuple[int, list[str]]]:
    """Line number and cells of every line, which must have at least ``least`` cells."""
    if not file.is_file():
        raise ValueError(
            f"{file} is missing: restore it from Tiny-ImageNet's archive (its labels are needed even without boxes)"
        )
    lines = []
    for number, line in enumerate(read_utf8(file).splitlines(), 1):
        cells = line.split("\t")
        if line.strip() and len(cells) < least:
            raise ValueError(f"{file}, line {number}: {line!r} has fewer than {least} tab-separated cells: correct it")
        if line.strip():
            lines.append((number, cells))
    return lines
