"""From a dataset's configuration to its images and labels, and, apart from them, to its true boxes.

``open_dataset`` never opens a box file: it works where those are deleted. ``read_true_boxes`` is for evaluation only.
Records are in the order of their paths, whatever order the files or the file system have.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from lchp.data.archives import extracted, is_archive
from lchp.data.config import (
    CubDataset,
    DatasetConfig,
    ImageNetDataset,
    SyntheticDataset,
    TableDataset,
    TinyImageNetDataset,
)
from lchp.data.cub import read_cub, read_cub_boxes
from lchp.data.imagenet import read_imagenet, read_imagenet_boxes
from lchp.data.loader import image_size
from lchp.data.once import build_once
from lchp.data.progress import progress
from lchp.data.records import Dataset, ImageRecord, PixelBox, PixelBoxes, TrueBoxes, by_path
from lchp.data.table import read_table, read_table_boxes
from lchp.data.tiny_imagenet import read_tiny_imagenet, read_tiny_imagenet_boxes

EXPECTED = {
    "cub": "a folder with images/, images.txt, classes.txt, image_class_labels.txt, train_test_split.txt, or its .tgz",
    "tiny-imagenet": "a folder with wnids.txt, train/ and val/, or its archive",
    "imagenet": "the folder that holds ILSVRC/Data/CLS-LOC/{train,val}",
    "table": "a CSV file with the columns path,label,split and, where known, x1,y1,x2,y2",
}


def open_dataset(config: DatasetConfig, cache: Path) -> Dataset:
    """The images and labels of a dataset; archives are extracted and synthetic sets drawn into ``cache`` once.

    Raises ValueError, naming kind, path and remedy, where the dataset is missing or its files contradict each other.
    """
    match config:
        case SyntheticDataset():
            dataset = read_table(_drawn(config, cache), name="synthetic")
        case TableDataset():
            dataset = read_table(_given(config))
        case CubDataset():
            dataset = read_cub(_root(config, cache, "images.txt"))
        case TinyImageNetDataset():
            dataset = read_tiny_imagenet(_root(config, cache, "wnids.txt"))
        case ImageNetDataset():
            dataset = read_imagenet(_root(config, cache, "Data/CLS-LOC/train"))
    for split in ("train", "test"):
        if not getattr(dataset, split):
            raise ValueError(
                f"dataset {config.kind} at {dataset.root}: no {split} images; expected {EXPECTED.get(config.kind)}"
            )
    return replace(dataset, train=by_path(dataset.train), test=by_path(dataset.test))


def read_pixel_boxes(config: DatasetConfig, dataset: Dataset, records: Iterable[ImageRecord]) -> PixelBoxes | None:
    """The true boxes of ``records`` as written, in pixels with exclusive ends, neither clipped nor checked.

    None where the dataset has no box file at all. Tiny-ImageNet's inclusive ends are already moved by one.
    """
    match config:
        case SyntheticDataset():
            boxes = read_table_boxes(dataset.root / SYNTHETIC_TABLE)
        case TableDataset():
            boxes = read_table_boxes(_given(config))
        case CubDataset():
            boxes = read_cub_boxes(dataset.root)
        case TinyImageNetDataset():
            boxes = read_tiny_imagenet_boxes(dataset.root)
        case ImageNetDataset():
            return read_imagenet_boxes(dataset, records)
    return None if boxes is None else {record.path: boxes[record.path] for record in records if record.path in boxes}


def read_true_boxes(config: DatasetConfig, dataset: Dataset, records: Iterable[ImageRecord]) -> TrueBoxes | None:
    """The true boxes of ``records``: float64 corners in [0, 1] of the image, shape (k, 4), overhanging ones clipped.

    Pixels are divided by the size in the image's header. Images without a box are absent; None where the dataset has no
    box file at all. A box with no area inside its image raises ValueError, except in ImageNet, where it is left out
    (``lchp data check`` counts those).
    """
    pixels = read_pixel_boxes(config, dataset, records)
    if pixels is None:
        return None
    true_boxes: TrueBoxes = {}
    for path, boxes in progress(pixels.items(), "reading image sizes", len(pixels)):
        width, height = image_size(dataset.root / path)
        inside = [corners for box in boxes if (corners := clipped(box, width, height)) is not None]
        if len(inside) < len(boxes) and not isinstance(config, ImageNetDataset):
            outside = next(box for box in boxes if clipped(box, width, height) is None)
            raise ValueError(
                f"{dataset.root / path}: the true box {outside} has no area inside the image of {width} x {height} "
                "pixels: correct or remove it"
            )
        if inside:
            true_boxes[path] = torch.tensor(inside, dtype=torch.float64)
    return true_boxes


def clipped(box: PixelBox, width: int, height: int) -> PixelBox | None:
    """The part of a pixel box inside its image, as corners in [0, 1]; None where there is none."""
    x1, x2 = (min(max(x / width, 0.0), 1.0) for x in (box[0], box[2]))
    y1, y2 = (min(max(y / height, 0.0), 1.0) for y in (box[1], box[3]))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


SYNTHETIC_TABLE = "dataset.csv"


def _drawn(config: SyntheticDataset, cache: Path) -> Path:
    from lchp.data import synthetic  # loaded only by those who draw

    # The drawing code is part of the identity: a set drawn by another version is never taken for this one.
    code = hashlib.sha256(Path(synthetic.__file__).read_bytes()).hexdigest()
    identity = json.dumps([code, config.model_dump(mode="json")], sort_keys=True)
    folder = cache / "synthetic" / hashlib.sha256(identity.encode()).hexdigest()[:16]
    return build_once(folder, lambda part: synthetic.draw_dataset(config, part)) / SYNTHETIC_TABLE


def _given(config: CubDataset | TinyImageNetDataset | ImageNetDataset | TableDataset) -> Path:
    """The configured path, which must exist."""
    if config.path is None or not config.path.exists():
        found = "no path is given" if config.path is None else f"{config.path} does not exist"
        raise _missing(config.kind, found)
    if isinstance(config, TableDataset) and not config.path.is_file():
        raise _missing(config.kind, f"{config.path} is not a file")
    return config.path


def _root(config: CubDataset | TinyImageNetDataset | ImageNetDataset, cache: Path, marker: str) -> Path:
    """The folder that holds ``marker``: the configured one, or the only such folder right inside it."""
    path = _given(config)
    folder = path
    if path.is_file():
        if isinstance(config, ImageNetDataset) or not is_archive(path):
            raise _missing(
                config.kind,
                f"{path} is not a folder" if isinstance(config, ImageNetDataset) else f"{path} is no archive",
            )
        folder = extracted(path, cache)
    if (folder / marker).exists():
        return folder
    inner = [child for child in sorted(folder.iterdir()) if (child / marker).exists()]
    if len(inner) != 1:
        raise _missing(
            config.kind,
            f"{path} holds {len(inner) or 'no'} folders with {marker}" if inner else f"{path} holds no {marker}",
        )
    return inner[0]


def _missing(kind: str, found: str) -> ValueError:
    return ValueError(f"dataset {kind}: {found}. Give --data PATH or dataset.path; expected {EXPECTED[kind]}")
