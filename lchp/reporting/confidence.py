"""The columns and notes of a table that say how well the confidence ranks the training images' boxes, and what it
selects of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lchp.data.fingerprint import distinct
from lchp.reporting.cells import Column
from lchp.reporting.frame import TrialRow
from lchp.reporting.paper import SELECTION, PaperTable
from lchp.reporting.statistics import Summary, summarize
from lchp.store.selection import EVALUATED, TRAINING, own_rule
from lchp.vocabulary import GT_KNOWN, METRICS, SELECTED

CONFIDENCE_AUC = "confidence_auc"
"""The column of how well the confidence ranks."""


def auc_columns(trials: Sequence[TrialRow]) -> list[Column]:
    """How well the confidence ranks what Eq. 6 selects from, where a trial says it."""
    known = any(own_rule(trial.selection) for trial in trials)
    return [Column(CONFIDENCE_AUC, "Confidence AUC (train)", "percent")] if known else []


def selection_columns(trials: Sequence[TrialRow], paper: PaperTable | None) -> list[Column]:
    """Table 4's left half: how many training images are selected, and the GT-Known of those; on the evaluated views,
    and on those that Eq. 6 selects from.
    """
    title = METRICS[GT_KNOWN].title
    columns = [
        Column(SELECTED, "Selected (train)", "count"),
        Column(f"selected_{GT_KNOWN}", f"{title} of selected (train)", "percent"),
    ]
    if paper and paper.reports(SELECTION, SELECTED):
        columns.insert(1, Column("paper_selected", "Selected (paper)", "paper_count"))
        columns.append(Column(f"paper_selected_{GT_KNOWN}", f"{title} of selected (paper)", "paper"))
    if any(own_rule(trial.selection) for trial in trials):
        columns += [
            Column(f"{TRAINING}_{SELECTED}", "Selected (training views)", "count"),
            Column(f"{TRAINING}_selected_{GT_KNOWN}", f"{title} of selected (training views)", "percent"),
        ]
    return columns


def selected_of(trials: Sequence[TrialRow], tau: Any) -> dict[str, Summary | None]:
    """The cells of :func:`selection_columns`: what the trials' own rules select. Version 0.1 counted under fixed
    thresholds, and ``tau`` picks one.
    """
    cells: dict[str, Summary | None] = {}
    for views, before in ((EVALUATED, ""), (TRAINING, f"{TRAINING}_")):
        found = [
            own_rule(trial.selection, views)
            or next((row for row in trial.selection if row.tau == tau and row.views == views), None)
            for trial in trials
        ]
        rows = [row for row in found if row is not None]
        cells[f"{before}{SELECTED}"] = summarize([float(row.selected) for row in rows])
        shares = [100 * row.gt_known for row in rows if row.gt_known is not None]
        cells[f"{before}selected_{GT_KNOWN}"] = summarize(shares)
    return cells


def auc_of(trials: Sequence[TrialRow]) -> Summary | None:
    """Over the trials that say it, in percent."""
    rows = [own_rule(trial.selection) for trial in trials]
    return summarize([100 * row.auc for row in rows if row is not None and row.auc is not None])


def confidence_notes(trials: Sequence[TrialRow], over_methods: bool) -> list[str]:
    """What the confidence's numbers are, and over how many images; its AUC, where the methods make the rows."""
    totals = distinct([row.total for trial in trials if (row := own_rule(trial.selection)) is not None])
    if not totals:
        return []
    of = f"over {' or '.join(map(str, totals))} training images with true boxes"
    if not over_methods:
        return [f"Confidence AUC: how often a box with IoU >= 0.5 has the higher confidence, {of}; 50 is chance."]
    auc = auc_of(trials)
    return [] if auc is None else [f"Confidence AUC (IoU >= 0.5) on train: {auc.text(2)}, {of}; 50 is chance."]
