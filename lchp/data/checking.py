"""Reading a whole dataset once, to say what it holds, what is wrong with it, and what a guess would score."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lchp.data.config import DatasetConfig, SplitConfig
from lchp.data.digest import image_hashes
from lchp.data.loader import decode
from lchp.data.progress import progress
from lchp.data.reading import clipped, open_dataset, read_pixel_boxes
from lchp.data.records import Dataset, ImageRecord, PixelBoxes, Splits, TrueBoxes
from lchp.data.splits import split
from lchp.method.boxes import whole_view
from lchp.method.metrics import accuracy, best_iou, fit_centred_box

THREADS = 4
CHUNK = 64
"""Images that are handed to the threads at once: decoded ones do not pile up."""
SHOWN = 20
"""Problems that the text names; the rest is counted."""


@dataclass
class CheckReport:
    """What a dataset holds (``facts``), and what is wrong with it (``problems``): one line each."""

    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The report for people: the facts, then the problems, of which only the first are named."""
        shown = [f"  {problem}" for problem in self.problems[:SHOWN]]
        more = [f"  ... and {len(self.problems) - SHOWN} more"] if len(self.problems) > SHOWN else []
        heading = f"problems: {len(self.problems)}" if self.problems else "problems: none"
        return "\n".join([*self.facts, heading, *shown, *more])


def check(config: DatasetConfig, cache: Path, splits: SplitConfig | None = None) -> CheckReport:
    """Read everything: images decode, classes are filled, boxes are sane, no image is in two splits; and the floors.

    Raises ValueError where the dataset cannot be opened at all; everything else is a line of the report.
    """
    report = CheckReport()
    dataset = open_dataset(config, cache)
    report.facts.append(f"dataset {dataset.name} at {dataset.root}: {len(dataset.classes)} classes")
    drawn = _splits(dataset, splits or SplitConfig(), report)
    _count(dataset, drawn, report)
    sizes = _sizes(dataset, report)
    _find_duplicates(dataset, drawn, cache, report)
    try:
        boxes = read_pixel_boxes(config, dataset, (*dataset.train, *dataset.test))
    except ValueError as error:
        report.problems.append(str(error))
    else:
        _check_boxes(dataset, boxes, sizes, drawn, report)
    return report


def _splits(dataset: Dataset, config: SplitConfig, report: CheckReport) -> Splits:
    try:
        return split(dataset, config)
    except ValueError as error:
        report.problems.append(str(error))
        return Splits(dataset.train, (), dataset.test)


def _named(splits: Splits) -> tuple[tuple[str, tuple[ImageRecord, ...]], ...]:
    return ("train", splits.train), ("val", splits.val), ("test", splits.test)


def _count(dataset: Dataset, splits: Splits, report: CheckReport) -> None:
    for name, records in _named(splits):
        counts = Counter(record.label for record in records)
        a_class = [counts[label] for label in range(len(dataset.classes))]
        report.facts.append(f"{name}: {len(records)} images, {min(a_class)} to {max(a_class)} a class")
        empty = [dataset.classes[label] for label, count in enumerate(a_class) if count == 0]
        if name == "test" and empty:
            report.facts.append(f"test: no image of {len(empty)} classes: {', '.join(empty[:5])}")


def _sizes(dataset: Dataset, report: CheckReport) -> dict[str, tuple[int, int]]:
    """Width and height of every image that decodes."""
    sizes: dict[str, tuple[int, int]] = {}
    modes: Counter[str] = Counter()
    records = (*dataset.train, *dataset.test)
    with ThreadPoolExecutor(THREADS) as pool:
        for record, found in progress(_decoded(pool, dataset.root, records), "decoding", len(records)):
            if isinstance(found, ValueError):
                report.problems.append(str(found))
            else:
                width, height, mode = found
                sizes[record.path] = width, height
                modes[mode] += 1
    named = ", ".join(f"{count} {mode}" for mode, count in modes.most_common())
    report.facts.append(f"images that decode: {len(sizes)} of {len(records)} (stored as {named or 'nothing'})")
    return sizes


Found = tuple[int, int, str] | ValueError


def _decoded(
    pool: ThreadPoolExecutor, root: Path, records: Sequence[ImageRecord]
) -> Iterator[tuple[ImageRecord, Found]]:
    def one(record: ImageRecord) -> tuple[ImageRecord, Found]:
        file = root / record.path
        try:
            _, height, width = decode(file).shape
        except ValueError as error:
            return record, error
        with Image.open(file) as image:
            return record, (width, height, image.mode)

    for start in range(0, len(records), CHUNK):
        yield from pool.map(one, records[start : start + CHUNK])


def _find_duplicates(dataset: Dataset, splits: Splits, cache: Path, report: CheckReport) -> None:
    places: dict[str, list[tuple[str, ImageRecord]]] = defaultdict(list)
    hashes = image_hashes(dataset, cache)
    for name, records in _named(splits):
        for record in records:
            places[hashes[record.path]].append((name, record))
    within = 0
    for same in places.values():
        if len(same) == 1:
            continue
        paths = ", ".join(f"{record.path} ({name})" for name, record in same)
        if len({name for name, _ in same}) > 1:
            report.problems.append(f"one image in several splits: {paths}: keep one")
        elif len({record.label for _, record in same}) > 1:
            report.problems.append(f"one image with several labels: {paths}: keep one")
        else:
            within += len(same) - 1
    if within:
        report.facts.append(f"repeated images within a class and split: {within}")


def _check_boxes(
    dataset: Dataset,
    boxes: PixelBoxes | None,
    sizes: dict[str, tuple[int, int]],
    splits: Splits,
    report: CheckReport,
) -> None:
    if boxes is None:
        report.facts.append("true boxes: none, so there are no localization metrics")
        return
    inside: TrueBoxes = {}
    overhanging = 0
    for path, of_image in boxes.items():
        if path not in sizes:
            continue
        width, height = sizes[path]
        kept = []
        for box in of_image:
            x1, y1, x2, y2 = box
            part = clipped(box, width, height)
            if part is None:
                fault = "has no area" if x1 >= x2 or y1 >= y2 else f"lies outside the {width} x {height} image"
                report.problems.append(f"{dataset.root / path}: true box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) {fault}")
                continue
            overhanging += x1 < 0 or y1 < 0 or x2 > width or y2 > height
            kept.append(part)
        if kept:
            inside[path] = torch.tensor(kept, dtype=torch.float64)
    report.facts.append(f"true boxes: {sum(map(len, boxes.values()))} of {len(boxes)} images; {overhanging} overhang")
    for name, records in _named(splits):
        without = sum(record.path not in boxes for record in records)
        if without:
            report.facts.append(f"{name}: {without} images without a true box")
    _add_floors(splits, inside, report)


def _add_floors(splits: Splits, boxes: TrueBoxes, report: CheckReport) -> None:
    train, test = (
        [boxes[record.path] for record in part if record.path in boxes] for part in (splits.train, splits.test)
    )
    if not test:
        return
    _add_floor("the whole image", whole_view(1, test[0])[0], test, report)
    if train:
        centred = fit_centred_box(train)
        width, height = (centred[2:] - centred[:2]).tolist()
        _add_floor(f"the best centred box, {width:.0%} x {height:.0%}", centred, test, report)


def _add_floor(name: str, box: Tensor, true: list[Tensor], report: CheckReport) -> None:
    score = accuracy(best_iou(box.expand(len(true), 4), true) >= 0.5)
    report.facts.append(f"floor, {name}: {score:.4f} of {len(true)} test images (IoU >= 0.5)")
