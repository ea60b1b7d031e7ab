"""The values of single images, whose means are a trial's scores."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lchp.store.per_image import IOU, LABEL, METHOD, PATH, SPLIT, TOP1, TOP5
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


def image_values(rows: pd.DataFrame) -> dict[str, ImageValues]:
    """The images of every split, in the order of the rows; ``rows`` are those of per_image.csv."""
    found = {}
    for split in SPLITS:
        of_split = rows[rows[SPLIT] == split]
        methods = {str(name): part for name, part in of_split.groupby(METHOD, sort=False)}
        if not methods:
            continue
        first = next(iter(methods.values()))
        # Hundreds of trials have the same images: their names are kept once.
        paths = tuple(sys.intern(str(path)) for path in first[PATH])
        names = first[PATH].to_numpy()
        methods = {name: part for name, part in methods.items() if np.array_equal(part[PATH].to_numpy(), names)}
        ious, top1, top5 = (
            {name: part[column].to_numpy(float) for name, part in methods.items()} for column in (IOU, TOP1, TOP5)
        )
        found[split] = ImageValues(paths, first[LABEL].to_numpy(), ious, top1, top5)
    return found
