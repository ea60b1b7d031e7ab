"""Everything that a study's folder shows, rebuilt from the files of its finished trials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lchp.data.fingerprint import flatten
from lchp.reporting.figures import curve, is_curve, losses
from lchp.reporting.frame import TrialRow, Unfinished, collect, write_results
from lchp.reporting.html import write_html
from lchp.reporting.tables import Table, TableSpec, make_table
from lchp.reporting.writing import write_table
from lchp.store.folder import StageFolder


def build_report(
    study: str,
    question: str | None,
    trials: Sequence[TrialRow],
    specs: Sequence[TableSpec],
    folder: Path,
    paper: Path | None = None,
    unfinished: Sequence[Unfinished] | None = None,
) -> list[Table]:
    """Write results.csv, every table (.csv, .md, .tex), a curve for each over a number, losses.png and report.html.

    The losses and the picture of predictions (where its folder has one) are the first trial's.

    Args:
        trials: the finished ones, in the order of the study; at least one.
        folder: where the files go, ``<DIR>/<study>``.
        paper: the folder of the paper's CSV files.
        unfinished: the study's other trials; None where they are not known.

    Returns:
        The tables, in the order of ``specs``.

    Raises:
        ValueError: as ``frame.collect`` and ``tables.make_table``.
    """
    assert trials, "a report needs a finished trial"
    frame = collect(study, trials)
    write_results(frame, folder / "results.csv")
    tables = [make_table(spec, frame, trials, paper, unfinished) for spec in specs]
    figures: dict[str, Path] = {}
    for table in tables:
        write_table(table, folder)
        if is_curve(table):
            figures[f"{table.spec.name}: {table.heading}"] = folder / f"{table.spec.name}.png"
            curve(table, folder / f"{table.spec.name}.png")
    first = trials[0]
    made = StageFolder(first.folder)
    at = ", ".join(f"{key} = {value}" for key, value in {**first.varied, "seed": first.seed}.items())
    losses(made.history(), folder / "losses.png")
    figures[f"Training at {at}"] = folder / "losses.png"
    if made.picture is not None:
        figures[f"Predictions at {at}"] = made.picture
    write_html(folder / "report.html", study, question, tables, figures, flatten(made.environment()))
    return tables
