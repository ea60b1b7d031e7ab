"""ImageNet-1k (ILSVRC): Data/CLS-LOC/{train/<wnid>,val}/*.JPEG and Annotations/CLS-LOC/{train/<wnid>,val}/*.xml.

The validation images are the test split (the test images' labels are not public). Their labels come from
LOC_val_solution.csv beside or inside ILSVRC (as Kaggle packs it), else from the object names of their annotations.
Classes are the training folders in alphabetical order. Boxes are xmin, ymin, xmax, ymax as written, in pixels, read as
continuous corners with exclusive ends (no + 1); several an image.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from lchp.data.files import read_utf8
from lchp.data.progress import progress
from lchp.data.records import Dataset, ImageRecord, PixelBox, PixelBoxes

DATA = "Data/CLS-LOC"
ANNOTATIONS = "Annotations/CLS-LOC"


def read_imagenet(root: Path) -> Dataset:
    """The images and labels below ``root``, the folder ILSVRC. Errors name file, value and remedy."""
    wnids = sorted(_entries(root / DATA / "train", folders=True))
    index = {wnid: number for number, wnid in enumerate(wnids)}
    train = [
        ImageRecord(f"{DATA}/train/{wnid}/{name}", label)
        for wnid, label in index.items()
        for name in sorted(_entries(root / DATA / "train" / wnid, folders=False))
    ]
    names = sorted(_entries(root / DATA / "val", folders=False))
    labels = _val_labels(root, names)
    unknown = next((name for name in names if labels[name] not in index), None)
    if unknown is not None:
        raise ValueError(
            f"{root / DATA / 'val' / unknown}: its class {labels[unknown]} has no folder in {root / DATA / 'train'}: "
            "add the folder or remove the image"
        )
    test = [ImageRecord(f"{DATA}/val/{name}", index[labels[name]]) for name in names]
    return Dataset("imagenet", root, _class_names(root, wnids), tuple(train), tuple(test))


def read_imagenet_boxes(dataset: Dataset, records: Iterable[ImageRecord]) -> PixelBoxes | None:
    """The true boxes of ``records`` in pixels: objects of the image's own class. None where there are no annotations.

    Images without an annotation (about half of the training images) are absent.
    """
    if not (dataset.root / ANNOTATIONS).is_dir():
        return None
    boxes: PixelBoxes = {}
    for record in progress(records, "reading annotations"):
        file = _annotation(dataset.root, record.path)
        wnid = dataset.classes[record.label].split(" ")[0]
        if file.is_file() and (found := [_box(file, item) for item in _objects(file) if _wnid(file, item) == wnid]):
            boxes[record.path] = found
    return boxes


def _val_labels(root: Path, names: list[str]) -> dict[str, str]:
    """The wnid of every validation image."""
    for file in (root.parent / "LOC_val_solution.csv", root / "LOC_val_solution.csv"):
        if file.is_file():
            rows = csv.DictReader(read_utf8(file).splitlines())
            solution = {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
            missing = next((name for name in names if PurePosixPath(name).stem not in solution), None)
            if missing is not None:
                raise ValueError(f"{file}: no line for validation image {missing}: restore the file")
            return {name: solution[PurePosixPath(name).stem] for name in names}
    labels = {}
    for name in progress(names, "reading validation labels"):
        file = _annotation(root, f"{DATA}/val/{name}")
        if not file.is_file():
            raise ValueError(
                f"{file} is missing, and so is {root.parent / 'LOC_val_solution.csv'}: "
                "the labels of the validation images come from one of the two; put one back"
            )
        first = next(iter(_objects(file)), None)
        if first is None:
            raise ValueError(f"{file} holds no object: restore it from ImageNet's archive")
        labels[name] = _wnid(file, first)
    return labels


def _annotation(root: Path, image: str) -> Path:
    return (root / ANNOTATIONS / PurePosixPath(image).relative_to(DATA)).with_suffix(".xml")


def _objects(file: Path) -> list[ElementTree.Element]:
    try:
        return ElementTree.parse(file).getroot().findall("object")
    except ElementTree.ParseError as error:
        raise ValueError(f"{file} is not an annotation in XML ({error}): restore it from ImageNet's archive") from error


def _wnid(file: Path, item: ElementTree.Element) -> str:
    name = item.findtext("name")
    if not name:
        raise ValueError(f"{file}: an object has no name: restore it from ImageNet's archive")
    return name.strip()


def _box(file: Path, item: ElementTree.Element) -> PixelBox:
    try:
        x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{corner}", "")) for corner in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError as error:
        raise ValueError(f"{file}: an object has no box of four numbers: restore it from ImageNet's archive") from error
    return x1, y1, x2, y2


def _class_names(root: Path, wnids: list[str]) -> tuple[str, ...]:
    """``<wnid> <first name>`` where Kaggle's LOC_synset_mapping.txt lies beside ILSVRC, else the wnid."""
    file = root.parent / "LOC_synset_mapping.txt"
    lines = read_utf8(file).splitlines() if file.is_file() else []
    words = {wnid: names.split(",")[0].strip() for wnid, _, names in (line.partition(" ") for line in lines)}
    return tuple(f"{wnid} {words[wnid]}" if words.get(wnid) else wnid for wnid in wnids)


def _entries(folder: Path, folders: bool) -> list[str]:
    """The names of the folders, or of the images, right inside ``folder``."""
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is missing: expected ILSVRC/{DATA}/train/<wnid>/*.JPEG and ILSVRC/{DATA}/val/*.JPEG"
        )
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if (entry.is_dir() if folders else entry.name.endswith(".JPEG"))]
