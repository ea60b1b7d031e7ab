"""What every reader gives: images and labels for training, and true boxes apart, for evaluation only.

They lie in columns, and an object for an image exists while it is looked at: ImageNet has 1.3 million of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from lchp.data.columns import CHUNK, Ints, Texts

PixelBox = tuple[float, float, float, float]
"""A box as a file gives it: corners (x1, y1, x2, y2) in pixels of the image, ends exclusive; for readers only."""

PixelBoxes = dict[str, list[PixelBox]]
"""Image path to its boxes in pixels, neither clipped nor checked."""


class ImageRecord(NamedTuple):
    """One image: its path relative to the dataset's root (POSIX, unique in the dataset, without ``.`` and ``..``), and
    its class index.
    """

    path: str
    label: int


class Records(Sequence[ImageRecord]):
    """Some images of a dataset: ``rows`` (n,) are their places in its columns ``all_paths`` and ``all_labels``."""

    def __init__(self, all_paths: Texts, all_labels: npt.NDArray[np.int32], rows: npt.NDArray[np.int32]) -> None:
        self.all_paths, self.all_labels, self.rows = all_paths, all_labels, rows

    @classmethod
    def of(cls, records: Iterable[ImageRecord]) -> Records:
        """These images, which are then all of their dataset."""
        labels: list[int] = []

        def paths() -> Iterator[str]:
            for path, label in records:
                labels.append(label)
                yield path

        texts = Texts.of(paths())
        return cls(texts, np.array(labels, np.int32), np.arange(len(texts), dtype=np.int32))

    def at(self, rows: npt.NDArray[np.integer[Any]]) -> Records:
        """The images in these rows of the dataset."""
        return Records(self.all_paths, self.all_labels, rows.astype(np.int32))

    @property
    def paths(self) -> Iterator[str]:
        """Their paths, in their order."""
        if len(self) == len(self.all_paths) and np.array_equal(self.rows, np.arange(len(self))):
            return iter(self.all_paths)
        return self.all_paths.at(self.rows)

    @property
    def order(self) -> Ints:
        """Their places in the order of their paths, (n,)."""
        before = ""
        for path in self.paths:
            if path < before:
                paths = list(self.paths)
                return np.array(sorted(range(len(paths)), key=paths.__getitem__), np.int64)
            before = path
        return np.arange(len(self))

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """Their class indices, (n,)."""
        return self.all_labels[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ImageRecord]:
        return map(ImageRecord, self.paths, self.labels.tolist())

    @overload
    def __getitem__(self, place: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, place: slice) -> Records: ...
    def __getitem__(self, place: int | slice) -> ImageRecord | Records:
        if isinstance(place, slice):
            return self.at(self.rows[place])
        row = int(self.rows[place])
        return ImageRecord(self.all_paths[row], int(self.all_labels[row]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(other) == len(self) and all(a == b for a, b in zip(self, other))  # noqa: B905

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of images, by their places: ``corners`` (k, 4) float64 of one image after another, and ``ends``
    (n + 1,) int64, between which those of each lie.
    """

    ends: Ints
    corners: npt.NDArray[np.float64]

    @classmethod
    def of(cls, boxes: Iterable[Sequence[Sequence[float]]]) -> Boxes:
        """The boxes of each image, of some none."""
        counts, corners = [0], list[Sequence[float]]()
        for of_image in boxes:
            counts.append(len(of_image))
            corners += of_image
        return cls(np.cumsum(np.array(counts, np.int64)), np.array(corners, np.float64).reshape(-1, 4))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, place: int) -> npt.NDArray[np.float64]:
        """Those of one image, (k, 4)."""
        return self.corners[self.ends[place] : self.ends[place + 1]]

    @property
    def counts(self) -> Ints:
        """How many each image has, (n,)."""
        return np.diff(self.ends)

    @property
    def owners(self) -> Ints:
        """The place of the image to which each box belongs, (k,)."""
        return np.repeat(np.arange(len(self)), self.counts)

    def at(self, places: npt.NDArray[np.integer[Any]]) -> Boxes:
        """Those of the images at ``places``."""
        counts = self.counts[places]
        ends = np.concatenate(([0], np.cumsum(counts)))
        rows = np.arange(ends[-1]) + np.repeat(self.ends[places] - ends[:-1], counts)
        return Boxes(ends, self.corners[rows])

    def only(self, kept: npt.NDArray[np.bool_]) -> Boxes:
        """The boxes for which ``kept`` (k,) is true, of the same images."""
        counts = np.bincount(self.owners[kept], minlength=len(self))
        return Boxes(np.concatenate(([0], np.cumsum(counts))), self.corners[kept])

    def split(self) -> list[npt.NDArray[np.float64]]:
        """Those of each image, of those that have any."""
        return [self.corners[start:end] for start, end in pairwise(self.ends.tolist()) if end > start]

    def lists(self) -> Iterator[list[list[float]]]:
        """Those of each image, one after another."""
        for first in range(0, len(self), CHUNK):
            ends = self.ends[first : first + CHUNK + 1]
            corners = self.corners[ends[0] : ends[-1]].tolist()
            for start, end in pairwise((ends - ends[0]).tolist()):
                yield corners[start:end]

    def by_path(self, records: Records) -> PixelBoxes:
        """Path to boxes, of those images of ``records``, in the same order, that have any."""
        found = zip(records.paths, self.lists(), strict=True)
        return {path: [(x1, y1, x2, y2) for x1, y1, x2, y2 in boxes] for path, boxes in found if boxes}


def boxes_of(records: Records, found: Mapping[str, Sequence[Sequence[float]]]) -> Boxes:
    """The boxes of ``records``, by their places, out of those by path."""
    return Boxes.of(found.get(path, ()) for path in records.paths)


@dataclass(frozen=True)
class Dataset:
    """A dataset as training may see it: without boxes, which ``lchp.data.true_boxes`` reads."""

    name: str
    root: Path
    classes: tuple[str, ...]
    train: Records
    test: Records
    source: Path = Path()
    """What it was read from: the root, or the CSV file that lists it."""
    left_out: tuple[str, ...] = ()
    """What lies among the images and is not read as one, relative to the root."""
    held_out: frozenset[str] = frozenset()
    """Images of ``train`` that the dataset itself keeps for ``val``; where there are any, no other is drawn."""
    turned: frozenset[str] = frozenset()
    """Images whose boxes are given on the picture turned as its EXIF says; pixels are read as stored all the same."""

    @classmethod
    def of(
        cls,
        name: str,
        root: Path,
        classes: tuple[str, ...],
        train: Iterable[ImageRecord],
        test: Iterable[ImageRecord],
        source: Path = Path(),
        **others: Any,
    ) -> Dataset:
        """A dataset of these images, either split in the order of its paths; of its columns those of train come
        first.
        """
        parts = [_by_path(Records.of(records)) for records in (train, test)]
        paths = Texts.joined(part.all_paths for part in parts)
        labels = np.concatenate([part.all_labels for part in parts])
        every = Records(paths, labels, np.arange(len(paths), dtype=np.int32))
        count = len(parts[0])
        return cls(name, root, classes, every[:count], every[count:], source, **others)

    @property
    def is_held_out(self) -> npt.NDArray[np.bool_]:
        """Of every training image, whether it is in ``held_out``."""
        if not self.held_out:
            return np.zeros(len(self.train), np.bool_)
        return np.fromiter((path in self.held_out for path in self.train.paths), np.bool_, len(self.train))

    @property
    def images(self) -> Records:
        """All images, in the order of the columns."""
        return self.train.at(np.arange(len(self.train.all_paths)))

    def over(self, paths: Texts) -> Dataset:
        """The same, its paths in another place."""
        train, test = (Records(paths, part.all_labels, part.rows) for part in (self.train, self.test))
        return replace(self, train=train, test=test)


def _by_path(records: Records) -> Records:
    order = records.order
    if np.array_equal(order, records.rows):
        return records
    ordered = records.at(order)
    return Records(Texts.of(ordered.paths), ordered.labels, records.rows)


@dataclass(frozen=True)
class Splits:
    """Disjoint splits of a dataset: ``val`` is held out of the training images and not trained on."""

    train: Records
    val: Records
    test: Records
