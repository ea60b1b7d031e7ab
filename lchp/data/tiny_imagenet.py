"""Tiny-ImageNet-200 in its original layout: wnids.txt, words.txt, train/<wnid>/images/*.JPEG, val/images/*.JPEG.

Its test images have no labels: the validation images are the test split, also where they lie sorted into val/<wnid>/,
val/<wnid>/images/ or val/images/<wnid>/, as long as val_annotations.txt is there. Classes are in the order of
wnids.txt. Boxes (train/<wnid>/<wnid>_boxes.txt, val/val_annotations.txt) are x1, y1, x2, y2 in pixels with inclusive
ends, so that 0, 0, 63, 63 is the whole image; ends are moved by one here.
"""

from __future__ import annotations

from pathlib import Path

from lchp.data.listing import Folder, lines, scan
from lchp.data.records import Dataset, ImageRecord, PixelBox, PixelBoxes, Records

ORIGIN = "Tiny-ImageNet's archive"
WNIDS = "wnids.txt"
VAL_ANNOTATIONS = "val/val_annotations.txt"
"""Holds, tab-separated, a validation image's name, its class and its box: the labels are read without the box."""


def read(root: Path, /) -> Dataset:
    """The images and labels below ``root``; of val_annotations.txt only names and classes are read."""
    wnids = _wnids(root / WNIDS)
    index = {wnid: number for number, wnid in enumerate(wnids)}
    train: list[ImageRecord] = []
    left_out: list[str] = []
    for wnid in index:
        place = f"train/{wnid}/images"
        if not (root / place).is_dir():
            raise ValueError(f"{root / place} is missing: {WNIDS} names {wnid}; restore the folder or remove the line")
        found = scan(root / place)
        train += [ImageRecord(f"{place}/{name}", index[wnid]) for name in found.images]
        left_out += [f"{place}/{name}" for name in (*found.folders, *found.others)]
    left_out += [f"train/{name}" for name in scan(root / "train").folders if name not in index]
    test = []
    at_hand = scan(root / "val/images") if (root / "val/images").is_dir() else Folder()
    images = set(at_hand.images)
    for number, (name, wnid, *_) in _annotations(root / VAL_ANNOTATIONS, 2):
        if wnid not in index:
            raise ValueError(
                f"{root / VAL_ANNOTATIONS}, line {number}: class {wnid!r} is not in {WNIDS}: add it or remove the line"
            )
        path = f"val/images/{name}" if name in images else _sorted_path(root, name, wnid)
        test.append(ImageRecord(path, index[wnid]))
    listed = {record.path for record in test}
    paths = (f"val/images/{name}" for name in (*at_hand.images, *at_hand.others))
    left_out += [path for path in paths if path not in listed]
    return Dataset.of("tiny-imagenet", root, _class_names(root, wnids), train, test, root, left_out=tuple(left_out))


def read_boxes(dataset: Dataset, records: Records, _cache: Path | None = None, /) -> PixelBoxes | None:
    """The true boxes in pixels, one an image, ends exclusive; None where no box file is left at all."""
    root = dataset.root
    boxes: PixelBoxes = {}
    files = sorted((root / "train").glob("*/*_boxes.txt"))
    for file in files:
        wnid = file.parent.name
        for number, (name, *corners) in _annotations(file, 5):
            boxes[f"train/{wnid}/images/{name}"] = [_box(file, number, corners[:4])]
    paths = {record.path.rpartition("/")[2]: record.path for record in dataset.test}
    for number, (name, _, *corners) in _annotations(root / VAL_ANNOTATIONS, 2):
        if corners and name in paths:
            boxes[paths[name]] = [_box(root / VAL_ANNOTATIONS, number, corners[:4])]
    return boxes if files or boxes else None


def _sorted_path(root: Path, name: str, wnid: str) -> str:
    """The path of a validation image that is not in val/images/: many sort them into a folder a class."""
    sorted_paths = (f"val/{wnid}/images/{name}", f"val/{wnid}/{name}", f"val/images/{wnid}/{name}")
    return next((path for path in sorted_paths if (root / path).is_file()), f"val/images/{name}")


def _wnids(file: Path) -> list[str]:
    """The class ids; each names a folder, so none may lead elsewhere."""
    found = []
    for number, line in lines(file, ORIGIN):
        for wnid in line.split():
            if "/" in wnid or "\\" in wnid or wnid in (".", ".."):
                raise ValueError(f"{file}, line {number}: {wnid!r} is not the name of a folder in train: correct it")
            found.append(wnid)
    if not found:
        raise ValueError(f"{file} names no class: restore it from {ORIGIN}")
    return found


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
    named = (line.partition("\t") for _, line in lines(file, ORIGIN)) if file.is_file() else ()
    words = {wnid.strip(): names.split(",")[0].strip() for wnid, _, names in named}
    return tuple(f"{wnid} {words[wnid]}" if words.get(wnid) else wnid for wnid in wnids)


def _annotations(file: Path, least: int) -> list[tuple[int, list[str]]]:
    """Line number and cells of every line, which must have at least ``least`` cells."""
    found = []
    for number, line in lines(file, f"{ORIGIN} (labels are needed even without boxes)"):
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) < least:
            raise ValueError(f"{file}, line {number}: {line!r} has fewer than {least} tab-separated cells: correct it")
        found.append((number, cells))
    return found
