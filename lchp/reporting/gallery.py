"""Which pictures a study's report has, and what each is made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lchp.reporting import figures, search_figures
from lchp.reporting.frame import TrialRow
from lchp.reporting.table import Table
from lchp.store.folder import StageFolder
from lchp.store.study_folder import StudyFolder
from lchp.vocabulary import TEST, VAL, is_training_key

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A picture of a report.

    Attributes:
        file: where it goes, a .png.
        draw: gives the figure; None of a picture that was drawn before, which is ``source``.
    """

    title: str
    file: Path
    draw: Callable[[], Figure] | None = None
    source: Path | None = None


def pictures_of(tables: Sequence[Table], trials: Sequence[TrialRow], files: StudyFolder) -> list[Picture]:
    """The pictures that the tables and trials give, in the order of a report; files are not opened for it that tables
    do not read.
    """
    pictures = [
        Picture(table.title, files.curve(table.spec.name), partial(figures.curve, table))
        for table in tables
        if table.is_curve
    ]
    pictures += [
        Picture(table.title, files.curve(table.spec.name), partial(figures.heat_map, table))
        for table in tables
        if table.is_map
    ]
    pictures += [
        Picture("What the search tried", files.search, partial(search_figures.tried, table))
        for table in tables[:1]
        if table.is_search
    ]
    pictures += [
        Picture("What mattered in the search", files.importance, partial(search_figures.mattered, table))
        for table in tables[:1]
        if table.is_search and search_figures.can_weigh(table)
    ]
    pictures += _of_trials(trials, files)
    first = trials[0]
    drawn = StageFolder(first.folder).picture
    if drawn is not None:
        pictures.append(Picture(f"Predictions at {label(first)}", files.predictions, source=drawn))
    return pictures


def _of_trials(trials: Sequence[TrialRow], files: StudyFolder) -> list[Picture]:
    found = []
    alike = [trial for trial in trials if trial.varied == trials[0].varied]
    at = ", ".join(f"{key} = {value}" for key, value in trials[0].varied.items())
    place = f" at {at}" if at else ""
    split = next((one for one in (TEST, VAL) if _has_boxes(trials[0], one)), None)
    if split is not None:
        title = f"How well boxes fit on {split}{place}"
        found.append(Picture(title, files.ious, partial(figures.ious, alike, split)))
    if any(row.auc is not None for row in trials[0].selection):
        title = f"What the confidence selects of the training images{place}"
        found.append(Picture(title, files.confidence, partial(figures.confidence, alike)))
    if any(is_training_key(key) for trial in trials for epoch in trial.evidence.history for key in epoch["metrics"]):
        found.append(Picture("Training of all trials", files.training, partial(figures.training, trials)))
    return found


def _has_boxes(trial: TrialRow, split: str) -> bool:
    """Whether any image of the split has a true box."""
    images = trial.evidence.images.get(split)
    return images is not None and images.localized > 0


def label(trial: TrialRow) -> str:
    """A trial's values and seed, for people."""
    return ", ".join(f"{key} = {value}" for key, value in {**trial.varied, "seed": trial.seed}.items())
