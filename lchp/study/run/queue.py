"""Which trial of a study is trained next: one that need not wait for another. It knows no Ray.

Trials share stages: an initialization, the classifiers of a confidence. Who comes second would wait for the lock of the
stage's folder, on a GPU of its own; so it is not started while a running trial has that stage before it or trains it.
The lock remains between studies. Nor is a stage trained beside one of the same course, from whose end it will go on.
What a study measures beside its trials, its references, nobody waits for: a trial trains, after its own stages, its
part of those that no other trial has taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lchp.study.spec.trials import ResolvedTrial


@dataclass(frozen=True)
class Places:
    """The folders that a trial needs: those of the stages that it trains or finds done, its own included, each with
    that of its course, and those of its references by method.
    """

    stages: Mapping[Path, Path]
    references: Mapping[str, Path]


@dataclass(frozen=True)
class Job:
    """A trial for one worker, and the methods of the references that it trains beside it."""

    trial: ResolvedTrial
    references: tuple[str, ...] = ()


class TrialQueue:
    """The trials that wait and those that run."""

    def __init__(
        self,
        trials: Iterable[ResolvedTrial],
        places: Callable[[ResolvedTrial], Places],
        is_done: Callable[[Path], bool],
        more: Callable[[], ResolvedTrial | None] | None = None,
    ) -> None:
        """``trials`` are planned, in this order; ``more`` is what a search suggests beyond them until it is None."""
        self._waiting = list(trials)
        self._places = _by_name(places)
        self._is_done, self._more = is_done, more
        self.slots = 1
        """How many trials may run at once. A search is asked for no more: knowing more results it suggests better."""
        self._running: dict[str, Job] = {}
        self._begun: set[str] = set()
        """The names of trials that wait to go on, or did."""

    @property
    def finished(self) -> bool:
        """Whether nothing runs, waits or can still be suggested."""
        return not (self._running or self._waiting or self._more)

    @property
    def attempts(self) -> list[str]:
        """The attempts that run."""
        return list(self._running)

    def running(self, attempt: str) -> Job:
        """The job that was given to an attempt."""
        return self._running[attempt]

    def next(self, attempt: str) -> Job | None:
        """The first trial that can run now, which now does under this name; None where there is none."""
        busy = {course for job in self._running.values() for course in self._ahead(job.trial)}
        for place, trial in enumerate(self._waiting):
            if busy.isdisjoint(self._ahead(trial)):
                return self._start(attempt, self._waiting.pop(place))
        while self._more and len(self._waiting) + len(self._running) < self.slots:
            suggested = self._more()
            if suggested is None:
                self._more = None
            elif busy.isdisjoint(self._ahead(suggested)):
                return self._start(attempt, suggested)
            else:
                self._waiting.append(suggested)
        return None

    def end(self, attempt: str) -> ResolvedTrial:
        """A job ended, however it did; gives its trial."""
        return self._running.pop(attempt).trial

    def again(self, trial: ResolvedTrial) -> None:
        """A trial that ended before its end is the next."""
        self._begun.add(trial.name)
        self._waiting.insert(0, trial)

    def stop(self) -> None:
        """What has not begun, and what a search could suggest, is given up."""
        self._waiting = [trial for trial in self._waiting if trial.name in self._begun]
        self._more = None

    def _ahead(self, trial: ResolvedTrial) -> Iterator[Path]:
        """The courses of the stages of a trial that are not done."""
        return (course for folder, course in self._places(trial).stages.items() if not self._is_done(folder))

    def _start(self, attempt: str, trial: ResolvedTrial) -> Job:
        taken = {
            self._places(job.trial).references[method] for job in self._running.values() for method in job.references
        }
        free = {
            method: folder
            for method, folder in self._places(trial).references.items()
            if folder not in taken and not self._is_done(folder)
        }
        wanted = set(free.values())
        others = self._waiting if wanted else ()
        rivals = sum(not wanted.isdisjoint(self._places(other).references.values()) for other in others)
        part = -(-len(free) // (1 + rivals))
        self._running[attempt] = job = Job(trial, tuple(free)[:part])
        return job


def _by_name(places: Callable[[ResolvedTrial], Places]) -> Callable[[ResolvedTrial], Places]:
    """``places``, asked once for a trial: it digests a configuration."""
    known: dict[str, Places] = {}

    def of(trial: ResolvedTrial) -> Places:
        if trial.name not in known:
            known[trial.name] = places(trial)
        return known[trial.name]

    return of
