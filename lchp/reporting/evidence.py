"""What the numbers of a finished trial stand on: how many images, and whether its training degenerated.

All of it is read from the files that every finished trial leaves, so that results of older versions say it too.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lchp.reporting.per_image import ImageValues, image_values
from lchp.store.folder import StageFolder
from lchp.store.per_image import CORNERS, IOU, LABEL, METHOD, PATH, SPLIT, TOP1, TOP5
from lchp.vocabulary import LCHP_R, METHODS, REFINEMENT, SELECTED, SPLITS, TEST, WHOLE_IMAGE, predicting, training_key

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
    columns = [PATH, LABEL, SPLIT, METHOD, *CORNERS, IOU, TOP1, TOP5]
    try:
        rows = pd.read_csv(io.StringIO(stored.per_image_text()), usecols=columns)
    except ValueError as error:
        stored.per_image()  # names file and row, where it is cut
        raise ValueError(
            f"{folder}: the boxes of its images cannot be read ({error}): run the study again, which makes them again"
        ) from error
    found = tuple(degenerations(history, rows, _view_side(stored.config())))
    return Evidence(count_images(rows), found, image_values(rows), history)


def _view_side(config: Mapping[str, Any]) -> float:
    """The side of the evaluated view as a share of the image's."""
    view = config["view"]
    return float(view["crop"] / view["resize"]) if view["evaluation"] == "centre_crop" else 1.0


def count_images(rows: pd.DataFrame) -> dict[str, Images]:
    """The images of every split; ``rows`` are those of per_image.csv, one an image, split and method."""
    found = {}
    for split in SPLITS:
        of_split = rows[rows[SPLIT] == split]
        if len(of_split):
            of_one = of_split[of_split[METHOD] == of_split[METHOD].iloc[0]]
            found[split] = Images(len(of_one), int(of_one[IOU].notna().sum()))
    return found


def degenerations(
    history: Sequence[Mapping[str, Any]], rows: pd.DataFrame, view_side: float = 1.0
) -> Iterator[Degeneration]:
    """How the training of a trial degenerated, if it did.

    Args:
        history: its epochs, each with ``metrics``.
        rows: of per_image.csv; what is judged is the test split.
        view_side: the side of the evaluated view as a share of the image's, in (0, 1].
    """
    yield from _of_selection(history)
    test = rows[rows[SPLIT] == TEST]
    for method, corners in _corners(test).items():
        yield from _of_boxes(method, corners / view_side)
    yield from _of_classes(test)


def _of_selection(history: Iterable[Mapping[str, Any]]) -> Iterator[Degeneration]:
    key = training_key(REFINEMENT, SELECTED)
    shares = [float(epoch["metrics"][key]) for epoch in history if key in epoch["metrics"]]
    if shares and max(shares) == 0:
        meaning = "no box was selected in any epoch, so that refinement taught the regressor nothing: lower tau"
        yield Degeneration("0 selected", meaning, LCHP_R)
    if shares and min(shares) >= EVERYTHING:
        meaning = "no box was rejected in any epoch of refinement: raise tau, or lower confidence.keep"
        yield Degeneration("all selected", meaning, LCHP_R)


def _corners(test: pd.DataFrame) -> dict[str, np.ndarray]:
    """The predicted corners (n, 4) of every method as shares of the image's sides.

    per_image.csv holds pixels; the images' sizes are in the rows of the floor that is the whole image.
    """
    whole = test[test[METHOD] == WHOLE_IMAGE].drop_duplicates(PATH).set_index(PATH)[[*CORNERS[2:], *CORNERS[2:]]]
    found = {}
    for method in predicting():
        rows = test[test[METHOD] == method]
        if len(rows) and len(whole):
            found[method] = rows[list(CORNERS)].to_numpy(float) / whole.reindex(rows[PATH]).to_numpy(float)
    return found


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


def _of_classes(test: pd.DataFrame) -> Iterator[Degeneration]:
    """A classifier that is not two standard errors above always naming the most frequent class."""
    rows = test[test[METHOD] == test[METHOD].iloc[0]] if len(test) else test
    n, classes = len(rows), rows[LABEL].nunique()
    if n < FEWEST or classes < 2:
        return
    chance, right = float(rows[LABEL].value_counts().iloc[0] / n), float(rows[TOP1].mean())
    if right <= chance + 2 * (chance * (1 - chance) / n) ** 0.5:
        detail = f"{right:.1%} of {n} test images right, {chance:.1%} by always naming the most frequent class"
        yield Degeneration("at chance", "it tells the classes apart no better than a guess", None, detail)
