"""A dataset whose files were read, which is dear and done once; and its splits, which are cheap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lchp.data.config import DatasetConfig, SplitConfig
from lchp.data.digest import Digest, boxes_digest
from lchp.data.findings import inspect, named
from lchp.data.headers import Headers, header
from lchp.data.identities import identity_of
from lchp.data.image_files import ImageFiles, read_image_files
from lchp.data.reading import open_dataset
from lchp.data.records import Boxes, Dataset, Splits
from lchp.data.splits import split
from lchp.data.true_boxes import Truth, read_truth


@dataclass(frozen=True, eq=False)
class OpenedDataset:
    """What every process knows of a dataset, whatever its splits. Of true boxes only evaluation asks."""

    dataset: Dataset
    digest: Digest
    headers: Headers
    true_boxes: Boxes | None
    """Those of all images, by their rows, as corners in [0, 1]; None where the dataset has no box file at all."""
    boxes_digest: str | None
    """One sha256 over the true boxes; None where there are none."""


@dataclass(frozen=True, eq=False)
class SplitDataset:
    """A dataset and its splits. It holds no pixels, and pickled ones that share a dataset hold it once."""

    opened: OpenedDataset
    splits: Splits
    identities: dict[str, str]
    """Which files a split's images are (:func:`lchp.data.identities.identity_of`), by its name."""
    findings: tuple[str, ...]
    """What the user should know of the data before trusting a score, one line each."""


@dataclass(frozen=True, eq=False)
class ReadDataset:
    """What was read of a dataset's files, from which its splits are drawn: for the process that prepares, not for
    workers.
    """

    config: DatasetConfig
    opened: OpenedDataset
    files: ImageFiles
    truth: Truth | None

    @classmethod
    def read(cls, config: DatasetConfig, cache: Path) -> ReadDataset:
        """Opens the dataset and reads every image file once, an unchanged one never again.

        Raises:
            ValueError: something is missing or no image; names file and remedy.
        """
        dataset = open_dataset(config, cache)
        files = read_image_files(dataset, cache)
        # What was listed is let go, what is mapped takes its place.
        dataset = dataset.over(files.images.all_paths)
        headers = _complete(files.headers, dataset)
        truth = read_truth(config, dataset, headers, cache)
        boxes = None if truth is None else truth.sound
        of_boxes = None if boxes is None else boxes_digest(dataset.images, boxes)
        return cls(config, OpenedDataset(dataset, files.digest, headers, boxes, of_boxes), files, truth)

    def split(self, config: SplitConfig) -> SplitDataset:
        """The dataset with the splits that ``config`` draws, no file read again.

        Raises:
            ValueError: a class has too few images, or scores would mean nothing; names the remedy.
        """
        splits = split(self.opened.dataset, config)
        findings = inspect(self.config, self.opened.dataset, splits, self.files.hashes, self.truth)
        findings.require_meaning()
        identities = {name: identity_of(records, self.files.states[records.rows]) for name, records in named(splits)}
        return SplitDataset(self.opened, splits, identities, findings.for_a_run())


def _complete(headers: Headers, dataset: Dataset) -> Headers:
    """Images without a header are asked again, which tells why they have none, or that they have become readable
    since. ValueError names the first that has none.
    """
    without = (headers[:, 0] == 0).nonzero()[0]
    if not len(without):
        return headers
    headers = headers.copy()
    for row, path in zip(without.tolist(), dataset.images.at(without).paths, strict=True):
        found = header(dataset.root / path)
        headers[row] = found.width, found.height, found.orientation
    return headers
