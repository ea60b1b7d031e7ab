"""A study's tables, figures and report, made from the files of its finished trials; no torch, no Ray."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lchp.data.files import read_json, write_text
from lchp.errors import Refusal, refusing
from lchp.reporting.build import build_report
from lchp.reporting.contents import Contents, Listed, read_contents
from lchp.reporting.frame import TrialRow, Unfinished
from lchp.reporting.paper import paper_beside
from lchp.reporting.table import Table, TableSpec
from lchp.reporting.writing import to_markdown
from lchp.store.study_folder import StudyFolder, store_of
from lchp.study.run.ledger import Entry, finished, read, require_whole
from lchp.study.spec.claims import space_of
from lchp.study.spec.load import Study
from lchp.study.spec.tables import fixed_values
from lchp.study.spec.values import config_value
from lchp.vocabulary import TEST, VAL, Score


def table_specs(study: Study) -> list[TableSpec]:
    """What the study's tables show.

    A table shows trials whose other varied keys have the values of ``fixed``, or those of the study's configuration.
    """
    specs = []
    for table in study.tables:
        by = study.varied if table.by is None else table.by
        split = table.split or (VAL if study.search else TEST)
        fixed = fixed_values(table, study.base, study.varied)
        # The base of a search is none of its trials.
        own = {} if study.search else {key: config_value(study.base, key) for key in by}
        specs.append(TableSpec(table.name, by, table.metrics, split, table.paper, fixed, own))
    return specs


def make_tables(study: Study, output: Path, redraw: bool = True, runs_at: str | None = None) -> list[Table]:
    """Write results.csv, tables, figures and report.html into the study's folder.

    Without ``redraw`` figures and report are made only where a number has changed or one of them is missing.
    ``runs_at`` is the address of the runs table; None stands for that of before.

    Raises:
        Refusal: no trial is finished, or the files of one are damaged.
    """
    folder, store = output / study.name, store_of(output)
    entries = read(folder)
    require_whole(entries, store)
    if runs_at is None:
        with suppress(ValueError):
            runs_at = read_contents(StudyFolder(folder).contents).runs_at
    contents = replace(_contents(study, folder, entries), runs_at=runs_at)
    return build_report(contents, store, folder, paper_beside(output), redraw)


def _contents(study: Study, folder: Path, entries: Sequence[Entry]) -> Contents:
    """What the study's report is made of; ``entries`` are its trials.

    Raises:
        Refusal: no trial is finished.
    """
    listed, unfinished, whole = [], [], {entry.folder for entry in finished(entries, study.repeats)}
    judged = _judged(study, folder)
    for entry in entries:
        if entry.folder in whole:
            listed.append(replace(_listed(entry), **judged.get(entry.number, {})))
        elif entry.state != "pruned":
            unfinished.append(Unfinished(entry.name, entry.varied))
    # What a search has not suggested yet, or a study that was stopped has not written down.
    pruned = sum(entry.state == "pruned" for entry in entries)
    stopped = StudyFolder(folder).stopped
    beside = " and by cost, GFLOP for each training image" if study.search and study.search.cost else ""
    remarks = [f"The search chooses by {study.search.objective.title}{beside}."] if study.search else []
    remarks += [stopped.read_text(encoding="utf-8").strip()] if stopped.exists() else []
    missing = range(len(listed) + len(unfinished) + pruned, 0 if stopped.exists() else study.count)
    unfinished += [Unfinished(f"#{number // study.repeats}", {}) for number in missing]
    if not listed:
        raise Refusal(f"{folder}: no trial is finished: run the study first")
    return Contents(
        study.name, study.question, tuple(table_specs(study)), tuple(listed), tuple(unfinished), tuple(remarks),
        tuple(claim.text for claim in study.claims),
        space_of(study.base, study.varied, study.grid, study.references),
    )  # fmt: skip


def _judged(study: Study, folder: Path) -> dict[int, dict[str, Any]]:
    """Of a search whose objectives no column of a table shows, by the number of a finished suggestion: fields of its
    rows, as the search wrote them at its last end.
    """
    file = StudyFolder(folder).best
    shown = study.search is None or (study.search.objective.needs_boxes and study.search.cost is None)
    if shown or not file.exists():
        return {}
    with refusing():
        named = read_json(file, "run the study again, which writes it")
    costs, front = named.get("gflop", {}), {one["number"] for one in named.get("front", ())}
    return {
        int(number): {"objective": value, "cost": costs.get(number), "on_front": int(number) in front}
        for number, value in named.get("reached", {}).items()
    }


def trial_row(entry: Entry, store: Path) -> TrialRow:
    """A finished trial, as the reports read it."""
    return _listed(entry).row(store)


def _listed(entry: Entry) -> Listed:
    return Listed(run_or_key(entry), entry.seed, entry.varied, entry.folder, tuple(entry.references.values()))


def run_or_key(entry: Entry) -> str:
    """What files name a trial's run by: its id or, where the tracking store has it not yet, its key."""
    return entry.run_id or Path(entry.folder).name


def name_runs(folder: Path, ids: Mapping[str, str]) -> None:
    """Put the ids of runs in place of what ``results.csv``, ``best.json`` and the report's list of trials named them
    by, :func:`run_or_key`.
    """
    for file in (StudyFolder(folder).results, StudyFolder(folder).best):
        if file.exists():
            text = before = file.read_text(encoding="utf-8")
            for named, run_id in ids.items():
                text = text.replace(named, run_id)
            if text != before:
                write_text(file, text)
    if StudyFolder(folder).contents.exists():
        write_text(StudyFolder(folder).contents, read_contents(StudyFolder(folder).contents).renamed(ids).text())


def study_metrics(results: Path, varied: Sequence[str], first: Sequence[str]) -> dict[str, float]:
    """What the study's own run shows of the headline of its trials, by results.csv: the mean over all of them, and the
    highest mean over seeds that a setting has.
    """
    frame = pd.read_csv(results, dtype=dict.fromkeys(varied, "string"))
    found = {}
    for score in map(Score.parse, first):
        of_score = [frame["method"] == score.method, frame["split"] == score.split, frame["metric"] == score.metric]
        rows = frame[of_score[0] & of_score[1] & of_score[2]]
        if len(rows):
            # Settings in which a key is not set are settings, too.
            settings = rows.groupby(list(varied), dropna=False)["value"] if varied else rows["value"]
            found[f"best/{score.title}"] = float(np.max(settings.mean()))
            found[f"mean/{score.title}"] = float(rows["value"].mean())
    return found


def as_text(tables: Sequence[Table], folder: Path) -> str:
    """The tables and the claims for a terminal, and where the report in the study's ``folder`` is."""
    report = f"report: {StudyFolder(folder).report}"
    return "\n".join([*(to_markdown(table) for table in tables), *claims_text(folder), report])


def as_dict(tables: Sequence[Table], folder: Path) -> dict[str, Any]:
    """The rows of the tables by name, as their CSV files have them, and the claims, for programs."""
    files = StudyFolder(folder)

    def rows(file: Path) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))

    return {
        "tables": {table.spec.name: rows(files.table(table.spec.name)[0]) for table in tables},
        "claims": rows(files.claims) if files.claims.exists() else [],
    }


def claims_text(folder: Path) -> list[str]:
    """What the results say of the study's claims, as Markdown; nothing where it states none."""
    file = StudyFolder(folder).claims_text
    return [file.read_text(encoding="utf-8")] if file.exists() else []
