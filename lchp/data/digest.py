"""Digests over a dataset's images, their labels and splits, so that a changed image is found and named.

True boxes are left out: training cannot see them. They have a digest of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lchp.data.records import Boxes, Dataset, Records
from lchp.vocabulary import TEST, TRAIN, VAL

Hashes = npt.NDArray[np.uint8]
"""The sha256 over the bytes of every image of a dataset, (n, 32)."""


@dataclass(frozen=True)
class Digest:
    """``lines`` give every image path and a sha256 over its bytes, label and split; ``total`` is one over them all."""

    total: str
    lines: Iterable[tuple[str, str]] = field(compare=False)

    @property
    def files(self) -> dict[str, str]:
        """The ``lines`` by path."""
        return dict(self.lines)


@dataclass(frozen=True, eq=False)
class _Lines:
    """Those of images in columns, worked out whenever they are asked for."""

    images: Records
    hashes: Hashes
    splits: npt.NDArray[np.uint8]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return self.of(self.images.rows)

    def of(self, rows: npt.NDArray[np.integer[Any]]) -> Iterator[tuple[str, str]]:
        """Those of the images in some rows."""
        for row, (path, label) in zip(rows.tolist(), self.images.at(rows), strict=True):
            split = _SPLITS[self.splits[row]]
            yield path, _sha256(f"{self.hashes[row].tobytes().hex()} {split} {label}")


_SPLITS = (TRAIN, VAL, TEST)


def splits_of(dataset: Dataset) -> npt.NDArray[np.uint8]:
    """The split of every image, (n,): 0 train, 1 what the dataset itself keeps for val, 2 test."""
    return np.concatenate([dataset.is_held_out, np.full(len(dataset.test), 2)]).astype(np.uint8)


def dataset_digest(dataset: Dataset, hashes: Hashes, total: str | None = None) -> Digest:
    """The digest of a dataset whose images have these hashes. It depends on images, labels, splits and relative paths,
    not on the root. ``total`` is that of the digest, where it is known.
    """
    lines = _Lines(dataset.images, hashes, splits_of(dataset))
    return Digest(_total(lines.of(dataset.images.order)) if total is None else total, lines)


def total_of(files: Mapping[str, str]) -> str:
    """The ``total`` of a :class:`Digest` with these ``files``."""
    return _total((path, files[path]) for path in sorted(files))


def _total(lines: Iterable[tuple[str, str]]) -> str:
    digest = hashlib.sha256()
    for path, sha256 in lines:
        digest.update(f"{path}\0{sha256}\n".encode())
    return digest.hexdigest()


def boxes_digest(records: Records, boxes: Boxes) -> str:
    """One sha256 over the boxes of every image that has any, in the order of their paths."""
    digest, order = hashlib.sha256(), records.order
    for path, found in zip(records.at(records.rows[order]).paths, boxes.at(order).lists(), strict=True):
        if found:
            digest.update(f"{path}\0{found}\n".encode())
    return digest.hexdigest()


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """What differs between two ``Digest.files``, one line a file by path: ``<path>: changed|missing|new``.

    ``changed`` means other bytes, another label or another split. Empty exactly if the two totals agree.
    """
    differing = sorted(path for path in {*old, *new} if old.get(path) != new.get(path))
    return [
        f"{path}: {'new' if path not in old else 'missing' if path not in new else 'changed'}" for path in differing
    ]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
