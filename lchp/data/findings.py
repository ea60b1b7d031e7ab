"""What a dataset holds, and what is wrong with it that only pixels, hashes and boxes tell.

``lchp data check`` and a run call the same function; they differ in what they do with what it finds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lchp.data.config import DatasetConfig
from lchp.data.digest import Hashes
from lchp.data.kinds import KINDS
from lchp.data.listing import ONE_CLASS, alike, is_litter, named_in
from lchp.data.records import Dataset, ImageRecord, Records, Splits
from lchp.data.true_boxes import NO_AREA, BadBox, Truth
from lchp.vocabulary import TEST, TRAIN, VAL

IN_SEVERAL_SPLITS = "one image in several splits"
WITH_SEVERAL_LABELS = "one image with several labels"
BAD_BOX = "a bad true box"
FRACTIONS = "true boxes look like fractions of the image"
TURNED = "true boxes look drawn on the turned picture"

SHOWN = 20
"""Problems that people are shown; the rest is counted."""
_NAMED = 3
_LARGEST_FRACTION = 1.5
"""Pixels that no far corner of a real box stays within, in all images of a split."""
_FAR_OUT = 0.05
"""Share of a side by which a box that was drawn by hand hardly leaves its image."""
_FEW = 0.1
"""Share of the boxes that may be wrong one by one."""
_SMALLEST_IMAGE = 8
"""Pixels of the shorter side from which on fractions can be told from pixels."""


@dataclass
class Findings:
    """Lines for people. ``problems`` and ``refusals`` go by what they are, each with the places where it is so.

    facts: what the dataset holds. warnings: what should be known before a score is trusted. problems: what is wrong
    with the data; ``data check`` fails. refusals: the same, where scores would mean nothing; a run refuses, too.
    """

    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    refusals: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def wrong(self) -> list[str]:
        """Every problem and refusal in full."""
        return [
            f"{what}: {where}"
            for found in (self.refusals, self.problems)
            for what, places in found.items()
            for where in places
        ]

    def for_a_run(self) -> tuple[str, ...]:
        """What a run warns of: one line a problem, which names its first place."""
        return (*self.warnings, *(_summary(what, places) for what, places in self.problems.items()))

    def require_meaning(self) -> None:
        """Raises ValueError where scores would mean nothing."""
        if self.refusals:
            raise ValueError("\n".join(_summary(what, places) for what, places in self.refusals.items()))


def _summary(what: str, places: list[str]) -> str:
    more = f"; {len(places) - 1} more, named by `lchp data check`" if len(places) > 1 else ""
    return f"{what}: {places[0]}{more}"


def inspect(config: DatasetConfig, dataset: Dataset, splits: Splits, hashes: Hashes, truth: Truth | None) -> Findings:
    """Inspect an open dataset. ``hashes`` are those of its image files; ``truth`` its true boxes, if any."""
    found = Findings()
    _left_out(dataset, found)
    _classes(dataset, found)
    _duplicates(splits, hashes, found)
    if truth is None:
        found.facts.append("true boxes: none, so there are no localization metrics")
        return found
    count, images = len(truth.pixels.corners), int(np.count_nonzero(truth.pixels.counts))
    found.facts.append(f"true boxes: {count} of {images} images; {truth.overhanging} overhang")
    _bad_boxes(config, dataset, truth, found)
    _turned(dataset, truth, found)
    for name, records in named(splits):
        _fractions(dataset, name, records, truth, found)
        _overhang(dataset, name, records, truth, found)
        without = int(np.count_nonzero(truth.sound.counts[records.rows] == 0))
        if without:
            lines = found.facts if name == TRAIN else found.warnings
            lines.append(f"{name}: {without} of {len(records)} images have no true box")
    return found


def named(splits: Splits) -> tuple[tuple[str, Records], ...]:
    """The splits by name."""
    return (TRAIN, splits.train), (VAL, splits.val), (TEST, splits.test)


def _left_out(dataset: Dataset, found: Findings) -> None:
    litter = [path for path in dataset.left_out if is_litter(path.rpartition("/")[2])]
    others = [path for path in dataset.left_out if not is_litter(path.rpartition("/")[2])]
    if litter:
        found.facts.append(f"hidden entries among the images, skipped: {_listed(litter)}")
    if others:
        found.warnings.append(f"entries among the images that are not read as images: {_listed(others)}")


def _classes(dataset: Dataset, found: Findings) -> None:
    if len(dataset.classes) == 1:
        found.warnings.append(ONE_CLASS)
    found.warnings += alike(dataset.classes)


def _listed(paths: list[str]) -> str:
    more = ", ..." if len(paths) > _NAMED else ""
    return f"{len(paths)} ({', '.join(paths[:_NAMED])}{more})"


def _duplicates(splits: Splits, hashes: Hashes, found: Findings) -> None:
    # The first 8 of 32 bytes set apart what differs; whatever they do not is compared in whole below.
    starts = np.ascontiguousarray(hashes[:, :8]).view(np.uint64)[:, 0]
    values, counts = np.unique(starts, return_counts=True)
    is_repeated = np.isin(starts, values[counts > 1])
    places: dict[bytes, list[tuple[str, ImageRecord]]] = defaultdict(list)
    for name, records in named(splits):
        rows = records.rows[is_repeated[records.rows]]
        for row, record in zip(rows.tolist(), records.at(rows), strict=True):
            places[hashes[row].tobytes()].append((name, record))
    within = 0
    for same in places.values():
        if len(same) == 1:
            continue
        where = ", ".join(f"{record.path} ({name})" for name, record in same) + ": keep one"
        if len({name for name, _ in same}) > 1:
            found.problems[IN_SEVERAL_SPLITS].append(where)
        elif len({record.label for _, record in same}) > 1:
            found.problems[WITH_SEVERAL_LABELS].append(where)
        else:
            within += len(same) - 1
    if within:
        found.facts.append(f"repeated images within a class and split: {within}")


def _leaves(box: Sequence[float], width: int, height: int) -> bool:
    return box[0] < 0 or box[1] < 0 or box[2] > width or box[3] > height


def _bad_boxes(config: DatasetConfig, dataset: Dataset, truth: Truth, found: Findings) -> None:
    if not truth.bad:
        return
    if KINDS[config.kind].leaves_out_bad_boxes:
        found.problems[BAD_BOX] = [f"{dataset.root}/{bad}: left out" for bad in truth.bad]
    else:
        places = _places(dataset, [bad.path for bad in truth.bad])
        found.refusals[BAD_BOX] = [
            f"{place}{bad}{_remedy(bad, dataset, truth)}" for place, bad in zip(places, truth.bad, strict=True)
        ]


def _places(dataset: Dataset, paths: list[str]) -> list[str]:
    """Where people find the boxes of images: the lines of their table, of the first ones that are read, or a folder."""
    if not dataset.source.is_file():
        return [f"{dataset.root}/"] * len(paths)
    return [
        f"{named_in(dataset.source, path) if number < SHOWN else dataset.source}: " for number, path in enumerate(paths)
    ]


def _remedy(bad: BadBox, dataset: Dataset, truth: Truth) -> str:
    if truth.headers[bad.row, 2] > 1 and bad.path not in dataset.turned:
        return f" as it is stored; {_TURN}"
    if bad.fault == NO_AREA and dataset.source.is_file():
        return ": give two corners (x2 and y2 are no width and height), or remove it"
    return ": correct or remove it"


_TURN = (
    "boxes count in the stored pixels, whatever EXIF says: give them so, turn the images for good, or write `exif` "
    "into the column `orientation` of a table"
)


def _turned(dataset: Dataset, truth: Truth, found: Findings) -> None:
    """Images that viewers turn as their EXIF says: were their boxes drawn on what the viewer showed?"""
    rows = np.flatnonzero((truth.headers[:, 2] > 1) & (truth.pixels.counts > 0))
    tagged = {
        row: path
        for row, path in zip(rows.tolist(), dataset.images.at(rows).paths, strict=True)
        if path not in dataset.turned
    }
    if not tagged:
        return
    named_first = _listed([*tagged.values()])
    found.warnings.append(f"images with true boxes and an EXIF orientation other than 1: {named_first}: {_TURN}")
    for row, path in tagged.items():
        width, height, orientation = truth.headers[row].tolist()
        boxes = truth.pixels[row].tolist()
        stored, turned = (any(_leaves(box, *size) for box in boxes) for size in ((width, height), (height, width)))
        if orientation > 4 and stored and not turned:
            found.problems[TURNED].append(f"{path}, stored as {width} x {height}: {_TURN}")


def _overhang(dataset: Dataset, name: str, records: Records, truth: Truth, found: Findings) -> None:
    """Boxes that leave their images by far, and are clipped: are they in the pixels of another size, or in percent?"""
    is_in = np.isin(truth.pixels.owners, records.rows)
    far = np.flatnonzero(is_in & (truth.overhang() > _FAR_OUT))
    if len(far) > _FEW * np.count_nonzero(is_in):
        paths = [*dict.fromkeys(dataset.images.at(truth.pixels.owners[far]).paths)]
        found.warnings.append(
            f"{name}: {len(far)} of {int(np.count_nonzero(is_in))} true boxes leave their images by more than "
            f"{_FAR_OUT:.0%} of a side, and are clipped: {_listed(paths)}: boxes are pixels of the image as it is "
            "stored, and neither of another size nor percent"
        )


def _fractions(dataset: Dataset, name: str, records: Records, truth: Truth, found: Findings) -> None:
    """Boxes within a pixel of the corner, in images that are larger."""
    large = records.rows[truth.headers[records.rows, :2].min(1) > _SMALLEST_IMAGE]
    boxes = truth.pixels.at(large)
    within = np.flatnonzero(boxes.corners.max(1, initial=-np.inf) <= _LARGEST_FRACTION)
    if not len(within):
        return
    paths = dataset.images.at(large[boxes.owners[within]]).paths
    small = list(zip(paths, boxes.corners[within].tolist(), strict=True))
    is_all = len(small) == len(boxes.corners)
    if not is_all:
        # A real box may cover the first pixel; its corners are then whole numbers.
        small = [(path, box) for path, box in small if not all(value.is_integer() for value in box)]
    remedy = "multiply x by the width and y by the height of its image"
    if dataset.source.is_file():
        remedy += ", or write fractions into a column `units`"
    places = _places(dataset, [path for path, _ in small])
    lines = [
        f"{place}{path}: ({', '.join(f'{value:g}' for value in box)}) ({name}): {remedy}"
        for place, (path, box) in zip(places, small, strict=True)
    ]
    if is_all:
        # One remedy serves the whole split.
        alike = f"; so do all {len(lines)} boxes of {name}" if len(lines) > 1 else ""
        found.refusals[FRACTIONS].append(f"{lines[0]}{alike}")
    elif lines:
        found.problems[FRACTIONS] += lines
