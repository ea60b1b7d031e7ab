"""Small drawn datasets in the original layouts, for every test that needs one.

Every image is noise with one coloured rectangle; its colour is its class, its place and size are drawn. Counts are per
class. Boxes are whole pixels. Each function gives back what ``dataset.path`` should be.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ((230, 30, 30), (30, 60, 230), (30, 200, 60), (230, 210, 30))
Box = tuple[int, int, int, int]


def draw_image(file: Path, label: int, size: tuple[int, int], random: np.random.Generator) -> Box:
    """One image of ``size`` (width, height); gives the rectangle's box in pixels, ends exclusive."""
    width, height = size
    pixels = random.integers(60, 180, (height, width, 3)).astype(np.uint8)
    w, h = int(random.integers(width // 3, width * 2 // 3)), int(random.integers(height // 3, height * 2 // 3))
    x, y = int(random.integers(0, width - w + 1)), int(random.integers(0, height - h + 1))
    pixels[y : y + h, x : x + w] = COLOURS[label % len(COLOURS)]
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, "PNG" if file.suffix == ".png" else "JPEG", quality=95)
    return x, y, x + w, y + h


def _plan(classes: int, train: int, test: int) -> Iterator[tuple[int, str, int]]:
    """Class, split and number of every image."""
    for label in range(classes):
        for split, count in (("train", train), ("test", test)):
            yield from ((label, split, number) for number in range(count))


def draw_cub(
    folder: Path, classes: int = 2, train: int = 4, test: int = 3, size: tuple[int, int] = (80, 64), seed: int = 0
) -> Path:
    """CUB-200-2011's layout; class ids have gaps (1, 3, 5, ...), as in a subset."""
    random = np.random.default_rng(seed)
    lines: dict[str, list[str]] = {
        name: [] for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes")
    }
    names = {label: f"{2 * label + 1:03d}.Bird_{label}" for label in range(classes)}
    for image_id, (label, split, number) in enumerate(_plan(classes, train, test), 1):
        name = f"{names[label]}/Bird_{label}_{split}_{number}.jpg"
        x1, y1, x2, y2 = draw_image(folder / "images" / name, label, size, random)
        lines["images"].append(f"{image_id} {name}")
        lines["image_class_labels"].append(f"{image_id} {2 * label + 1}")
        lines["train_test_split"].append(f"{image_id} {int(split == 'train')}")
        lines["bounding_boxes"].append(f"{image_id} {x1:.1f} {y1:.1f} {x2 - x1:.1f} {y2 - y1:.1f}")
    lines["classes"] = [f"{2 * label + 1} {name}" for label, name in names.items()]
    for stem, text in lines.items():
        (folder / f"{stem}.txt").write_text("\n".join(text) + "\n", encoding="utf-8")
    return folder


def draw_tiny_imagenet(
    folder: Path, classes: int = 2, train: int = 4, test: int = 3, size: tuple[int, int] = (64, 64), seed: int = 0
) -> Path:
    """Tiny-ImageNet-200's layout; the test images are its validation images."""
    random = np.random.default_rng(seed)
    wnids = [f"n{90 - label:08d}" for label in range(classes)]
    boxes: dict[str, list[str]] = {wnid: [] for wnid in wnids}
    annotations = []
    for place, (label, split, number) in enumerate(_plan(classes, train, test)):
        wnid = wnids[label]
        name = f"{wnid}_{number}.JPEG" if split == "train" else f"val_{place}.JPEG"
        file = folder / "train" / wnid / "images" / name if split == "train" else folder / "val/images" / name
        x1, y1, x2, y2 = draw_image(file, label, size, random)
        corners = f"{x1}\t{y1}\t{x2 - 1}\t{y2 - 1}"
        if split == "train":
            boxes[wnid].append(f"{name}\t{corners}")
        else:
            annotations.append(f"{name}\t{wnid}\t{corners}")
    for wnid, text in boxes.items():
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("\n".join(text) + "\n", encoding="utf-8")
    (folder / "val/val_annotations.txt").write_text("\n".join(annotations) + "\n", encoding="utf-8")
    (folder / "wnids.txt").write_text("\n".join(wnids) + "\n", encoding="utf-8")
    words = [f"{wnid}\tthing {label}, Res {label}" for label, wnid in enumerate(wnids)]
    (folder / "words.txt").write_text("\n".join([*words, "n99999999\tnothing"]) + "\n", encoding="utf-8")
    return folder


def draw_imagenet(
    folder: Path, classes: int = 2, train: int = 4, test: int = 3, size: tuple[int, int] = (80, 64), seed: int = 0
) -> Path:
    """ImageNet-1k's layout, with annotations for every image and without Kaggle's CSV files."""
    random = np.random.default_rng(seed)
    for place, (label, split, number) in enumerate(_plan(classes, train, test), 1):
        wnid = f"n{label + 10:08d}"
        name = f"train/{wnid}/{wnid}_{number}" if split == "train" else f"val/ILSVRC2012_val_{place:08d}"
        box = draw_image(folder / "ILSVRC/Data/CLS-LOC" / f"{name}.JPEG", label, size, random)
        write_annotation(folder / "ILSVRC/Annotations/CLS-LOC" / f"{name}.xml", [(wnid, box)])
    return folder


def write_annotation(file: Path, objects: list[tuple[str, Box]]) -> None:
    """An ImageNet annotation with the given (wnid, box in pixels) objects."""
    text = "".join(
        f"<object><name>{wnid}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for wnid, (x1, y1, x2, y2) in objects
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"<annotation>{text}</annotation>", encoding="utf-8")


def draw_table(
    folder: Path, classes: int = 2, train: int = 4, test: int = 3, size: tuple[int, int] = (80, 64), seed: int = 0
) -> Path:
    """A folder of PNG images and ``table.csv`` with one box an image."""
    random = np.random.default_rng(seed)
    rows: list[tuple[object, ...]] = [("path", "label", "split", "x1", "y1", "x2", "y2")]
    for label, split, number in _plan(classes, train, test):
        name = f"pictures/{label}_{split}_{number}.png"
        rows.append((name, f"class {label}", split, *draw_image(folder / name, label, size, random)))
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return folder / "table.csv"
