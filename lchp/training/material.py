"""What a trial is made from, before any network exists: its data, and the digests that say exactly which data they
are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lchp.data.digest import Digest, boxes_digest, digest_of_hashes, image_hashes
from lchp.data.findings import inspect
from lchp.data.fingerprint import fingerprint
from lchp.data.loader import ImageSource, image_size
from lchp.data.reading import open_dataset
from lchp.data.records import Dataset, ImageRecord, PixelBoxes, Splits, TrueBoxes
from lchp.data.splits import split
from lchp.data.true_boxes import read_truth
from lchp.training.config import TrialConfig
from lchp.training.evaluation import Split
from lchp.training.identity import initialization_key, trial_key, with_digests
from lchp.training.weights import digest_of
from lchp.vocabulary import TEST, TRAIN, VAL


@dataclass(frozen=True)
class Runtime:
    """Where and on what a trial runs: nothing here changes its result."""

    store: Path
    """Folder of results, addressed by what made them."""
    cache: Path
    """Folder of what can be made again: extracted archives, drawn and resized images."""
    device: str = "cpu"
    loader_workers: int = 0
    """Processes that decode images when those do not fit ``cache_bytes``."""
    cache_bytes: int = 16 << 30
    """Budget of one split's resized images on disk; a larger split is decoded as it is read."""


@dataclass(frozen=True)
class Material:
    """The data of a trial. ``train`` knows images and labels alone; true boxes are in the splits that evaluation is
    given.
    """

    dataset: Dataset
    splits: Splits
    digest: Digest
    weight_digests: dict[str, str | None]
    true_boxes: TrueBoxes | None
    config: TrialConfig
    """What it was prepared for; it serves every configuration of the same dataset, split, weights and view."""
    runtime: Runtime
    findings: tuple[str, ...] = ()
    """What the user should know of the data before trusting a score, one line each."""

    @staticmethod
    def key(config: TrialConfig) -> str:
        """What configurations have in common that one material serves."""
        return config.model_dump_json(include={"dataset", "split", "weights"})

    @classmethod
    def prepare(cls, config: TrialConfig, runtime: Runtime) -> Material:
        """Opens the dataset and digests what the trial reads. Raises ValueError, naming file and remedy, for what is
        missing, and for data on which scores would mean nothing.
        """
        dataset = open_dataset(config.dataset, runtime.cache)
        splits = split(dataset, config.split)
        hashes = image_hashes(dataset, runtime.cache)
        truth = read_truth(config.dataset, dataset, (*splits.train, *splits.val, *splits.test))
        findings = inspect(config.dataset, dataset, splits, hashes, truth)
        findings.require_meaning()
        weights = {"classifier": config.weights.classifier, "regressor": config.weights.regressor}
        return cls(
            dataset,
            splits,
            digest_of_hashes(dataset, hashes),
            {role: digest_of(source, role) for role, source in weights.items()},
            None if truth is None else truth.sound,
            config,
            runtime,
            findings.for_a_run(),
        )

    def serving(self, config: TrialConfig, runtime: Runtime) -> Material:
        """This material for another configuration, without reading a file again; the images of another view are those
        of a new source.

        The configuration must have this one's dataset, split and weights, and ``runtime`` must be this one's: these are
        asserted. That no file has changed since is for the caller to know: within a trial files are taken as they were
        when it began, between trials only :meth:`prepare` sees a change.
        """
        assert runtime == self.runtime, "material is prepared for one runtime"
        assert self.key(config) == self.key(self.config), "material of another dataset, split or weights"
        return self if config.view == self.config.view else replace(self, config=config)

    def pixel_boxes(self, records: Iterable[ImageRecord]) -> PixelBoxes | None:
        """The true boxes of some images in pixels, clipped to their image; None where the dataset has none at all."""
        if self.true_boxes is None:
            return None
        boxes: PixelBoxes = {}
        for record in records:
            width, height = image_size(self.dataset.root / record.path)
            corners = self.true_boxes[record.path].tolist() if record.path in self.true_boxes else []
            boxes[record.path] = [(x1 * width, y1 * height, x2 * width, y2 * height) for x1, y1, x2, y2 in corners]
        return boxes

    @cached_property
    def _digests(self) -> dict[str, Any]:
        boxes = None if self.true_boxes is None else boxes_digest(self.true_boxes)
        return {"images": self.digest.total, "boxes": boxes, **self.weight_digests}

    def initialization_folder(self, config: TrialConfig) -> Path:
        """Where the initialization of this configuration lies in the store."""
        key = with_digests(initialization_key(config), self._digests)
        return self.runtime.store / "initialization" / fingerprint(key)

    def trial_folder(self, config: TrialConfig) -> Path:
        """Where the trial of this configuration lies in the store."""
        return self.runtime.store / "trial" / fingerprint(with_digests(trial_key(config), self._digests))

    @cached_property
    def train(self) -> ImageSource:
        """The training images."""
        return self._source(self.splits.train)

    @cached_property
    def train_split(self) -> Split:
        """The training images with their true boxes: for the floors and Table 4's left half, never for training."""
        return Split(TRAIN, self.train, self.true_boxes)

    @cached_property
    def val(self) -> Split | None:
        """The validation split; None where it is empty."""
        return Split(VAL, self._source(self.splits.val), self.true_boxes) if self.splits.val else None

    @cached_property
    def test(self) -> Split:
        """The test split."""
        return Split(TEST, self._source(self.splits.test), self.true_boxes)

    @property
    def measured(self) -> list[Split]:
        """The splits on which finished stages are measured."""
        return [self.test] if self.val is None else [self.val, self.test]

    def _source(self, records: tuple[ImageRecord, ...]) -> ImageSource:
        return ImageSource(
            self.dataset.root, records, self.config.view.resize, self.runtime.cache, self.runtime.cache_bytes
        )
