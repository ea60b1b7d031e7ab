"""What a trial is made from, before any network exists: its data, and the digests that say exactly which data they
are.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lchp.data.digest import Digest
from lchp.data.fingerprint import fingerprint
from lchp.data.opened import ReadDataset, SplitDataset
from lchp.data.records import Boxes, Dataset, PixelBoxes, Records, Splits
from lchp.data.resized import ResizedFile
from lchp.store.folder import StageFolder
from lchp.store.milestones import Milestones
from lchp.store.shared import SharedFolder
from lchp.training.config import TrialConfig
from lchp.training.identity import (
    RESULT_VERSION,
    first_weights,
    initialization_course,
    initialization_key,
    out_of_fold_key,
    reference_key,
    trial_course,
    trial_key,
    with_digests,
)
from lchp.training.weight_files import digest_of, given_files
from lchp.vocabulary import TEST, TRAIN, VAL

if TYPE_CHECKING:
    from lchp.data.loader import ImageSource


@dataclass(frozen=True)
class Runtime:
    """Where and on what a trial runs: nothing here changes its result."""

    store: Path
    """Folder of results, addressed by what made them."""
    cache: Path
    """Folder of what can be made again: extracted archives, drawn and resized images."""
    device: str = "cpu"
    loader_workers: int = 0
    """Threads that decode images when those do not fit ``cache_bytes``."""
    cache_bytes: int = 16 << 30
    """Budget of one split's resized images on disk; a larger split is decoded as it is read, and an image of it that is
    broken is found then.
    """
    shared: str | None = None
    """URI of a store in which the machines of a cluster leave their stages for each other (``lchp.store.shared``)."""


@dataclass(frozen=True, eq=False)
class Split:
    """A split to measure on: its images and, where known, their true boxes in the whole image, of some none (about half
    of ImageNet's training images).

    ``sizes`` (n, 2) are width and height in pixels of the stored images, for what is written for people.
    """

    name: str
    source: ImageSource
    true_boxes: Boxes | None
    sizes: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Material:
    """The data of a trial. ``train`` knows images and labels alone; true boxes are in the splits that evaluation is
    given.

    It holds no pixels and can be pickled: prepared once, it serves every process that sees the same files.
    """

    data: SplitDataset
    given_digests: dict[str, str | None]
    config: TrialConfig
    """What it was prepared for; it serves every configuration of the same dataset, split, given files and view."""
    runtime: Runtime

    @staticmethod
    def key(config: TrialConfig) -> Hashable:
        """What configurations have in common that one material serves: its dataset, its split and the files it is given
        beside them.
        """
        return config.dataset, config.split, *given_files(config).items()

    @classmethod
    def prepare(cls, config: TrialConfig, runtime: Runtime) -> Material:
        """Opens the dataset and digests what the trial reads; every image file is read once, an unchanged one never
        again. Raises ValueError, naming file and remedy, for what is missing or no image, and for data on which scores
        would mean nothing.
        """
        return cls.of(ReadDataset.read(config.dataset, runtime.cache).split(config.split), config, runtime)

    @classmethod
    def of(cls, data: SplitDataset, config: TrialConfig, runtime: Runtime) -> Material:
        """The material of ``data``, which are those of this configuration. ValueError for weight files, as
        :func:`lchp.training.weight_files.digest_of`.
        """
        return cls(data, {role: digest_of(file) for role, file in given_files(config).items()}, config, runtime)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: images are opened anew in every process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def dataset(self) -> Dataset:
        """Images and labels."""
        return self.data.opened.dataset

    @property
    def digest(self) -> Digest:
        """Which images they are."""
        return self.data.opened.digest

    @property
    def true_boxes(self) -> Boxes | None:
        """The true boxes of all images, by their rows; None where the dataset has no box file at all."""
        return self.data.opened.true_boxes

    @property
    def splits(self) -> Splits:
        """The images of train, val and test."""
        return self.data.splits

    def open_images(self) -> None:
        """Decodes the images of every split into the cache, which has them at once the next time.

        So that a broken image is found before anything trains; one of a split that is larger than
        ``Runtime.cache_bytes`` is found when it is read. Raises ValueError, naming file and remedy.
        """
        for name in (TRAIN, VAL, TEST):
            file = self._resized(name, self.config.view.resize)
            if file.is_used and not file.is_there:
                self.source(name, self.config.view.resize).open()

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

    def pixel_boxes(self, *splits: Records) -> PixelBoxes | None:
        """The true boxes of some images in pixels, clipped to their image; None where the dataset has none at all."""
        if self.true_boxes is None:
            return None
        boxes: PixelBoxes = {}
        records = self.dataset.images.at(np.concatenate([split.rows for split in splits]))
        sizes, corners = self.data.opened.headers[records.rows].tolist(), self.true_boxes.at(records.rows).lists()
        for path, (width, height, _), known in zip(records.paths, sizes, corners, strict=True):
            boxes[path] = [(x1 * width, y1 * height, x2 * width, y2 * height) for x1, y1, x2, y2 in known]
        return boxes

    @property
    def _digests(self) -> dict[str, str | None]:
        opened = self.data.opened
        return {"images": opened.digest.total, "boxes": opened.boxes_digest, **self.given_digests}

    def initialization_folder(self, config: TrialConfig) -> Path:
        """Where the initialization of this configuration lies in the store."""
        key = with_digests(initialization_key(config), self._digests)
        return self.runtime.store / "initialization" / fingerprint(key)

    def trial_folder(self, config: TrialConfig) -> Path:
        """Where the trial of this configuration lies in the store."""
        return self.runtime.store / "trial" / fingerprint(with_digests(trial_key(config), self._digests))

    def stage(self, path: Path) -> StageFolder:
        """The folder of a stage at a path that a method here gives."""
        return StageFolder(path, self._shared(path))

    def _shared(self, path: Path) -> SharedFolder | None:
        uri = self.runtime.shared
        return SharedFolder(uri, path.relative_to(self.runtime.store).as_posix()) if uri else None

    def initialization_course(self, config: TrialConfig) -> Milestones:
        """What initializations of this course, however long, have left to go on from."""
        return self._milestones(initialization_course(config))

    def trial_course(self, config: TrialConfig) -> Milestones:
        """What refinements of this course, however long, have left to go on from."""
        return self._milestones(trial_course(config))

    def _milestones(self, course: dict[str, Any]) -> Milestones:
        path = self.runtime.store / "milestones" / fingerprint(with_digests(course, self._digests))
        return Milestones(path, self._shared(path))

    def out_of_fold_folder(self, config: TrialConfig) -> Path:
        """Where the classifiers that judge for trials of this configuration what they have not seen lie in the
        store.
        """
        digests = {name: self._digests[name] for name in ("images", "classifier")}
        return self.runtime.store / "out_of_fold" / fingerprint(with_digests(out_of_fold_key(config), digests))

    def reference_folder(self, config: TrialConfig, method: str) -> Path:
        """Where a reference for trials of this configuration lies in the store."""
        digests = {name: self._digests[name] for name in ("images", "boxes")}
        key = with_digests(
            reference_key(config, method), {**digests, "regressor": self._digests[first_weights(config)]}
        )
        return self.runtime.store / "reference" / fingerprint(key)

    @cached_property
    def train(self) -> ImageSource:
        """The training images."""
        return self.source(TRAIN, self.config.view.resize)

    @cached_property
    def train_split(self) -> Split:
        """The training images with their true boxes: for the floors and Table 4's left half, never for training."""
        return self._measured(TRAIN, self.train)

    @property
    def floors_file(self) -> Path:
        """Where the cache keeps what is fitted on the true boxes of the training images."""
        read = {"images": self.digest.total, "boxes": self.data.opened.boxes_digest, "result_version": RESULT_VERSION}
        key = fingerprint({**read, "split": self.config.split.model_dump(mode="json")})
        return self.runtime.cache / "floors" / f"{key}.json"

    @cached_property
    def val(self) -> Split | None:
        """The validation split; None where it is empty."""
        return self._split(VAL) if self.splits.val else None

    @cached_property
    def test(self) -> Split:
        """The test split."""
        return self._split(TEST)

    @property
    def measured(self) -> list[Split]:
        """The splits on which finished stages are measured."""
        return [self.test] if self.val is None else [self.val, self.test]

    def _split(self, name: str) -> Split:
        return self._measured(name, self.source(name, self.config.view.resize))

    def _measured(self, name: str, source: ImageSource) -> Split:
        rows, boxes = source.records.rows, self.true_boxes
        return Split(name, source, None if boxes is None else boxes.at(rows), self.data.opened.headers[rows, :2])

    def _resized(self, name: str, size: int) -> ResizedFile:
        runtime, count = self.runtime, len(getattr(self.splits, name))
        return ResizedFile(
            self.dataset.root, count, size, runtime.cache, runtime.cache_bytes, self.data.identities[name]
        )

    def source(self, name: str, size: int) -> ImageSource:
        """The images of the split of that name, resized to ``size`` pixels a side."""
        from lchp.data.loader import ImageSource  # imports torch, which preparing does without

        return ImageSource(
            self.dataset.root,
            getattr(self.splits, name),
            size,
            self.runtime.cache,
            self.runtime.cache_bytes,
            self.data.identities[name],
        )
