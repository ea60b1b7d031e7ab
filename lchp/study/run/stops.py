"""Why a search makes no further suggestion before it has made all, by what its files say, whoever ran it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial

from lchp.study.run.cards import Cards
from lchp.study.run.optuna_storage import completed, pruned
from lchp.study.run.run_cards import is_trial
from lchp.study.spec.load import Study
from lchp.study.spec.search import Stop


class Spending:
    """The time in which trials were trained: from the cards of their runs, and from what is told of since."""

    def __init__(self) -> None:
        self._periods: list[tuple[float, float]] = []
        """Begin and end of every epoch that was trained for this study, in seconds since 1970."""

    @classmethod
    def of(cls, folder: Path, stop: Stop) -> Spending:
        """What the trials of a study's folder have taken so far, if it is of importance."""
        found = cls()
        if stop.hours is not None or stop.gpu_hours is not None:
            for card in Cards(folder).all():
                # A trial's epochs are those of both stages, and initializations have cards, too.
                if is_trial(card):
                    found.add(card.epochs)
        return found

    def add(self, epochs: Iterable[Mapping[str, Any]]) -> None:
        """Some epochs ended; those that were found trained cost nothing."""
        for epoch in epochs:
            if not epoch["reused"]:
                end = epoch["time"] / 1000
                self._periods.append((end - epoch["seconds"], end))

    @property
    def hours(self) -> float:
        """Hours in which at least one trial was trained."""
        total = until = 0.0
        for begin, end in sorted(self._periods):
            total += max(0.0, end - max(begin, until))
            until = max(until, end)
        return total / 3600

    @property
    def training_hours(self) -> float:
        """Hours of all trials together."""
        return sum(end - begin for begin, end in self._periods) / 3600


def stop_reason(study: Study, stored: OptunaStudy, spending: Spending) -> str | None:
    """Why the search makes no further suggestion; None where it goes on."""
    assert study.search is not None, "only a search suggests"
    stop, gpu_hours = study.search.stop, spending.training_hours * study.resources.gpus
    if stop.hours is not None and spending.hours >= stop.hours:
        return f"its trials have trained for {spending.hours:.3g} hours (search.stop.hours = {stop.hours:g})"
    if stop.gpu_hours is not None and gpu_hours >= stop.gpu_hours:
        return f"its trials have taken {gpu_hours:.3g} GPU-hours (search.stop.gpu_hours = {stop.gpu_hours:g})"
    if stop.patience is not None and (found := completed(stored)):
        chosen = max(found, key=lambda trial: (trial.values[0], [-place for place in _end(trial)]))
        since = sum(_end(trial) > _end(chosen) for trial in [*found, *pruned(stored)])
        if since >= stop.patience:
            return (
                f"#{chosen.number} is the best still, after {since} more suggestions "
                f"(search.stop.patience = {stop.patience})"
            )
    return None


def _end(trial: FrozenTrial) -> tuple[float, int]:
    """By which suggestions are in the order in which they ended; those of a restored search did by their numbers."""
    assert trial.datetime_complete is not None, "only what has ended is counted"
    return trial.datetime_complete.timestamp(), trial.number
