"""What Optuna keeps of a search, in its study's folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, TrialState

from lchp.data.files import read_json, set_aside
from lchp.errors import Refusal, shown
from lchp.store.study_folder import SEARCH_KEY, StudyFolder

STORAGE = "LCHP_SEARCH_STORAGE"
"""The environment variable that names a database in place of the journal in a study's folder, as SQLAlchemy does."""


def storage_url() -> str | None:
    """The database of searches; None where each has a journal in its folder."""
    return os.environ.get(STORAGE) or None


def require_storage() -> None:
    """See that the database of searches, where there is one, can be used.

    Raises:
        Refusal: it cannot; says why.
    """
    url = storage_url()
    if url is not None:
        _database(url)


@lru_cache(maxsize=1)
def _database(url: str) -> RDBStorage:
    try:
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except Exception as error:  # whatever a driver, a server or a wrong address gives
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".replace(url, shown(url))
        raise Refusal(
            f"--search-storage {shown(url)}: cannot be opened ({reason}): see that the address is right "
            "(postgresql://USER:PASSWORD@HOST/DATABASE), the database is there, and its driver is installed "
            "(pip install 'lchp[postgresql]')"
        ) from error


def place_of(folder: Path) -> str:
    """Where a search's suggestions are kept, for people."""
    url = storage_url()
    return str(StudyFolder(folder).journal) if url is None else f"the search in {shown(url)}"


def open_search(name: str, folder: Path, directions: Sequence[str] = ("maximize",)) -> OptunaStudy:
    """The persistent Optuna study of a study's folder, created with these directions where there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    old, new = (name, name) if storage_url() is None else _stored_names(name, folder)
    return optuna.create_study(
        storage=_storage(folder), study_name=old or new, directions=directions, load_if_exists=True
    )


def set_search_aside(name: str, folder: Path, directions: Sequence[str] = ("maximize",)) -> str | None:
    """Let a search begin anew, with these directions; says what became of the old one, None where there was none."""
    if storage_url() is None:
        journal = StudyFolder(folder).journal
        return f"set aside as {set_aside(journal).name}" if journal.exists() else None
    old, new = _stored_names(name, folder)
    if old is None:
        return None
    # Nothing is deleted in a database that others share.
    optuna.create_study(storage=_storage(folder), study_name=new, directions=directions)
    return f"left there as {old!r}"


def _storage(folder: Path) -> BaseStorage:
    url = storage_url()
    if url is not None:
        return _database(url)
    # Optuna's lock is a link to the path that it is given: to a relative one it would lead nowhere, and wait for ever.
    return JournalStorage(JournalFileBackend(str(StudyFolder(folder.absolute()).journal)))


def _stored_names(name: str, folder: Path) -> tuple[str | None, str]:
    """In a database, which holds others' searches of the same name: what this one is called there, None where there is
    none yet, and what it will be called when it begins anew.
    """
    storage, key = _storage(folder), read_json(StudyFolder(folder).configuration)[SEARCH_KEY]
    before = None
    for attempt in count(1):
        stored = f"{name} {key}" + (f" {attempt}" if attempt > 1 else "")
        try:
            storage.get_study_id_from_name(stored)
        except KeyError:
            return before, stored
        before = stored
    raise AssertionError("names do not end")


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
    """The suggestion with the highest first objective, the first of equals; None before any is complete."""
    return max(completed(study), key=lambda trial: (trial.values[0], -trial.number), default=None)


def front(study: OptunaStudy) -> list[FrozenTrial]:
    """The suggestions of a search for two objectives, the first as large and the second as small as it can be, than
    which no other is better in one of them and as good in the other; by the second, the first of equals.
    """
    found: list[FrozenTrial] = []
    for trial in sorted(completed(study), key=lambda trial: (trial.values[1], -trial.values[0], trial.number)):
        if not found or trial.values[0] > found[-1].values[0]:
            found.append(trial)
    return found
