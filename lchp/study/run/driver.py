"""The driver of a study's training: it gives trials to workers and hears what becomes of them. It knows no Ray."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lchp.store.folder import StageFolder
from lchp.store.shared import StoreAway
from lchp.study.run.faults import Fault, elsewhere, fault_of, over_time, silent
from lchp.study.run.optuna_search import ContinuedSearch
from lchp.study.run.queue import Job, Places, TrialQueue
from lchp.study.run.recorder import Recorder
from lchp.study.spec.load import Study
from lchp.study.spec.trials import ResolvedTrial
from lchp.vocabulary import REFINEMENT


@dataclass
class _Times:
    """When an attempt was given its job, when its worker began, and when it was last heard of, in seconds."""

    given: float
    began: float | None = None
    heard: float = 0.0


class Driver:
    """Every job that a worker takes is an attempt, which the worker names.

    A trial that the machine has ended goes on from its last checkpoint in another attempt, ``failures.retries`` times;
    one that has failed by itself does not. After ``failures.stop_after`` of these no further one is started.
    """

    def __init__(
        self,
        study: Study,
        trials: Sequence[ResolvedTrial],
        recorder: Recorder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The given trials in this order or, where none are, what a search still suggests."""
        self.recorder, self.policy, self.time_limit = recorder, study.failures, study.resources.time_limit
        self.search = None if trials else ContinuedSearch(study, recorder.ledger.folder, recorder.refuse, recorder.say)
        more = self.search.next if self.search else None
        self.queue = TrialQueue(trials, self._places, lambda folder: StageFolder(folder).whole, more)
        self._clock = clock
        self._times: dict[str, _Times] = {}
        self._spent: dict[str, float] = defaultdict(float)
        """Seconds of the attempts of a trial that have ended, by its name."""
        self._retried: Counter[str] = Counter()
        self._failed = 0
        """Trials that have failed by themselves."""
        self._ended: dict[str, Fault] = {}
        """Why attempts were ended from here."""
        self._pruned: set[str] = set()
        """Attempts that a search has stopped, whose workers have not ended yet."""
        self._trained: list[ResolvedTrial] = []
        """Trials whose own stages are done, and of whose references one is not."""

    @property
    def finished(self) -> bool:
        """Whether no job will come any more."""
        return self.queue.finished

    def next(self, attempt: str) -> Job | None:
        """The job of a new attempt; None where there is none now."""
        job = self.queue.next(attempt)
        if job is not None:
            self._times[attempt] = _Times(self._clock())
        return job

    def started(self, attempt: str) -> None:
        """A worker has begun with its job."""
        times = self._times[attempt]
        times.began = times.heard = self._clock()
        self.recorder.start(self.queue.running(attempt).trial)

    def epochs(self, attempt: str, result: dict[str, Any]) -> bool:
        """A worker has finished an epoch; ``result`` is what its Trainable gave. Gives whether it is to go on."""
        self._times[attempt].heard = self._clock()
        trial, reports = self.queue.running(attempt).trial, result.get("reports", [])
        if any(report["stage"] == REFINEMENT for report in reports):
            self._bring(trial)
        seconds = float(result.get("seconds", 0.0))
        self.recorder.epochs(trial, int(result["global_epoch"]), reports, result.get("notes", []), seconds)
        if self.search:
            self.search.spend(trial, seconds)
        reason = None if self.search is None or result["done"] else self.search.stops(trial, reports)
        if self.search and reason is not None:
            self.search.prune(trial)
            self.recorder.prune(trial, reason)
            self._pruned.add(attempt)
        return reason is None

    def completed(self, attempt: str, objective: float | None) -> None:
        """A worker has finished its job, with this value of a search's objective, or was stopped."""
        trial = self._end(attempt)
        if trial is None:
            return
        if not self._arrived(trial):
            return
        if self.search:
            self.search.tell(trial, objective)
        self._trained.append(trial)
        # If the store is away, it is asked again when the next trial ends, and in the end.
        with suppress(StoreAway):
            self._complete()

    def _complete(self) -> None:
        for one in [*self._trained]:
            if not self._lacking(one):
                self._trained.remove(one)
                self.recorder.complete(one)

    def failed(self, attempt: str, names: Sequence[str], text: str) -> None:
        """A worker could not finish its job: the names and the text of the error, as for :func:`fault_of`."""
        fault, trial = self._ended.get(attempt) or fault_of(names, text), self._end(attempt)
        if trial is not None:
            self._meet(trial, fault)

    def _meet(self, trial: ResolvedTrial, fault: Fault) -> None:
        """A trial has ended before its end: it goes on, or is given up."""
        if not fault.of_machine:
            self._give_up(trial, fault)
        elif self._retried[trial.name] < self.policy.retries:
            self._retried[trial.name] += 1
            tries = f"retry {self._retried[trial.name]} of {self.policy.retries}"
            self.queue.again(trial)
            self.recorder.again(trial, f"{fault.line}: goes on from its last checkpoint, {tries}")
        else:
            # A search does not hear of it: the same suggestion goes on when the command is run again.
            times = f", {self.policy.retries + 1} times" if self.policy.retries else ""
            line = f"{fault.line}{times} (failures.retries = {self.policy.retries}): {fault.remedy}, "
            self.recorder.fail(trial, f"{fault.text}\n{line}then run the same command again: it goes on")

    def overdue(self) -> list[str]:
        """The attempts whose workers are to be ended now: they train for too long, or no epoch of theirs ends."""
        now, found = self._clock(), []
        for attempt, times in self._times.items():
            trial = self.queue.running(attempt).trial
            if attempt in self._ended or times.began is None:
                continue
            if self.time_limit and self._spent[trial.name] + now - times.began > 3600 * self.time_limit:
                self._ended[attempt] = over_time(self.time_limit)
            elif self.policy.silent and now - times.heard > 60 * self.policy.silent:
                self._ended[attempt] = silent(self.policy.silent)
            else:
                continue
            found.append(attempt)
        return found

    def is_stuck(self, seconds: float) -> bool:
        """Whether a worker has not begun with its job for so long, and for longer than one may be silent."""
        longest = max(seconds, 60 * (self.policy.silent or math.inf))
        return any(times.began is None and self._clock() - times.given > longest for times in self._times.values())

    def lost(self) -> int:
        """All workers are gone: their trials wait again; gives how many had begun."""
        begun = sum(times.began is not None for times in self._times.values())
        for attempt in reversed(self.queue.attempts):
            trial = self._end(attempt)
            if trial is not None:
                self.queue.again(trial)
        return begun

    def close(self) -> None:
        """No worker goes on: a trial whose reference was another's to train is not finished if that one has failed."""
        reasons: dict[str, str] = {}
        try:
            self._complete()
            for trial in self._trained:
                lacking = ", ".join(self._lacking(trial))
                reasons[trial.name] = f"{lacking} is not trained, because the trial failed that had to: run it again"
        except StoreAway as error:
            reasons = {trial.name: f"references may be trained, but {error}: run it again" for trial in self._trained}
        for trial in self._trained:
            self.recorder.fail(trial, f"beside it {reasons[trial.name]}")
        self._trained.clear()

    def _arrived(self, trial: ResolvedTrial) -> bool:
        """Whether the files of a trial that a worker has finished are here. If not, what becomes of it is seen to."""
        fault = elsewhere(self.recorder.shares)
        try:
            if self.recorder.is_trained(trial):
                return True
        except StoreAway as error:
            fault = fault_of([type(error).__name__], str(error))
        self._meet(trial, fault)
        return False

    def _bring(self, trial: ResolvedTrial) -> None:
        """Stages before a trial's own are done, for which others may wait: see that they are here, too."""
        if self.recorder.shares:
            *before, _ = self._places(trial).stages
            for folder in before:
                # If the store is away, who waits is started when this trial has ended.
                with suppress(StoreAway):
                    self.recorder.has(folder.relative_to(self.recorder.store).as_posix())

    def _give_up(self, trial: ResolvedTrial, fault: Fault) -> None:
        # A suggestion of which a search hears nothing is the next when the command is run again.
        if self.search and not fault.resumable:
            self.search.tell(trial, None)
        self.recorder.fail(trial, f"{fault.text}\n{fault.line}: {fault.remedy}" if fault.remedy else fault.text)
        self._failed += 1
        if self._failed == self.policy.stop_after and not self.queue.finished:
            self.queue.stop()
            self.recorder.say(
                f"as many trials have failed by themselves as may (failures.stop_after = {self._failed}): no further "
                "one is started; see the errors above, then run the same command again"
            )

    def _end(self, attempt: str) -> ResolvedTrial | None:
        """The trial of an attempt that has ended, whatever is to become of it; None of one that a search has stopped,
        of which all is told.
        """
        self._ended.pop(attempt, None)
        trial, times = self.queue.end(attempt), self._times.pop(attempt)
        if times.began is not None:
            self._spent[trial.name] += self._clock() - times.began
        if attempt in self._pruned:
            self._pruned.remove(attempt)
            return None
        return trial

    def _places(self, trial: ResolvedTrial) -> Places:
        references = {method: self.recorder.store / place for method, place in self._references(trial).items()}
        return Places(self.recorder.materials.stages(trial.config), references)

    def _references(self, trial: ResolvedTrial) -> dict[str, str]:
        return self.recorder.entry(trial).references

    def _lacking(self, trial: ResolvedTrial) -> list[str]:
        """The references beside a trial that are not trained yet."""
        places = self._references(trial)
        return [method for method, place in places.items() if not self.recorder.has(place)]
