"""The kinds of datasets, one record each: everything that the rest of the package knows of a kind.

A new kind is a record here, the module of its reader and their tests. Nothing heavy is imported before a reader is
asked for: the command line and the plan read these records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lchp.data.records import Boxes, Dataset, PixelBoxes, Records


@dataclass(frozen=True)
class Counts:
    """Images of a dataset: all training images (val is drawn from them), test images, classes; and who says so."""

    train: int
    test: int
    classes: int
    source: str
    val: int | None = None
    """How many of the training images the dataset itself keeps for val; None: as many as are drawn."""


class Reader(Protocol):
    """What the module of a kind offers."""

    def read(self, source: Path, /) -> Dataset:
        """The images and labels at ``source``, without opening a file that holds nothing but boxes.

        What every kind must hold is checked by ``lchp.data.reading.open_dataset``; a reader checks what is its own:
        that its files parse and agree. ValueError names file, line and remedy.
        """

    def read_boxes(self, dataset: Dataset, records: Records, cache: Path | None = None, /) -> PixelBoxes | Boxes | None:
        """The true boxes of ``records``, by path (those of others may be there, too) or by their places; None where
        there is no box file at all.

        In pixels of the stored image, ends exclusive, as written: ``lchp.data.true_boxes`` judges them. A reader to
        which they are dear may remember them in ``cache``.
        """


@dataclass(frozen=True)
class Kind:
    """One kind of dataset."""

    name: str
    reader: Callable[[], Reader]
    layout: str
    """What is expected at the path, for messages."""
    marker: str | None = None
    """The file or folder by which its root is known; None: the path is a file that lists the images."""
    archives: bool = False
    """Whether an archive of the folder will do."""
    images_listed_in: str | None = None
    """The file below the root that names the images, for messages; None: the folders do, or the path itself."""
    classes_listed_in: str | None = None
    """The file below the root that names the classes, for messages."""
    published: Counts | None = None
    """The published size of an original dataset."""
    leaves_out_bad_boxes: bool = False
    """Whether a true box that is none (not finite, without area) is left out and counted, rather than refused."""
    drawn: bool = False
    """Whether the dataset is drawn, so that it needs no path."""


def _table() -> Reader:
    from lchp.data import table

    return table


def _cub() -> Reader:
    from lchp.data import cub

    return cub


def _tiny_imagenet() -> Reader:
    from lchp.data import tiny_imagenet

    return tiny_imagenet


def _imagenet() -> Reader:
    from lchp.data import imagenet

    return imagenet


KINDS = {
    kind.name: kind
    for kind in (
        Kind("synthetic", _table, "nothing: it is drawn into the cache", drawn=True),
        Kind(
            "cub",
            _cub,
            "a folder with images/, images.txt, classes.txt, image_class_labels.txt, train_test_split.txt, or its .tgz",
            marker="images.txt",
            archives=True,
            images_listed_in="images.txt",
            classes_listed_in="classes.txt",
            published=Counts(5_994, 5_794, 200, "the published size of CUB-200-2011"),
        ),
        Kind(
            "tiny-imagenet",
            _tiny_imagenet,
            "a folder with wnids.txt, train/ and val/, or its archive",
            marker="wnids.txt",
            archives=True,
            images_listed_in="val/val_annotations.txt",
            classes_listed_in="wnids.txt",
            published=Counts(100_000, 10_000, 200, "the published size of Tiny-ImageNet-200"),
        ),
        Kind(
            "imagenet",
            _imagenet,
            "the folder that holds ILSVRC/Data/CLS-LOC/{train,val}",
            marker="Data/CLS-LOC/train",
            published=Counts(
                1_281_167, 50_000, 1_000, "the published size of ImageNet-1k (the paper's text says 1,281,197)"
            ),
            leaves_out_bad_boxes=True,
        ),
        Kind("table", _table, "a CSV file with the columns path,label,split and, where known, x1,y1,x2,y2"),
    )
}
"""Name to record, in the order in which people read them."""
