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
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from lchp.errors import Refusal
from lchp.store.study_folder import StudyFolder
from lchp.study.spec.load import Study
from lchp.study.spec.schema import Choice, Range, Search


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


class ContinuedSearch(OptunaSearch):  # type: ignore[misc]
    """Ray's OptunaSearch over a study on disk.

    Suggestions that a killed run left unfinished come first, as the same Optuna trials, so that none stays RUNNING for
    ever and their checkpoints are used. The sampler of each new suggestion is seeded by the search's seed and the
    suggestion's number: a search that was stopped proposes what it would have proposed.
    """

    def __init__(self, study: Study, folder: Path, refused: Callable[[int, dict[str, Any], str], None]) -> None:
        """``refused`` is told the number and the values of a suggestion that is no trial, and why."""
        assert study.search is not None, "only a search suggests"
        stored = open_search(study.name, folder)
        self.unfinished = stored.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self.missing = study.search.trials - len(completed(stored))
        self.study, self.search, self.refused = study, study.search, refused
        super().__init__(
            space=distributions(study.search.space),
            metric="objective",
            mode="max",
            study_name=study.name,
            storage=stored._storage,
            sampler=_sampler(study.search, 0),
        )

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next trial, under ``trial``.

        Values that do not fit together are a failed trial, and the next are asked for.
        """
        study: OptunaStudy = self._ot_study
        while self.missing > 0:
            self.missing -= 1
            if self.unfinished:
                trial = Trial(study, self.unfinished.pop(0)._trial_id)
            else:
                study.sampler = _sampler(self.search, len(study.get_trials(deepcopy=False)))
                trial = study.ask(self._space)
            try:
                resolved = self.study.suggested(trial.number, trial.params)
            except Refusal as error:
                study.tell(trial, state=TrialState.FAIL)
                self.refused(trial.number, dict(trial.params), str(error))
                continue
            self._ot_trials[trial_id] = trial
            return {"trial": resolved}
        return str(Searcher.FINISHED)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: only the final objective is judged."""

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """Ray writes its searchers to its own checkpoints, from which nothing is ever restored."""
        return object, ()

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the search goes on from its journal."""


def _sampler(search: Search, number: int) -> BaseSampler:
    """A sampler for the suggestion of that number."""
    digest = hashlib.sha256(f"{search.seed} {number}".encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    return RandomSampler(seed=seed) if search.sampler == "random" else TPESampler(seed=seed)
