"""Tables over what varies: mean and spread over seeds, the floors, and the paper's numbers beside ours.

A table of one metric over parameters has one row per distinct value and one column per method, the floors among them.
A table of several metrics, or over nothing, has one row per method (at every distinct value) and one column per metric;
over nothing, the works that the paper cites stand below.
Shares are in percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from lchp.data.fingerprint import distinct
from lchp.reporting.cells import Cell, Column
from lchp.reporting.confidence import (
    CONFIDENCE_AUC,
    auc_columns,
    auc_of,
    confidence_notes,
    selected_of,
    selection_columns,
)
from lchp.reporting.footnotes import counts, images_of, row_warnings, table_warnings
from lchp.reporting.frame import TrialRow, Unfinished
from lchp.reporting.origin import describe_origin
from lchp.reporting.paper import PARAMETERS, SELECTION, PaperTable, load_paper
from lchp.reporting.statistics import LEVEL, Summary, summarize
from lchp.reporting.table import Table, TableSpec
from lchp.vocabulary import GT_KNOWN, LCHP_R, METHODS, METRICS, SELECTED, TEST, TOP1_CLS

CLASSIFIER = {LCHP_R: replace(METHODS[LCHP_R], title="Classifier")}
"""What stands in a table of classification alone: it is the same whatever boxes a method predicts."""


class _Scores:
    """Look-up of the scores of some trials, shares in percent.

    ``methods`` are those that a table shows: all of a trial's, and the references that were measured.
    """

    def __init__(self, frame: pd.DataFrame, split: str) -> None:
        part = frame[frame["split"] == split]
        measured = set(part["method"])
        self.methods = {name: one for name, one in METHODS.items() if not one.reference or name in measured}
        keys = zip(part["run_id"], part["method"], part["metric"], strict=True)
        self._values = dict(zip(keys, part["value"], strict=True))

    def summary(self, trials: Sequence[TrialRow], method: str, metric: str) -> Summary | None:
        keys = [(trial.run_id, method, metric) for trial in trials]
        unit = 100 if METRICS[metric].share else 1
        return summarize([unit * float(self._values[key]) for key in keys if key in self._values])


def _counts(spec: TableSpec, varied: Mapping[str, Any]) -> bool:
    """Whether a trial is one of the table's; what a search has not suggested yet may be."""
    return all(varied.get(key, value) == value for key, value in spec.fixed.items() if key not in spec.by)


def _select(spec: TableSpec, trials: Sequence[TrialRow]) -> list[TrialRow]:
    """The trials that count, checked to differ in nothing but what makes the rows and the seed."""
    chosen = [trial for trial in trials if _counts(spec, trial.varied)]
    for key in chosen[0].varied if chosen else ():
        values = distinct([trial.varied[key] for trial in chosen])
        if key not in spec.by and len(values) > 1:
            raise ValueError(
                f"table {spec.name}: its rows would mix {key} = {', '.join(map(str, values))}: "
                f"add {key} to `by`, or fix it"
            )
    return chosen


def _paper(spec: TableSpec, folder: Path | None) -> tuple[PaperTable | None, list[str]]:
    """The paper's table for the spec, and the notes that go with it."""
    if spec.paper is None:
        return None, []
    if spec.paper in PARAMETERS:
        wanted = PARAMETERS[spec.paper]
        if spec.by != ((wanted,) if wanted else ()):
            raise ValueError(
                f"table {spec.name}: paper = {spec.paper} has rows by {wanted or 'method'}, the table has "
                f"by = {list(spec.by)}: set by to {[wanted] if wanted else []}, or leave paper out"
            )
    found = load_paper(spec.paper, folder) if folder else None
    if found is None:
        return None, [f"The paper's numbers are left out: {spec.paper}.csv is not in {folder or 'any given folder'}."]
    if spec.split != TEST:
        return None, ["The paper's numbers are left out: they are of the test split."]
    return found, [f"Paper: {spec.paper} of Sun & Zhu (2022), one run, on the whole data set the paper names."]


def _kind(metric: str) -> Literal["percent", "number"]:
    return "percent" if METRICS[metric].share else "number"


def _percent(metrics: Sequence[str]) -> str:
    """What a heading says of the unit of its numbers."""
    shares = [METRICS[metric].share for metric in metrics]
    return ", %" if all(shares) else ", shares in %" if any(shares) else ""


@dataclass(frozen=True)
class _Row:
    cells: tuple[Cell, ...]
    trials: Sequence[TrialRow] = ()
    """Those that it is made of; none of a row that the paper cites."""
    method: str | None = None
    """Whose it is; None where every method has columns of its own."""


def _over_methods(
    spec: TableSpec, trials: list[TrialRow], scores: _Scores, paper: PaperTable | None
) -> tuple[list[Column], list[_Row]]:
    """One row per distinct value and method, one column per metric."""
    columns = [*(Column(key, key, "label") for key in spec.by), Column("method", "Method", "label")]
    beside = {metric for metric in spec.metrics if paper and paper.knows(metric)}
    for metric in spec.metrics:
        columns.append(Column(metric, METRICS[metric].title, _kind(metric)))
        if metric in beside:
            columns.append(Column(f"paper_{metric}", f"{METRICS[metric].title} (paper)", "paper"))
    rows = []
    for values in _row_values(spec, trials) or [()]:
        here = _at(spec, values, trials)
        for name, method in scores.methods.items():
            cells: list[Cell] = [*values, method.title]
            for metric in spec.metrics:
                cells.append(scores.summary(here, name, metric))
                if paper and metric in beside:
                    cells.append(paper.number(values[0] if values else None, name, metric))
            rows.append(_Row(tuple(cells), here, name))
    for title, numbers in (paper.cited if paper else {}).items():
        cited = {f"paper_{metric}": numbers.get(metric) for metric in spec.metrics}
        rows.append(_Row((title, *(cited.get(column.key) for column in columns[1:]))))
    return columns, rows


def _parameter_columns(spec: TableSpec, scores: _Scores, paper: PaperTable | None) -> list[Column]:
    columns, (metric,) = [Column(key, key, "label") for key in spec.by], spec.metrics
    for name, method in scores.methods.items():
        columns.append(Column(f"{name}_{metric}", method.title, _kind(metric)))
        if paper and paper.reports(name, metric):
            columns.append(Column(f"paper_{name}_{metric}", f"{method.title} (paper)", "paper"))
    return columns


def _row_values(spec: TableSpec, trials: Sequence[TrialRow]) -> list[tuple[Any, ...]]:
    """What makes the rows: numbers in their order, words and what a search suggested in that of the trials."""
    rows = distinct([tuple(trial.varied[key] for key in spec.by) for trial in trials])
    if not spec.own:
        return rows
    orders = [_ordered([row[at] for row in rows]) for at in range(len(spec.by))]
    return sorted(rows, key=lambda row: [order.index(value) for order, value in zip(orders, row, strict=True)])


def _ordered(values: Sequence[Any]) -> list[Any]:
    each = distinct(values)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in each)
    return sorted(each) if numbers else each


def _at(spec: TableSpec, values: tuple[Any, ...], trials: Sequence[TrialRow]) -> list[TrialRow]:
    """The trials of the row whose parameters have those values."""
    return [trial for trial in trials if tuple(trial.varied[key] for key in spec.by) == values]


def _over_parameters(
    spec: TableSpec, trials: list[TrialRow], scores: _Scores, paper: PaperTable | None
) -> tuple[list[Column], list[_Row]]:
    """One row per distinct value, one column per method."""
    (metric,) = spec.metrics
    columns = _parameter_columns(spec, scores, paper)
    selecting = any(key == "tau" or key.split(".")[0] == "confidence" for key in spec.by)
    selecting = selecting and any(trial.selection for trial in trials)
    columns += auc_columns(trials)
    if selecting:
        columns += selection_columns(trials, paper)
    rows = []
    for values in _row_values(spec, trials):
        here = _at(spec, values, trials)
        cells: dict[str, Cell] = dict(zip(spec.by, values, strict=True))
        for method in scores.methods:
            cells[f"{method}_{metric}"] = scores.summary(here, method, metric)
            if paper:
                cells[f"paper_{method}_{metric}"] = paper.number(values[0], method, metric)
        cells[CONFIDENCE_AUC] = auc_of(here)
        if selecting:
            cells.update(selected_of(here, cells.get("tau")))
            if paper:
                cells["paper_selected"] = paper.number(values[0], SELECTION, SELECTED)
                cells[f"paper_selected_{GT_KNOWN}"] = paper.number(values[0], SELECTION, GT_KNOWN)
        rows.append(_Row(tuple(cells[column.key] for column in columns), here))
    return columns, rows


def _with_objectives(columns: list[Column], rows: list[_Row]) -> tuple[list[Column], list[_Row]]:
    """The table with what a search judges its rows by where no other column shows it, what they cost, and which are on
    its front; else as it is.
    """
    trials = [trial for row in rows for trial in row.trials]
    beside, found = list[Column](), [list[Cell]() for _ in rows]
    if any(trial.objective is not None for trial in trials):
        beside.append(Column("objective", "Objective", "label"))
        for row, cells in zip(rows, found, strict=True):
            cells.append(_only([trial.objective for trial in row.trials], "{:.4f}"))
    if any(trial.cost is not None for trial in trials):
        beside += [Column("gflop", "GFLOP an image", "label"), Column("front", "Pareto front", "label")]
        for row, cells in zip(rows, found, strict=True):
            front = "yes" if any(trial.on_front for trial in row.trials) else "no"
            cells += [_only([trial.cost for trial in row.trials], "{:.4g}"), front]
    return [*columns, *beside], [replace(row, cells=(*row.cells, *more)) for row, more in zip(rows, found, strict=True)]


def _only(values: Sequence[float | None], shown: str) -> str | None:
    """A number that all trials of a row share."""
    value = values[0] if len(set(values)) == 1 else None
    return None if value is None else shown.format(value)


def _with_warnings(columns: list[Column], rows: list[_Row]) -> tuple[list[Column], list[_Row]]:
    """The table with a last column that says in which rows training degenerated; as it is where it nowhere did."""
    found = [row_warnings(row.trials, row.method) if row.trials else None for row in rows]
    if not any(found):
        return columns, rows
    beside = [replace(row, cells=(*row.cells, cell)) for row, cell in zip(rows, found, strict=True)]
    return [*columns, Column("warnings", "Warnings", "warnings")], beside


def _has_boxes(spec: TableSpec, frame: pd.DataFrame) -> bool:
    """Whether any localization metric was measured on the split, or nothing at all, or none is shown."""
    measured = set(frame.loc[frame["split"] == spec.split, "metric"])
    shown = any(METRICS[metric].needs_boxes for metric in spec.metrics)
    return not shown or not measured or any(METRICS[metric].needs_boxes for metric in measured)


def _of_references(scores: _Scores) -> list[str]:
    """What the references of a table are, where it has any."""
    titles = [method.title for method in scores.methods.values() if method.reference]
    if not titles:
        return []
    return [
        f"{', '.join(titles)}: references, no results: the regressor alone, trained on true boxes of so many images a "
        "class, or of all training images."
    ]


def make_table(
    spec: TableSpec,
    frame: pd.DataFrame,
    trials: Sequence[TrialRow],
    paper: Path | None = None,
    unfinished: Sequence[Unfinished] | None = None,
    remarks: Sequence[str] = (),
) -> Table:
    """Build a table from tidy rows.

    Args:
        frame: what ``frame.collect`` gave for ``trials``, in whose order rows appear.
        paper: the folder of the paper's CSV files; a table that wants them and finds none says so.
        unfinished: the study's other trials; None where they are not known.
        remarks: sentences of the study, which follow the counts.

    Raises:
        ValueError: rows that would mix trials of other parameters, or a paper's table with other rows than ours.
    """
    chosen = _select(spec, trials)
    numbers, notes = _paper(spec, paper)
    make, scores = _over_methods if spec.has_rows_of_methods else _over_parameters, _Scores(frame, spec.split)
    if set(spec.metrics) == {TOP1_CLS} and numbers is None:
        scores.methods = CLASSIFIER
    columns, rows = _with_warnings(*_with_objectives(*make(spec, chosen, scores, numbers)))
    metrics = ", ".join(METRICS[metric].title for metric in spec.metrics)
    heading = f"{metrics} on {spec.split}{_percent(spec.metrics)}: mean ± sample standard deviation over seeds"
    if any(isinstance(cell, Summary) and cell.interval for row in rows for cell in row.cells):
        heading += f" [{LEVEL:.0%} interval of the mean over all seeds]"
    heading += " (n seeds)"
    if not _has_boxes(spec, frame):
        heading += f"; {spec.split} has images without true boxes, so only classification is measured"
    fixed = [f"{key} = {value}" for key, value in spec.fixed.items() if key not in spec.by]
    images = images_of(chosen, spec.split)
    missing = None if unfinished is None else [one for one in unfinished if _counts(spec, one.varied)]
    return Table(
        spec,
        heading,
        tuple(columns),
        tuple(row.cells for row in rows),
        describe_origin(chosen),
        notes=(
            *([f"At {', '.join(fixed)}."] if fixed else []),
            *_of_references(scores),
            *notes,
            *([] if spec.by and spec.has_rows_of_methods else confidence_notes(chosen, over_methods=not spec.by)),
        ),
        images=images,
        trials=len(chosen),
        planned=None if missing is None else len(chosen) + len(missing),
        counts=(*counts(images, spec.split, spec.metrics, len(chosen), missing), *remarks),
        warnings=table_warnings(chosen, spec.by),
        runs=tuple(tuple(trial.run_id for trial in row.trials) for row in rows),
    )
