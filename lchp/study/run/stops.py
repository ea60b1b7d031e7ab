"""Why a search makes no further suggestion before it has made all, by what its files say, whoever ran it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial

from lchp.study.run.cards import Card, Cards
from lchp.study.run.optuna_storage import completed, pruned
from lchp.study.run.run_cards import is_trial
from lchp.study.spec.load import Study
from lchp.study.spec.search import Stop


class Spending:
    """The time in which workers were at trials: from the cards of their runs, and from what is told of since."""

    def __init__(self) -> None:
        self._periods: dict[str, list[tuple[float, float]]] = defaultdict(list)
        """Begin and end of everything that was done for a trial, by its name, in seconds since 1970."""

    @classmethod
    def of(cls, folder: Path, stop: Stop) -> Spending:
        """What the trials of a study's folder have taken so far, if it is of importance."""
        found = cls()
        if stop.hours is not None or stop.gpu_hours is not None:
            for card in Cards(folder).all():
                # What was trained beside a trial, and its initialization, have cards, too.
                if is_trial(card):
                    found._add_card(card)
        return found

    def add(self, name: str, begin: float, end: float) -> None:
        """A worker was at a trial."""
        self._periods[name].append((begin, end))

    def _add_card(self, card: Card) -> None:
        for begin, end in card.spent:
            self.add(card.name, begin / 1000, end / 1000)
        # Older versions kept no more than epochs; those that were found trained cost nothing.
        for epoch in card.epochs:
            if not epoch["reused"]:
                end = epoch["time"] / 1000
                self.add(card.name, end - epoch["seconds"], end)

    @property
    def hours(self) -> float:
        """Hours in which a worker was at one trial at least."""
        return _hours(period for periods in self._periods.values() for period in periods)

    @property
    def training_hours(self) -> float:
        """Hours of all trials together."""
        return sum(map(_hours, self._periods.values()))


def _hours(periods: Iterable[tuple[float, float]]) -> float:
    """How long periods last that may overlap."""
    total = until = 0.0
    for begin, end in sorted(periods):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total / 3600


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
