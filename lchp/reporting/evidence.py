"""What the numbers of a finished trial stand on: how many images, and whether its training degenerated.

All of it is read from the files that every finished trial leaves, so that results of older versions say it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lchp.reporting.per_image import ImageRows, ImageValues, read_rows
from lchp.store.folder import StageFolder
from lchp.vocabulary import LCHP_R, METHODS, REFINEMENT, SELECTED, TEST, WHOLE_IMAGE, predicting, training_key

EVERYTHING = 0.99
"""The share of selected boxes, in every epoch, from which nothing is rejected: a box that the augmentation moves out
of the view is so by any rule.
"""

ONE_SIDE = 0.01
"""Of the view's side: corners that vary by less over the test images are the same; a box with a shorter side is
nothing; one whose sides lack less is the whole view.
"""

TRIVIAL = 0.95
"""The share of test images from which on boxes that are nothing or the whole view are no localization."""

FEWEST = 5
"""Test images below which boxes and classes say nothing about the training."""

NOTHING_SELECTED = "0 selected"


@dataclass(frozen=True)
class Images:
    """How many images of a split were measured, and how many of them have true boxes: localization is over those."""

    total: int
    localized: int

    def line(self, split: str, localization: str = "localization") -> str:
        """The counts, and by how many points one image moves a score; ``localization`` names what wants true boxes."""
        line = f"{self.total} {split} images; one image is worth {100 / self.total:.2f} points"
        if not localization or self.localized == self.total:
            return line
        if self.localized == 0:
            return f"{line}; none has a true box"
        return (
            f"{line}; {localization} over {self.localized} of {self.total} images, those with true boxes, where one is "
            f"worth {100 / self.localized:.2f}"
        )


@dataclass(frozen=True)
class Degeneration:
    """A way in which a trial's training came to nothing.

    Attributes:
        short: a few words, for a row of a table.
        meaning: a sentence that holds for every trial of this kind.
        method: whose row it concerns; None where it is the classifier.
        detail: this trial's numbers.
    """

    short: str
    meaning: str
    method: str | None = None
    detail: str = ""

    @property
    def kind(self) -> Degeneration:
        """What other trials may share: it without this trial's numbers."""
        return replace(self, detail="")

    @property
    def subject(self) -> str:
        """Who degenerated, as people read it."""
        return "classifier" if self.method is None else METHODS[self.method].title

    @property
    def text(self) -> str:
        """The whole of it, for the log and MLflow."""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.subject}, {self.short}{detail}: {self.meaning}"


@dataclass(frozen=True)
class Evidence:
    """What a finished trial's numbers stand on. ``images`` is by split, empty where no image's boxes were kept, as is
    ``values``.
    """

    images: Mapping[str, Images]
    degenerations: tuple[Degeneration, ...]
    values: Mapping[str, ImageValues] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    """The finished epochs; none where they were not kept."""

    @property
    def counts(self) -> list[str]:
        """The images of every split, one line each."""
        return [images.line(split) for split, images in self.images.items()]

    @property
    def warnings(self) -> list[str]:
        """How training degenerated, one line a kind."""
        return [one.text for one in self.degenerations]


def read_evidence(folder: Path) -> Evidence:
    """The evidence in the folder of a finished trial.

    Raises:
        ValueError: a file is damaged; names it.
    """
    stored = StageFolder(folder)
    history = stored.history() if stored.has_history else []
    if not stored.has_per_image:
        return Evidence({}, tuple(_of_selection(history)), history=history)
    try:
        rows = read_rows(stored.per_image_bytes())
    except (ValueError, KeyError) as error:
        stored.per_image()  # names file and row, where it is cut
        raise ValueError(
            f"{folder}: the boxes of its images cannot be read ({error}): run the study again, which makes them again"
        ) from error
    found = tuple(degenerations(history, rows.get(TEST), _view_side(stored.config())))
    images = {split: count_images(of_split.values) for split, of_split in rows.items()}
    return Evidence(images, found, {split: of_split.values for split, of_split in rows.items()}, history)


def _view_side(config: Mapping[str, Any]) -> float:
    """The side of the evaluated view as a share of the image's."""
    view = config["view"]
    return float(view["crop"] / view["resize"]) if view["evaluation"] == "centre_crop" else 1.0


def count_images(values: ImageValues) -> Images:
    """The images of a split."""
    ious = next(iter(values.ious.values()))
    return Images(len(ious), int((~np.isnan(ious)).sum()))


def degenerations(
    history: Sequence[Mapping[str, Any]], test: ImageRows | None, view_side: float = 1.0
) -> Iterator[Degeneration]:
    """How the training of a trial degenerated, if it did.

    Args:
        history: its epochs, each with ``metrics``.
        test: what per_image.csv says of the test split, by which boxes and classes are judged; None where that has no
            images.
        view_side: the side of the evaluated view as a share of the image's, in (0, 1].
    """
    yield from _of_selection(history)
    if test is not None:
        for method, corners in _corners(test).items():
            yield from _of_boxes(method, corners / view_side)
        yield from _of_classes(test.values)


def _of_selection(history: Iterable[Mapping[str, Any]]) -> Iterator[Degeneration]:
    key = training_key(REFINEMENT, SELECTED)
    shares = [float(epoch["metrics"][key]) for epoch in history if key in epoch["metrics"]]
    if shares and max(shares) == 0:
        meaning = (
            f"no box was selected in any epoch, so that refinement learned from none: what {METHODS[LCHP_R].title} "
            "differs in comes of weight decay and the batches' statistics: lower tau"
        )
        yield Degeneration(NOTHING_SELECTED, meaning, LCHP_R)
    if shares and min(shares) >= EVERYTHING:
        meaning = "no box was rejected in any epoch of refinement: raise tau, or lower confidence.keep"
        yield Degeneration("all selected", meaning, LCHP_R)


def _corners(test: ImageRows) -> dict[str, np.ndarray]:
    """The predicted corners (n, 4) of every method as shares of the image's sides.

    per_image.csv holds pixels; the images' sizes are in the rows of the floor that is the whole image.
    """
    if WHOLE_IMAGE not in test.corners:
        return {}
    sizes = np.tile(test.corners[WHOLE_IMAGE][:, 2:], 2)
    return {method: test.corners[method] / sizes for method in predicting() if method in test.corners}


def _of_boxes(method: str, corners: np.ndarray) -> Iterator[Degeneration]:
    """``corners`` (n, 4) are shares of the view's side, from wherever it begins."""
    if len(corners) < FEWEST:
        return
    sides = corners[:, 2:] - corners[:, :2]
    nothing, whole = (sides < ONE_SIDE).any(1).mean(), (sides > 1 - ONE_SIDE).all(1).mean()
    if nothing + whole > TRIVIAL:
        meaning = f"on more than {TRIVIAL:.0%} of the test images a box is nothing, or all that the network saw"
        yield Degeneration("trivial boxes", meaning, method, f"{nothing:.0%} nothing, {whole:.0%} the whole view")
    elif (corners.std(0) < ONE_SIDE).all():
        meaning = f"the boxes of all test images are the same to {ONE_SIDE:.0%} of a side"
        yield Degeneration("constant boxes", meaning, method)


def _of_classes(test: ImageValues) -> Iterator[Degeneration]:
    """A classifier that is not two standard errors above always naming the most frequent class."""
    n, counts = len(test.classes), np.unique(test.classes, return_counts=True)[1]
    classified = next(iter(test.top1.values()))
    if n < FEWEST or len(counts) < 2 or np.isnan(classified).all():
        return
    chance, right = float(counts.max() / n), float(np.nanmean(classified))
    if right <= chance + 2 * (chance * (1 - chance) / n) ** 0.5:
        detail = f"{right:.1%} of {n} test images right, {chance:.1%} by always naming the most frequent class"
        yield Degeneration("at chance", "on so many images it cannot be told from a guess", None, detail)
