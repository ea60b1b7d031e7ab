"""A dataset whose files were read, which is dear and done once; and its splits, which are cheap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lchp.data.config import DatasetConfig, SplitConfig
from lchp.data.digest import Digest, ImageFiles, boxes_digest, dataset_digest, read_image_files
from lchp.data.findings import inspect, named
from lchp.data.headers import Header, header
from lchp.data.identities import identity_of
from lchp.data.reading import open_dataset
from lchp.data.records import Dataset, Splits, TrueBoxes
from lchp.data.splits import split
from lchp.data.true_boxes import Truth, read_truth


@dataclass(frozen=True)
class OpenedDataset:
    """What every process knows of a dataset, whatever its splits. Of true boxes only evaluation asks."""

    dataset: Dataset
    digest: Digest
    true_boxes: TrueBoxes | None
    boxes_digest: str | None
    """One sha256 over the true boxes; None where the dataset has no box file at all."""

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        if self.true_boxes:
            # An array an image would take ImageNet's half a million boxes a minute to pickle.
            counts = {path: len(boxes) for path, boxes in self.true_boxes.items()}
            state["true_boxes"] = counts, np.concatenate(list(self.true_boxes.values()))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["true_boxes"]:
            counts, boxes = state["true_boxes"]
            state["true_boxes"] = dict(zip(counts, np.split(boxes, np.cumsum(list(counts.values()))[:-1]), strict=True))
        vars(self).update(state)


@dataclass(frozen=True)
class SplitDataset:
    """A dataset and its splits. It holds no pixels, and pickled ones that share a dataset hold it once."""

    opened: OpenedDataset
    splits: Splits
    identities: dict[str, str]
    """Which files a split's images are (:func:`lchp.data.identities.identity_of`), by its name."""
    sizes: dict[str, tuple[int, int]]
    """Width and height in pixels of the images that are measured or have true boxes, by path."""
    findings: tuple[str, ...]
    """What the user should know of the data before trusting a score, one line each."""


@dataclass(frozen=True)
class ReadDataset:
    """What was read of a dataset's files, from which its splits are drawn: for the process that prepares, not for
    workers.
    """

    config: DatasetConfig
    opened: OpenedDataset
    files: ImageFiles
    headers: Mapping[str, Header]
    """Of every image."""
    truth: Truth | None

    @classmethod
    def read(cls, config: DatasetConfig, cache: Path) -> ReadDataset:
        """Opens the dataset and reads every image file once, an unchanged one never again.

        Raises:
            ValueError: something is missing or no image; names file and remedy.
        """
        dataset = open_dataset(config, cache)
        files = read_image_files(dataset, cache)
        records = (*dataset.train, *dataset.test)
        without = [record.path for record in records if record.path not in files.headers]
        # They are asked again, which tells why they have none, or that they have become readable since.
        headers = {**files.headers, **{path: header(dataset.root / path) for path in without}}
        truth = read_truth(config, dataset, records, headers, cache)
        boxes = None if truth is None else truth.sound
        digest = dataset_digest(dataset, files.hashes)
        opened = OpenedDataset(dataset, digest, boxes, None if boxes is None else boxes_digest(boxes))
        return cls(config, opened, files, headers, truth)

    def split(self, config: SplitConfig) -> SplitDataset:
        """The dataset with the splits that ``config`` draws, no file read again.

        Raises:
            ValueError: a class has too few images, or scores would mean nothing; names the remedy.
        """
        splits = split(self.opened.dataset, config)
        findings = inspect(self.config, self.opened.dataset, splits, self.files.hashes, self.truth)
        findings.require_meaning()
        measured = (record.path for record in (*splits.val, *splits.test))
        shown = dict.fromkeys((*(self.opened.true_boxes or ()), *measured))
        return SplitDataset(
            self.opened,
            splits,
            {name: identity_of(records, self.files.identities) for name, records in named(splits)},
            {path: (self.headers[path].width, self.headers[path].height) for path in shown},
            findings.for_a_run(),
        )
