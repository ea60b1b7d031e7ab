"""What Optuna keeps of a search, in its study's folder."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, TrialState

from lchp.store.study_folder import StudyFolder


def open_search(name: str, folder: Path) -> OptunaStudy:
    """The persistent Optuna study in a study's folder, created where there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(StudyFolder(folder).journal)))
    return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)


EARLIER = "lchp.earlier"
"""The attribute of those of Optuna's trials that are an earlier study's; it names them."""


def earlier_of(study: OptunaStudy) -> list[FrozenTrial]:
    """The trials of earlier studies with which the search began, which are none of its suggestions."""
    return [trial for trial in study.get_trials(deepcopy=False) if EARLIER in trial.user_attrs]


def completed(study: OptunaStudy) -> list[FrozenTrial]:
    """The suggestions that were trained to their end, by number."""
    found = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [trial for trial in found if EARLIER not in trial.user_attrs]


def pruned(study: OptunaStudy) -> list[FrozenTrial]:
    """The suggestions that were stopped before their end, by number."""
    found: list[FrozenTrial] = study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
    return found


def best(study: OptunaStudy) -> FrozenTrial | None:
    """The suggestion with the highest objective, the first of equals; None before any is complete."""
    return max(completed(study), key=lambda trial: (trial.value, -trial.number), default=None)
