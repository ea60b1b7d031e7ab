"""The values of single images, whose means are a trial's scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from pyarrow import csv

from lchp.store.per_image import CORNERS, IOU, LABEL, METHOD, PATH, SPLIT, TOP1, TOP5
from lchp.vocabulary import (
    BOX_ACCURACIES,
    HIT_IOU,
    MEAN_BOX_ACC,
    MEAN_IOU,
    METRICS,
    SPLITS,
    TOP1_CLS,
    TOP1_LOC,
    TOP5_LOC,
    WHOLE_IMAGE,
)


@dataclass(frozen=True, eq=False)
class ImageValues:
    """What a trial has of every image of a split.

    Attributes:
        paths: of the images, each once.
        classes: (images,), their labels.
        ious: by method (images,), NaN where no true box is known.
        top1: by method (images,), whether the label is the likeliest class, NaN where nothing was classified; ``top5``
            among the likeliest five.
    """

    paths: tuple[str, ...]
    classes: np.ndarray
    ious: Mapping[str, np.ndarray]
    top1: Mapping[str, np.ndarray]
    top5: Mapping[str, np.ndarray]

    def same_images(self, other: ImageValues) -> bool:
        """Whether both are of the same images: by their paths and labels, and by the IoU of the whole image, which
        tells other drawings under the same names.
        """
        whole = [one.ious.get(WHOLE_IMAGE) for one in (self, other)]
        known = whole[0] is not None and whole[1] is not None
        return (
            self.paths == other.paths
            and np.array_equal(self.classes, other.classes)
            and (not known or np.array_equal(np.asarray(whole[0]), np.asarray(whole[1]), equal_nan=True))
        )

    def values(self, method: str, metric: str) -> np.ndarray | None:
        """(images,), whose mean without NaN is the score; None of a method that has no boxes here, or of a metric that
        is no mean over images.
        """
        if method not in self.ious:
            return None
        ious, hits = self.ious[method], _at_least(self.ious[method], HIT_IOU)
        if METRICS[metric].iou is not None:
            return _at_least(ious, float(METRICS[metric].iou or 0))
        if metric == MEAN_BOX_ACC:
            parts = [_at_least(ious, float(METRICS[one].iou or 0)) for one in BOX_ACCURACIES]
            return np.asarray(sum(parts) / len(parts))
        plain = {
            MEAN_IOU: ious,
            TOP1_CLS: self.top1[method],
            TOP1_LOC: hits * self.top1[method],
            TOP5_LOC: hits * self.top5[method],
        }
        return plain.get(metric)


def _at_least(ious: np.ndarray, least: float) -> np.ndarray:
    return np.where(np.isnan(ious), np.nan, ious >= least)


@dataclass(frozen=True, eq=False)
class ImageRows:
    """What per_image.csv says of the images of a split, each method's rows in the order of ``paths``.

    Attributes:
        corners: by method (images, 4), the predicted boxes in pixels.
        values: all that scores are made of.
    """

    corners: Mapping[str, np.ndarray]
    values: ImageValues


def read_rows(text: bytes) -> dict[str, ImageRows]:
    """The rows of per_image.csv by split; a method that has not the images of the first one is left out.

    Arrow reads a file of 5,794 images in a fourth of the time that pandas takes, and a study may have 1,000 of them.

    Raises:
        ValueError, KeyError: it is no such table.
    """
    words, numbers = (PATH, SPLIT, METHOD), (*CORNERS, IOU, TOP1, TOP5)
    types = dict.fromkeys(words, pa.dictionary(pa.int32(), pa.string())) | dict.fromkeys(numbers, pa.float64())
    table = csv.read_csv(
        pa.BufferReader(text),
        csv.ReadOptions(block_size=len(text) + 1, use_threads=False),
        csv.ParseOptions(newlines_in_values=b'"' in text),
        csv.ConvertOptions(column_types={**types, LABEL: pa.int64()}, include_columns=[*words, LABEL, *numbers]),
    )
    columns = {name: table[name].to_numpy() for name in (LABEL, *numbers)}
    coded = {name: table[name].combine_chunks() for name in words}
    codes = {name: column.indices.to_numpy() for name, column in coded.items()}
    names = {name: column.dictionary.to_numpy(zero_copy_only=False) for name, column in coded.items()}
    found = {}
    for code, split in sorted(enumerate(names[SPLIT]), key=lambda one: SPLITS.index(one[1])):
        here = np.flatnonzero(codes[SPLIT] == code)
        own = codes[METHOD][here]
        # Codes are given as words come.
        places = {str(names[METHOD][one]): here[own == one] for one in np.unique(own)}
        found[split] = _rows(places, codes[PATH], names[PATH], columns)
    return found


def _rows(
    places: Mapping[str, np.ndarray], codes: np.ndarray, words: np.ndarray, columns: Mapping[str, np.ndarray]
) -> ImageRows:
    """The rows of a split; ``places`` are where each method's are, ``codes`` say which of ``words`` a path is."""
    first = next(iter(places.values()))
    places = {name: at for name, at in places.items() if np.array_equal(codes[at], codes[first])}
    ious = {name: columns[IOU][at] for name, at in places.items()}
    top1, top5 = (_shared(columns[name], places) for name in (TOP1, TOP5))
    paths = _once(tuple(words[codes[first]]))
    corners = {name: np.stack([columns[corner][at] for corner in CORNERS], 1) for name, at in places.items()}
    return ImageRows(corners, ImageValues(paths, columns[LABEL][first], ious, top1, top5))


def _shared(column: np.ndarray, places: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A column by method; the classes are the same of most methods, and are kept once."""
    found: dict[str, np.ndarray] = {}
    for name, at in places.items():
        own = column[at]
        found[name] = next((one for one in found.values() if np.array_equal(one, own, equal_nan=True)), own)
    return found


@lru_cache(maxsize=8)
def _once(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Hundreds of trials have the same images: their names are kept once."""
    return paths
