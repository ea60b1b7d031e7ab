"""selection.csv, Table 4's left half: which boxes a confidence selects on the training images, and how good they are.

Version 0.1 measured the evaluated views under thresholds alone, and had the columns up to ``total``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from lchp.vocabulary import GT_KNOWN, SELECTED

EVALUATED, TRAINING = "evaluated", "training"
"""The views: those in which results are measured, and those that refinement's first epoch draws, from which Eq. 6
selects.
"""


@dataclass(frozen=True)
class SelectionRow:
    """What one rule selects of the boxes of one kind of views. Either ``tau`` or ``keep`` is given."""

    tau: float | None
    """The threshold: boxes whose confidence is strictly greater."""
    selected: int
    """How many boxes."""
    gt_known: float | None
    """GT-Known of those; None where there are none."""
    total: int
    """Of how many: the images that have true boxes."""
    views: str
    keep: float | None
    """The share of boxes with the highest confidences."""
    auc: float | None
    """How often a box with IoU >= 0.5 has a higher confidence than one below, over all ``total`` boxes."""
    own: bool
    """Whether it is the trial's own rule."""


COLUMNS = tuple(field.name for field in fields(SelectionRow))


def selection_text(rows: Iterable[SelectionRow]) -> str:
    """The rows as CSV; floats with all their digits, what is None empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        values = [getattr(row, column) for column in COLUMNS[:-1]]
        writer.writerow([*("" if value is None else value for value in values), int(row.own)])
    return text.getvalue()


def selection_rows(rows: Iterable[dict[str, str]]) -> list[SelectionRow]:
    """The rows of selection.csv as text, of this version or of 0.1."""
    return [
        SelectionRow(
            _number(row["tau"]),
            int(row[SELECTED]),
            _number(row[GT_KNOWN]),
            int(row["total"]),
            row.get("views", EVALUATED),
            _number(row.get("keep")),
            _number(row.get("auc")),
            row.get("own") == "1",
        )
        for row in rows
    ]


def quality(rows: Sequence[SelectionRow]) -> dict[str, float]:
    """How well the confidence ranks, and what the trial's own rule selects, by the names that MLflow shows.

    ``confidence/train/``: ``auc``, ``selected`` (a share), ``gt_known`` of those, and ``n``, of how many boxes, on the
    views that Eq. 6 selects from; ``confidence/train/evaluated_views/``: the same on the evaluated views. What is not
    known is left out; all of it, of what version 0.1 measured.
    """
    found = {}
    for views, name in ((TRAINING, "confidence/train"), (EVALUATED, "confidence/train/evaluated_views")):
        row = own_rule(rows, views)
        if row is not None:
            known = {"auc": row.auc, SELECTED: row.selected / row.total, GT_KNOWN: row.gt_known, "n": row.total}
            found.update({f"{name}/{key}": float(value) for key, value in known.items() if value is not None})
    return found


def own_rule(rows: Iterable[SelectionRow], views: str = TRAINING) -> SelectionRow | None:
    """What the trial's own rule selects on these views; None where that was not measured."""
    return next((row for row in rows if row.own and row.views == views), None)


def _number(text: str | None) -> float | None:
    return float(text) if text else None
