"""Reading a whole dataset once, to say what it holds, what is wrong with it, and what a guess would score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lchp.data.config import DatasetConfig, SplitConfig
from lchp.data.findings import SHOWN, inspect, named
from lchp.data.headers import Header, Headers, header
from lchp.data.image_files import read_image_files
from lchp.data.loader import decode
from lchp.data.progress import progress
from lchp.data.records import Boxes, Dataset, ImageRecord, Records, Splits
from lchp.data.splits import split
from lchp.data.true_boxes import read_truth
from lchp.method.boxes import whole_view
from lchp.method.metrics import accuracy, best_iou, fit_centred_box
from lchp.vocabulary import HIT_IOU, TEST

THREADS = 4
CHUNK = 64
"""Images that are handed to the threads at once: decoded ones do not pile up."""


@dataclass
class CheckReport:
    """What a dataset holds (``facts``), what should be known of it (``warnings``), and what is wrong with it
    (``problems``): one line each.
    """

    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The report for people: the facts, the warnings, then the problems, of which only the first are named."""
        shown = [f"  {problem}" for problem in self.problems[:SHOWN]]
        more = [f"  ... and {len(self.problems) - SHOWN} more"] if len(self.problems) > SHOWN else []
        heading = f"problems: {len(self.problems)}" if self.problems else "problems: none"
        warnings = [f"warning: {warning}" for warning in self.warnings]
        return "\n".join([*self.facts, *warnings, heading, *shown, *more])


def check(config: DatasetConfig, dataset: Dataset, cache: Path, splits: SplitConfig) -> CheckReport:
    """Read everything: images decode, classes are filled, and what ``lchp.data.findings`` tells; and the floors.

    Whatever is wrong with an open dataset is a line of the report. Raises ValueError where an image has gone meanwhile.
    """
    report = CheckReport()
    report.facts.append(f"dataset {dataset.name} at {dataset.source}: {len(dataset.classes)} classes")
    drawn = _splits(dataset, splits, report)
    _count(dataset, drawn, report)
    headers = _headers(dataset, report)
    hashes = read_image_files(dataset, cache).hashes
    truth = None
    try:
        truth = read_truth(config, dataset, headers, cache)
    except ValueError as error:
        report.problems.append(str(error))
    found = inspect(config, dataset, drawn, hashes, truth)
    report.facts += found.facts
    report.warnings += found.warnings
    report.problems += found.wrong()
    if truth is not None:
        _add_floors(drawn, truth.sound, report)
    return report


def _splits(dataset: Dataset, config: SplitConfig, report: CheckReport) -> Splits:
    try:
        return split(dataset, config)
    except ValueError as error:
        report.problems.append(str(error))
        return Splits(dataset.train, dataset.train[:0], dataset.test)


def _count(dataset: Dataset, splits: Splits, report: CheckReport) -> None:
    for name, records in named(splits):
        counts = Counter(records.labels.tolist())
        a_class = [counts[label] for label in range(len(dataset.classes))]
        spread = " to ".join(dict.fromkeys(map(str, (min(a_class), max(a_class)))))
        report.facts.append(f"{name}: {len(records)} images, {spread} a class")
        empty = [dataset.classes[label] for label, count in enumerate(a_class) if count == 0]
        if name == TEST and empty:
            report.facts.append(f"test: no image of {len(empty)} classes: {', '.join(empty[:5])}")


def _headers(dataset: Dataset, report: CheckReport) -> Headers:
    """The headers of all images that decode."""
    modes: Counter[str] = Counter()
    records = dataset.images
    headers = np.zeros((len(records), 3), np.int32)
    with ThreadPoolExecutor(THREADS) as pool:
        decoded = progress(_decoded(pool, dataset.root, records), f"decoding {len(records)} images", len(records))
        for row, found in enumerate(decoded):
            if isinstance(found, ValueError):
                report.problems.append(str(found))
            else:
                size, mode = found
                headers[row] = size.width, size.height, size.orientation
                modes[mode] += 1
    stored = ", ".join(f"{count} {mode}" for mode, count in modes.most_common())
    report.facts.append(f"images that decode: {modes.total()} of {len(records)} (stored as {stored or 'nothing'})")
    return headers


Found = tuple[Header, str] | ValueError


def _decoded(pool: ThreadPoolExecutor, root: Path, records: Records) -> Iterator[Found]:
    def one(record: ImageRecord) -> Found:
        file = root / record.path
        try:
            decode(file)
            with Image.open(file) as image:
                mode = image.mode
            return header(file), mode
        except ValueError as error:
            return error

    for start in range(0, len(records), CHUNK):
        yield from pool.map(one, records[start : start + CHUNK])


def _add_floors(splits: Splits, boxes: Boxes, report: CheckReport) -> None:
    train, test = (
        [torch.from_numpy(known) for known in boxes.at(part.rows).split()] for part in (splits.train, splits.test)
    )
    if not test:
        return
    _add_floor("the whole image", whole_view(1, test[0])[0], test, report)
    if train:
        centred = fit_centred_box(train)
        width, height = (centred[2:] - centred[:2]).tolist()
        _add_floor(f"the best centred box, {width:.0%} x {height:.0%}", centred, test, report)


def _add_floor(name: str, box: Tensor, true: list[Tensor], report: CheckReport) -> None:
    score = accuracy(best_iou(box.expand(len(true), 4), true) >= HIT_IOU)
    report.facts.append(f"floor, {name}: {score:.4f} of {len(true)} test images (IoU >= {HIT_IOU})")
