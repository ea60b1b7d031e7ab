"""The Optuna search of a study: persistent, and continued where a killed run left it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, Trial, TrialState

from lchp.errors import Refusal
from lchp.store.study_folder import StudyFolder
from lchp.study.spec.load import Study
from lchp.study.spec.schema import Choice, Range, Search
from lchp.study.spec.trials import ResolvedTrial


def distributions(space: dict[str, Range | tuple[Choice, ...]]) -> dict[str, BaseDistribution]:
    """Optuna's distribution of every key: integers where both ends of a range are integers."""
    found: dict[str, BaseDistribution] = {}
    for key, values in space.items():
        if not isinstance(values, Range):
            found[key] = CategoricalDistribution(values)
        elif isinstance(values.low, int) and isinstance(values.high, int):
            found[key] = IntDistribution(values.low, values.high, log=values.log)
        else:
            found[key] = FloatDistribution(float(values.low), float(values.high), log=values.log)
    return found


def open_search(name: str, folder: Path) -> OptunaStudy:
    """The persistent Optuna study in a study's folder, created where there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(StudyFolder(folder).journal)))
    return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)


def completed(study: OptunaStudy) -> list[FrozenTrial]:
    """The suggestions that were trained to their end, by number."""
    found: list[FrozenTrial] = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return found


def best(study: OptunaStudy) -> FrozenTrial | None:
    """The suggestion with the highest objective, the first of equals; None before any is complete."""
    return max(completed(study), key=lambda trial: (trial.value, -trial.number), default=None)


class ContinuedSearch:
    """Suggestions of an Optuna study on disk, which is told what came of them.

    Suggestions that a killed run left unfinished come first, as the same Optuna trials, so that none stays RUNNING for
    ever and their checkpoints are used. The sampler of each new suggestion is seeded by the search's seed and the
    suggestion's number: a search that was stopped proposes what it would have proposed.
    """

    def __init__(self, study: Study, folder: Path, refused: Callable[[int, dict[str, Any], str], None]) -> None:
        """``refused`` is told the number and the values of a suggestion that is no trial, and why."""
        assert study.search is not None, "only a search suggests"
        self.study, self.search, self.refused = study, study.search, refused
        self.stored = open_search(study.name, folder)
        self.space = distributions(study.search.space)
        self.unfinished = self.stored.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self.missing = study.search.trials - len(completed(self.stored))
        self._asked: dict[int, Trial] = {}

    def next(self) -> ResolvedTrial | None:
        """The next trial; None where there are as many as the study asks for.

        Values that do not fit together are a failed trial, and the next are asked for.
        """
        while self.missing > 0:
            self.missing -= 1
            if self.unfinished:
                trial = Trial(self.stored, self.unfinished.pop(0)._trial_id)
            else:
                self.stored.sampler = _sampler(self.search, len(self.stored.get_trials(deepcopy=False)))
                trial = self.stored.ask(self.space)
            try:
                resolved = self.study.suggested(trial.number, trial.params)
            except Refusal as error:
                self.stored.tell(trial, state=TrialState.FAIL)
                self.refused(trial.number, dict(trial.params), str(error))
                continue
            self._asked[resolved.number] = trial
            return resolved
        return None

    def tell(self, trial: ResolvedTrial, objective: float | None) -> None:
        """The trial is finished with this objective; None where it has failed."""
        state = TrialState.FAIL if objective is None else TrialState.COMPLETE
        self.stored.tell(self._asked.pop(trial.number), objective, state=state)


def _sampler(search: Search, number: int) -> BaseSampler:
    """A sampler for the suggestion of that number."""
    digest = hashlib.sha256(f"{search.seed} {number}".encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    return RandomSampler(seed=seed) if search.sampler == "random" else TPESampler(seed=seed)
