"""The Optuna search of a study: persistent, and continued where a killed run left it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from itertools import count, product
from pathlib import Path
from statistics import fmean
from typing import Any

from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import Trial, TrialState

from lchp.data.fingerprint import canonical
from lchp.errors import Refusal
from lchp.study.run.cards import now
from lchp.study.run.cma_es import CmaEs
from lchp.study.run.optuna_storage import EARLIER, completed, earlier_of, open_search, pruned
from lchp.study.run.pruning import pruner_of, stops
from lchp.study.run.stops import Spending, stop_reason
from lchp.study.run.suggestions import POPULATION, distribution, is_whole, parameter, reached_by, suggested, values_of
from lchp.study.spec.load import Study
from lchp.study.spec.search import Range, Search
from lchp.study.spec.trials import ResolvedTrial
from lchp.training.identity import is_of_refinement, trial_key


def _gaussian(seed: int) -> BaseSampler:
    """A key that depends on another's choice, which the process does not know, is drawn at random."""
    return GPSampler(seed=seed, warn_independent_sampling=False)


def _genetic(seed: int) -> BaseSampler:
    return NSGAIISampler(seed=seed, population_size=POPULATION)


_SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    "tpe": TPESampler,
    "random": RandomSampler,
    "gp": _gaussian,
    "nsga2": _genetic,
}
"""By name, those that need to know nothing of the space before."""

_TRAINED = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)

_PATIENCE = 20
"""So many suggestions in a row that were made before are one too many: what the space still holds is gone through."""


class ContinuedSearch:
    """Suggestions of an Optuna study on disk, which is told what came of them.

    Suggestions that a killed run left unfinished come first, as the same Optuna trials, so that none stays RUNNING for
    ever and their checkpoints are used. The sampler of each new suggestion is seeded by the search's seed and the
    suggestion's number: a search that was stopped proposes what it would have proposed. What was suggested before is
    not suggested again: such a trial of Optuna fails at once, and the next is asked for.

    A suggestion is trained with each seed, and Optuna hears of their mean; where one fails, the suggestion has failed,
    and what of it has not begun is not trained.
    """

    def __init__(
        self,
        study: Study,
        folder: Path,
        refused: Callable[[int, dict[str, Any], str], None],
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """``refused`` is told the number and the values of a suggestion that is no trial, and why; ``say`` takes a line
        for people.
        """
        assert study.search is not None, "only a search suggests"
        self.study, self.search, self.refused, self.say = study, study.search, refused, say
        self.spending = Spending.of(folder, study.search.stop)
        self.stored = open_search(study.name, folder, self.search.directions)
        self._earlier = len(earlier_of(self.stored))
        self.unfinished = self.stored.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self.missing = study.suggestions - len(completed(self.stored)) - len(pruned(self.stored))
        self.stored.pruner = pruner_of(study.search.pruner)
        self._asked: dict[int, Trial] = {}
        self._waiting: list[ResolvedTrial] = []
        """The last suggestion's trials that have not begun."""
        self._reached: dict[int, list[float]] = {}
        """The objectives of a suggestion's trials that are finished, by its number."""
        self._known: set[str] = set()
        self._spent_groups: set[str] = set()
        """What groups share of which no further suggestion was found."""
        for trial in self.stored.get_trials(deepcopy=False):
            if is_whole(self.search, trial.params):
                self._is_known(trial.number, values_of(trial.params))

    def next(self) -> ResolvedTrial | None:
        """The next trial; None where there are as many as the study asks for, or all that the space holds, or where
        what ``search.stop`` says has come.

        Values that do not fit together are a failed suggestion, and the next are asked for.
        """
        if self._waiting:
            return self._waiting.pop(0)
        while self.missing > 0 and not self._stops():
            self.missing -= 1
            trial = Trial(self.stored, self.unfinished.pop(0)._trial_id) if self.unfinished else self._ask()
            if trial is None:
                break
            try:
                first, *self._waiting = self.study.suggested(trial.number, values_of(trial.params))
            except Refusal as error:
                self.stored.tell(trial, state=TrialState.FAIL)
                self.refused(trial.number, values_of(trial.params), str(error))
                continue
            self._asked[trial.number] = trial
            return first
        return None

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left to train, though it is less than the study asks for: all that the space holds was
        suggested.
        """
        left = self.stored.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))
        return not left and self.search.size is not None and self._untried() is None

    def _stops(self) -> bool:
        """Whether the search makes no further suggestion; those that have begun are trained to their end."""
        reason = None if self.unfinished else stop_reason(self.study, self.stored, self.spending)
        if reason is not None:
            self.say(f"{self.study.name}: no further suggestion is made, {reason}")
        return reason is not None

    def spend(self, trial: ResolvedTrial, seconds: float) -> None:
        """A worker has done a step of a trial until now, for so long."""
        self.spending.add(trial.name, now() / 1000 - seconds, now() / 1000)

    def _ask(self) -> Trial | None:
        """Optuna's next trial that is no other's twin; None where every combination was suggested."""
        shared = self._shared()
        for attempt in count():
            waiting = self.stored.get_trials(deepcopy=False, states=(TrialState.WAITING,))
            number = waiting[0].number if waiting else len(self.stored.get_trials(deepcopy=False))
            given = self._given(number)
            if attempt >= _PATIENCE and shared:
                self._spent_groups.add(canonical(shared))
                return self._ask()
            if attempt >= _PATIENCE:
                untried = None if self.search.size is None else self._untried()
                if untried is None:
                    return None
                given = untried
            elif number >= self._earlier + len(self.search.first):
                given = {**shared, **given}
            # A kill may have come between the two; then what waits is asked for first.
            if given and not waiting:
                self.stored.enqueue_trial({parameter(self.search, key, given): value for key, value in given.items()})
            self.stored.sampler = sampler_of(self.search, number)
            trial = suggested(self.stored, self.search)
            if not self._is_known(trial.number, values_of(trial.params)):
                return trial
            self.stored.tell(trial, state=TrialState.FAIL)
        return None

    def _shared(self) -> dict[str, Any]:
        """What the next suggestion has in common with a group of others, because initialization reads it; empty where a
        new group is begun: those that there are have all their suggestions, or none that is finished.
        """
        groups: dict[str, tuple[dict[str, Any], list[TrialState]]] = {}
        for trial in self.stored.get_trials(deepcopy=False) if self.search.group > 1 else ():
            if trial.state in _TRAINED and EARLIER not in trial.user_attrs and is_whole(self.search, trial.params):
                values = values_of(trial.params)
                shared = {key: value for key, value in values.items() if not is_of_refinement(key)}
                groups.setdefault(canonical(shared), (shared, []))[1].append(trial.state)
        return next(
            (
                shared
                for key, (shared, states) in groups.items()
                if len(states) < self.search.group and TrialState.COMPLETE in states and key not in self._spent_groups
            ),
            {},
        )

    def _given(self, number: int) -> dict[str, Any]:
        """The values of the suggestion of that number that are not the sampler's: of ``first``, then of ``grid``."""
        first, number = self.search.first, number - self._earlier
        if number < len(first):
            return dict(first[number])
        combinations = list(product(*(self.search.space[key] for key in self.search.grid)))
        return dict(zip(self.search.grid, combinations[(number - len(first)) % len(combinations)], strict=True))

    def _untried(self) -> dict[str, Any] | None:
        """The first combination of a space that holds finitely many which was not suggested."""
        return next((point for point in self.search.points() if self._key(-1, point) not in self._known), None)

    def _key(self, number: int, values: dict[str, Any]) -> str:
        """What is trained with these values, where they fit together."""
        try:
            return canonical(trial_key(self.study.suggested(number, values)[0].config))
        except Refusal:
            return canonical(values)

    def _is_known(self, number: int, values: dict[str, Any]) -> bool:
        """Whether another suggestion came to the same trial; from now on this one has."""
        key = self._key(number, values)
        known = key in self._known
        self._known.add(key)
        return known

    def stops(self, trial: ResolvedTrial, epochs: Sequence[Mapping[str, Any]]) -> str | None:
        """Hear of some of a trial's epochs, each with its ``step`` over both stages and its ``metrics``; gives why the
        trial is to be stopped, or None. A decision is kept on disk.
        """
        if self.search.pruner is None:
            return None
        return stops(self.search, self.stored, self._asked[trial.number], epochs)

    def prune(self, trial: ResolvedTrial) -> None:
        """The trial was stopped."""
        self.stored.tell(self._asked.pop(trial.number), state=TrialState.PRUNED)

    def tell(self, trial: ResolvedTrial, objective: float | None) -> None:
        """The trial is finished with this objective; None where it has failed."""
        if trial.number not in self._asked:  # another of the suggestion's trials has failed
            return
        if objective is None:
            self._waiting = [other for other in self._waiting if other.number != trial.number]
            self.stored.tell(self._asked.pop(trial.number), state=TrialState.FAIL)
            return
        reached = self._reached.setdefault(trial.number, [])
        reached.append(objective)
        if len(reached) == self.study.repeats:
            self.stored.tell(self._asked.pop(trial.number), reached_by(self.study, trial.varied, fmean(reached)))


def sampler_of(search: Search, number: int) -> BaseSampler:
    """A sampler for the suggestion of that number."""
    digest = hashlib.sha256(f"{search.seed} {number}".encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    if search.sampler == "cmaes":
        numbers = {key: distribution(values) for key, values in search.space.items() if isinstance(values, Range)}
        return CmaEs(numbers, seed)
    return _SAMPLERS[search.sampler](seed=seed)
