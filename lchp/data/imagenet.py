"""ImageNet-1k (ILSVRC): Data/CLS-LOC/{train/<wnid>,val}/*.JPEG and Annotations/CLS-LOC/{train/<wnid>,val}/*.xml.

The validation images are the test split (the test images' labels are not public). Their labels come from
LOC_val_solution.csv beside or inside ILSVRC (as Kaggle packs it), else from the object names of their annotations;
those that lie sorted in val/<wnid>/ have that label. Classes are the training folders in alphabetical order. Boxes are
xmin, ymin, xmax, ymax as written, in pixels, read as continuous corners with exclusive ends (no + 1); several an image.
"""

from __future__ import annotations

import csv
import hashlib
import os
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from lchp.data.identities import state_of
from lchp.data.listing import Folder, columns_are, lines, scan
from lchp.data.progress import progress
from lchp.data.records import Boxes, Dataset, ImageRecord, PixelBox, Records
from lchp.data.remembered import remembered_boxes

DATA = "Data/CLS-LOC"
ANNOTATIONS = "Annotations/CLS-LOC"
SOLUTION = "LOC_val_solution.csv"
ORIGIN, KAGGLE = "ImageNet's archive", "Kaggle's archive"
BOXES_VERSION = 1
"""Of what is taken from an annotation; boxes that another version remembered are read again."""


def read(root: Path, /) -> Dataset:
    """The images and labels below ``root``, the folder ILSVRC. Errors name file, value and remedy."""
    left_out: list[str] = []
    top = _scan(root, "train")
    wnids = top.folders
    left_out += [f"{DATA}/train/{name}" for name in (*top.images, *top.others)]
    index = {wnid: number for number, wnid in enumerate(wnids)}
    train = (
        ImageRecord(path, label) for wnid, label in index.items() for path in _images(root, f"train/{wnid}", left_out)
    )
    val = _scan(root, "val")
    left_out += [f"{DATA}/val/{name}" for name in val.others]
    labels = {f"{DATA}/val/{name}": wnid for name, wnid in _val_labels(root, val.images).items()}
    for wnid in val.folders:
        labels |= dict.fromkeys(_images(root, f"val/{wnid}", left_out), wnid)
    unknown = next((path for path, wnid in labels.items() if wnid not in index), None)
    if unknown is not None:
        raise ValueError(
            f"{root / unknown}: its class {labels[unknown]} has no folder in {root / DATA / 'train'}: "
            "add the folder or remove the image"
        )
    test = (ImageRecord(path, index[wnid]) for path, wnid in labels.items())
    dataset = Dataset.of("imagenet", root, _class_names(root, wnids), train, test, root)
    return replace(dataset, left_out=tuple(left_out))  # which grew while the images were listed


def read_boxes(dataset: Dataset, records: Records, cache: Path | None = None, /) -> Boxes | None:
    """The true boxes of ``records`` in pixels: objects of the image's own class. None where there are no annotations.

    About half of the training images have no annotation. Parsing takes minutes: ``cache`` remembers the boxes as long
    as no annotation changes.
    """
    if not (dataset.root / ANNOTATIONS).is_dir():
        return None

    def parse() -> Boxes:
        return Boxes.of(_boxes(dataset, record) for record in progress(records, "reading annotations", len(records)))

    return parse() if cache is None else remembered_boxes(cache, _state(dataset, records), len(records), parse)


def _boxes(dataset: Dataset, record: ImageRecord) -> list[PixelBox]:
    """The boxes of one image; none where it has no annotation."""
    file = _annotation(dataset.root, record.path)
    wnid = _wnid_of(dataset, record)
    return [_box(file, item) for item in _objects(file) if _wnid(file, item) == wnid] if file.is_file() else []


def _state(dataset: Dataset, records: Records) -> str:
    """What changes whenever the boxes of ``records`` may have: a digest of their classes and of the names, lengths and
    times of their annotations. None of these is opened, and of those that are not there nothing is asked.
    """
    digest = hashlib.sha256(f"{BOXES_VERSION}\n{dataset.root.resolve()}\n".encode(errors="surrogateescape"))
    wnids = [name.split(" ")[0] for name in dataset.classes]
    names = lru_cache(maxsize=1)(lambda folder: _names(dataset.root / folder))
    flat = names(f"{ANNOTATIONS}/val")
    prefix, below = f"{dataset.root}/", len(f"{DATA}/")
    for path, label in records:
        # As _annotation_path, a million times without asking the file system.
        folder, _, name = path[below : path.rindex(".")].rpartition("/")
        name += ".xml"
        if folder.startswith("val/") and name in flat:
            folder = "val"
        file, state = f"{ANNOTATIONS}/{folder}/{name}", "none"
        if name in names(f"{ANNOTATIONS}/{folder}"):
            with suppress(FileNotFoundError, NotADirectoryError):
                size, modified, changed = state_of(prefix + file)
                state = f"{size} {modified} {changed}"
        digest.update(f"{path}\0{wnids[label]}\0{file}\0{state}\n".encode())
    return digest.hexdigest()[:32]


def _names(folder: Path) -> frozenset[str]:
    """The names in a folder; none where there is no such folder."""
    return frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()  # noqa: PTH208 - a million names


def _wnid_of(dataset: Dataset, record: ImageRecord) -> str:
    return dataset.classes[record.label].split(" ")[0]


def _scan(root: Path, part: str) -> Folder:
    folder = root / DATA / part
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is missing: expected ILSVRC/{DATA}/train/<wnid>/*.JPEG and ILSVRC/{DATA}/val/*.JPEG"
        )
    return scan(folder)


def _images(root: Path, part: str, left_out: list[str]) -> list[str]:
    """The paths of the images of a class folder; what else lies there is added to ``left_out``."""
    found = _scan(root, part)
    left_out += [f"{DATA}/{part}/{name}" for name in (*found.folders, *found.others)]
    return [f"{DATA}/{part}/{name}" for name in found.images]


def _val_labels(root: Path, names: list[str]) -> dict[str, str]:
    """The wnid of every validation image that lies right in val/."""
    if not names:
        return {}
    for file in (root.parent / SOLUTION, root / SOLUTION):
        if file.is_file():
            solution = _solution(file)
            missing = next((name for name in names if PurePosixPath(name).stem not in solution), None)
            if missing is not None:
                raise ValueError(f"{file}: no line for validation image {missing}: restore the file")
            return {name: solution[PurePosixPath(name).stem] for name in names}
    labels = {}
    for name in progress(names, "reading validation labels"):
        file = _annotation(root, f"{DATA}/val/{name}")
        if not file.is_file():
            raise ValueError(
                f"{file} is missing, and so is {root.parent / SOLUTION}: "
                "the labels of the validation images come from one of the two; put one back"
            )
        first = next(iter(_objects(file)), None)
        if first is None:
            raise ValueError(f"{file} holds no object: restore it from {ORIGIN}")
        labels[name] = _wnid(file, first)
    return labels


def _solution(file: Path) -> dict[str, str]:
    """Stem of every validation image to its wnid, the first word of its PredictionString."""
    (first, header), *rows = lines(file, KAGGLE) or [(1, "")]
    columns = [cell.strip() for cell in next(csv.reader([header]))] if header else []
    wanted = ("ImageId", "PredictionString")
    missing = [column for column in wanted if column not in columns]
    if missing:
        raise ValueError(f"{file}, line {first}: {columns_are(missing)} missing: restore it from {KAGGLE}")
    image, prediction = (columns.index(column) for column in wanted)
    found: dict[str, str] = {}
    for number, line in rows:
        cells = next(csv.reader([line]))
        words = cells[prediction].split() if len(cells) == len(columns) else []
        if not words or not cells[image].strip():
            raise ValueError(
                f"{file}, line {number}: {line!r} does not give an image and its class: restore it from {KAGGLE}"
            )
        name = cells[image].strip()
        if found.setdefault(name, words[0]) != words[0]:
            raise ValueError(f"{file}, line {number}: {name} has class {found[name]} further up: keep one line")
    return found


def _annotation(root: Path, image: str) -> Path:
    """The annotation of an image. Those of val lie in one folder, sorted like the images, or both ways mixed."""
    return root / _annotation_path(root, image)


def _annotation_path(root: Path, image: str) -> str:
    name = image.removeprefix(f"{DATA}/").rpartition(".")[0]
    if name.startswith("val/"):
        flat = f"val/{name.rpartition('/')[2]}"
        if name != flat and (root / ANNOTATIONS / f"{flat}.xml").is_file():
            name = flat
    return f"{ANNOTATIONS}/{name}.xml"


def _objects(file: Path) -> list[ElementTree.Element]:
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"{file} is not an annotation in XML ({error}): restore it from {ORIGIN}") from error
    if root.tag != "annotation":
        raise ValueError(f"{file} is not an annotation, its root is <{root.tag}>: restore it from {ORIGIN}")
    return root.findall("object")


def _wnid(file: Path, item: ElementTree.Element) -> str:
    name = item.findtext("name", "").strip()
    if not name:
        raise ValueError(f"{file}: an object has no name: restore it from {ORIGIN}")
    return name


def _box(file: Path, item: ElementTree.Element) -> PixelBox:
    try:
        x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{corner}", "")) for corner in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError as error:
        raise ValueError(f"{file}: an object has no box of four numbers: restore it from {ORIGIN}") from error
    return x1, y1, x2, y2


def _class_names(root: Path, wnids: list[str]) -> tuple[str, ...]:
    """``<wnid> <first name>`` where Kaggle's LOC_synset_mapping.txt lies beside ILSVRC, else the wnid."""
    file = root.parent / "LOC_synset_mapping.txt"
    named = (line.partition(" ") for _, line in lines(file, KAGGLE)) if file.is_file() else ()
    words = {wnid: names.split(",")[0].strip() for wnid, _, names in named}
    return tuple(f"{wnid} {words[wnid]}" if words.get(wnid) else wnid for wnid in wnids)
