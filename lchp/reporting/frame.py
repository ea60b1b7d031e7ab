"""Finished trials as tidy rows: one row per number, the columns of results.csv."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lchp.reporting.evidence import Evidence, read_evidence
from lchp.store.folder import StageFolder
from lchp.store.selection import SelectionRow
from lchp.vocabulary import Score

_READERS = 8
"""Threads at most."""


@dataclass(frozen=True)
class TrialRow:
    """A finished trial of a study: its MLflow run, its seed, the value of every varied parameter, and its folder."""

    run_id: str
    seed: int
    varied: dict[str, Any]
    folder: Path
    references: tuple[Path, ...] = ()
    """Folders of the references that stand beside it."""
    objective: float | None = None
    """What a search judges its suggestion by, over its seeds, where no column shows that."""
    cost: float | None = None
    """GFLOP for each training image, where a search goes by them."""
    on_front: bool = False
    """Whether no other trial of such a search is better in one objective and as good in the other."""

    @cached_property
    def evidence(self) -> Evidence:
        """What its numbers stand on, read once."""
        return read_evidence(self.folder)

    @cached_property
    def selection(self) -> list[SelectionRow]:
        """What its confidence selects of the training images, read once; empty where no true box is known."""
        return StageFolder(self.folder).selection_rows()


@dataclass(frozen=True)
class Unfinished:
    """A trial that a study plans and that is not finished; what a search has not suggested yet varies nothing."""

    name: str
    varied: dict[str, Any]


def read_ahead(trials: Sequence[TrialRow]) -> None:
    """Read the evidence of all trials by several threads: most of that is parsing, for which Python is let go.

    Raises:
        ValueError: as ``read_evidence``.
    """
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _READERS)) as readers:
        for _ in readers.map(lambda trial: trial.evidence, trials):
            pass


def _rows(study: str, trial: TrialRow) -> list[dict[str, Any]]:
    values = StageFolder(trial.folder).scores()
    for reference in trial.references:
        values |= StageFolder(reference).scores()
    try:
        scores = sorted(map(Score.parse, values), key=lambda score: score.place)
    except ValueError as error:
        raise ValueError(
            f"{trial.folder}: {error}: use the version of lchp that made it, or run the study again"
        ) from error
    head = {"study": study, "run_id": trial.run_id, "seed": trial.seed, **trial.varied}
    return [{**head, **asdict(score), "value": float(values[score.key])} for score in scores]


def collect(study: str, trials: Sequence[TrialRow]) -> pd.DataFrame:
    """The scores of all trials, in the order of the trials.

    results.csv in a study's folder holds the same rows. Mean and spread of LCHP-R over the seeds, for instance:

    >>> results = pd.DataFrame({
    ...     "seed": [0, 1, 0, 1], "delta": [0.3, 0.3, 0.4, 0.4], "method": "lchp_r", "split": "test",
    ...     "metric": "gt_known", "value": [0.5, 0.7, 0.25, 0.75],
    ... })
    >>> chosen = results.query("method == 'lchp_r' and split == 'test' and metric == 'gt_known'")
    >>> chosen.groupby("delta")["value"].agg(["mean", "std", "count"]).round(3).to_dict("index")
    {0.3: {'mean': 0.6, 'std': 0.141, 'count': 2}, 0.4: {'mean': 0.5, 'std': 0.354, 'count': 2}}

    Returns:
        Columns ``study, run_id, seed``, one per varied parameter, ``method, split, metric, value`` (a fraction).

    Raises:
        ValueError: a trial without scores.json, or one of unknown scores.
    """
    varied = list(trials[0].varied) if trials else []
    assert all(list(trial.varied) == varied for trial in trials), "trials of one study vary the same parameters"
    rows = [row for trial in trials for row in _rows(study, trial)]
    columns = ["study", "run_id", "seed", *varied, "method", "split", "metric", "value"]
    # Objects keep 2 an int and None itself where a column holds both.
    return pd.DataFrame(rows, columns=columns, dtype=object).astype({"seed": "int64", "value": "float64"})


def results_text(frame: pd.DataFrame) -> str:
    """results.csv; every number is the shortest text that reads back to the same bits."""
    return str(frame.to_csv(index=False, lineterminator="\n"))
