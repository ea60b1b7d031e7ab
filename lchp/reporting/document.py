"""What a report says, whatever it is written as."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lchp.data.fingerprint import flatten
from lchp.reporting.cells import Column
from lchp.reporting.contents import Contents
from lchp.reporting.differences import Differences
from lchp.reporting.frame import TrialRow
from lchp.reporting.gallery import Picture
from lchp.reporting.table import Table
from lchp.reporting.verdicts import Verdict, answer
from lchp.reporting.writing import show
from lchp.store.folder import StageFolder

TRIAL_TITLES = ("Seed", "Run", "Training", "Again")
"""Of the columns of :meth:`Document.trial_rows` behind what varies."""


@dataclass(frozen=True)
class Document:
    """A report: its question, the answer in one sentence, claims, tables with their differences, pictures, trials, and
    what they were made with.
    """

    contents: Contents
    trials: tuple[TrialRow, ...]
    verdicts: tuple[Verdict, ...]
    tables: tuple[Table, ...]
    differences: tuple[Differences, ...]
    """The tables', in their order."""
    pictures: tuple[Picture, ...]

    @property
    def answer(self) -> str:
        """What the results say of the claims, in one sentence; empty where the study states none."""
        return answer(self.verdicts) if self.verdicts else ""

    @property
    def trial_titles(self) -> tuple[str, ...]:
        """The columns of :meth:`trial_rows`."""
        return (*self.trials[0].varied, *TRIAL_TITLES)

    def trial_rows(self) -> list[tuple[str, ...]]:
        """Every trial: what varies, its seed and run, how long it trained, and the command that trains it again."""
        return [
            (*_values(trial), str(trial.seed), trial.run_id, _training(trial), _again(trial.run_id))
            for trial in self.trials
        ]

    def environment(self) -> dict[str, Any]:
        """What the first trial was made with."""
        return flatten(StageFolder(self.trials[0].folder).environment())


def _values(trial: TrialRow) -> list[str]:
    """What varies, as tables show it."""
    return [show(value, Column(key, key, "label")) for key, value in trial.varied.items()]


def _training(trial: TrialRow) -> str:
    return _duration([float(epoch["seconds"]) for epoch in trial.evidence.history])


def _duration(seconds: Sequence[float]) -> str:
    if not seconds:
        return "–"
    total = math.fsum(seconds)
    return f"{total / 60:.1f} min" if total >= 60 else f"{total:.1f} s"


def _again(run_id: str) -> str:
    return f"lchp reproduce {run_id}"
