"""The driver of a study's training: it gives trials to workers and hears what becomes of them. It knows no Ray."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lchp.store.folder import StageFolder
from lchp.study.run.optuna_search import ContinuedSearch
from lchp.study.run.queue import Job, Places, TrialQueue
from lchp.study.run.recorder import Recorder
from lchp.study.spec.load import Study
from lchp.study.spec.trials import ResolvedTrial


class Driver:
    """Every job that a worker takes is an attempt, which the worker names."""

    def __init__(self, study: Study, trials: Sequence[ResolvedTrial], recorder: Recorder, slots: int = 1) -> None:
        """The given trials in this order or, where none are, what a search still suggests, for ``slots`` workers."""
        self.recorder = recorder
        self.search = None if trials else ContinuedSearch(study, recorder.ledger.folder, recorder.refuse)
        more = self.search.next if self.search else None
        self.queue = TrialQueue(trials, self._places, lambda folder: StageFolder(folder).whole, more, slots)
        self._trained: list[ResolvedTrial] = []
        """Trials whose own stages are done, and of whose references one is not."""

    def next(self, attempt: str) -> Job | None:
        """The job of a new attempt; None where there is none now."""
        return self.queue.next(attempt)

    @property
    def finished(self) -> bool:
        """Whether no job will come any more."""
        return self.queue.finished

    def started(self, attempt: str) -> None:
        """A worker has begun with its job."""
        self.recorder.start(self.queue.running(attempt).trial)

    def epochs(self, attempt: str, result: dict[str, Any]) -> None:
        """A worker has finished an epoch; ``result`` is what its Trainable gave."""
        trial = self.queue.running(attempt).trial
        self.recorder.epochs(trial, int(result["global_epoch"]), result.get("reports", []), result.get("notes", []))

    def completed(self, attempt: str, objective: float | None) -> None:
        """A worker has finished its job, with this value of a search's objective."""
        trial = self.queue.end(attempt)
        if self.search:
            self.search.tell(trial, objective)
        self._trained.append(trial)
        for one in [one for one in self._trained if not self._lacking(one)]:
            self._trained.remove(one)
            self.recorder.complete(one)

    def failed(self, attempt: str, text: str) -> None:
        """A worker could not finish its job, for the reason in the last line of ``text``."""
        trial = self.queue.end(attempt)
        if self.search:
            self.search.tell(trial, None)
        self.recorder.fail(trial, text)

    def close(self) -> None:
        """No worker goes on: a trial whose reference was another's to train is not finished if that one has failed."""
        for trial in self._trained:
            lacking = ", ".join(self._lacking(trial))
            self.recorder.fail(
                trial, f"beside it {lacking} is not trained, because the trial failed that had to: run it again"
            )
        self._trained.clear()

    def _places(self, trial: ResolvedTrial) -> Places:
        references = {method: self.recorder.store / place for method, place in self._references(trial).items()}
        return Places(self.recorder.materials.stages(trial.config), references)

    def _references(self, trial: ResolvedTrial) -> dict[str, str]:
        return self.recorder.entry(trial).references

    def _lacking(self, trial: ResolvedTrial) -> list[str]:
        """The references beside a trial that are not trained yet."""
        places = self._references(trial)
        return [method for method, place in places.items() if not StageFolder(self.recorder.store / place).whole]
