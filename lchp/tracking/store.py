"""The MLflow store: which one a study writes to, opened once before any trial, and its experiments."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.tracking._tracking_service import utils
from sqlalchemy.exc import SADeprecationWarning, SQLAlchemyError

from lchp.errors import shown
from lchp.surroundings import default_cache
from lchp.tracking.address import (
    ARTIFACTS,
    REMEDY,
    foreign,
    is_damage,
    is_server,
    resolved,
    silence,
    sqlite_file,
    unopened,
)
from lchp.tracking.database import open_database

_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""MLflow asks a server again for minutes: a study that is about to start is told at once, and one that runs tries again
by itself.
"""
_NOT_THE_STORES = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")
"""MLflow's codes for what the store understood and does not do, however often it is asked."""

# MLflow announces every table it creates, shows every failure of a database with its traceback, draws a bar for each
# artifact, and prints the address of each run, with the password: none of it says anything about a study.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


@cache
def client(uri: str) -> MlflowClient:
    """A client of the store at ``uri``, as ``open_store`` resolved it, the same for all threads."""
    with warnings.catch_warnings():
        # MLflow maps its tables with a loader that SQLAlchemy is about to remove.
        warnings.filterwarnings("ignore", message=".*noload.*", category=SADeprecationWarning)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def is_away(error: BaseException) -> bool:
    """Whether an error is the store's, which may be over later: a server or disk that is away, full or locked."""
    if isinstance(error, MlflowException):
        return error.error_code not in _NOT_THE_STORES
    return isinstance(error, OSError | sqlite3.Error | SQLAlchemyError)


def why(uri: str, error: BaseException) -> str:
    """Why the store at ``uri`` did not take something, as the end of a sentence."""
    told = silence(uri) if is_server(uri) and is_away(error) else None
    if told is not None:
        return told
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"cannot be written ({place}{error.strerror})"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # SQLAlchemy may give advice first; before the driver's words it names their exception.
    driver = (re.match(r"\(\w+(?:\.\w+)+\) (.+)", line) for line in lines)
    text = next((named[1] for named in driver if named), lines[0])
    damage = ": move its file away, it is made anew" if is_damage(text) else ""
    return f"cannot be written ({shown(text)[:300]}){damage}"


@contextmanager
def impatient() -> Iterator[None]:
    """Ask a server once, for half a minute, unless the user's own variables say otherwise."""
    added = {name: value for name, value in _IMPATIENT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _ask(uri: str) -> None:
    client(uri).search_experiments(max_results=1)


def is_unmade(uri: str | None, folder: Path) -> bool:
    """Whether the store that ``uri`` names, as for :func:`open_store`, is a file that is not there yet."""
    database = sqlite_file(resolved(uri, folder))
    return database is not None and not database.exists()


def open_store(uri: str | None, folder: Path, cache_folder: Path | None = None) -> str:
    """Resolve the tracking store and initialise it, once, before any trial opens it.

    Args:
        uri: what the user asked for; None stands for MLFLOW_TRACKING_URI and, where that is unset or empty, for
            ``mlflow.db`` in ``folder``.
        folder: the working folder of the default store.
        cache_folder: where an empty store is kept, of which new ones are copies; None for the default cache folder.

    Returns:
        The URI for every other function here; the path of a SQLite store is absolute, since trials run elsewhere.

    Raises:
        ValueError: the store cannot be reached or opened, or its kind is unknown; the message names a remedy.
    """
    store = resolved(uri, folder)
    reason = silence(store) if is_server(store) else None
    if reason:
        raise ValueError(f"tracking store {shown(store)!r} {reason}: {REMEDY}")
    database = sqlite_file(store)
    reason = foreign(database) if database else None
    if reason:
        raise ValueError(f"tracking store {shown(store)!r} {unopened(reason)}")
    try:
        with impatient():
            if database is None:
                _ask(store)
            else:
                open_database(database, _ask, cache_folder or default_cache())
                # MLflow remembers by the run alone where artifacts are: after a move in one process, the old place.
                utils._artifact_repos_cache.clear()
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ImportError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"tracking store {shown(store)!r} {unopened(reason)}") from error
    return store


def ensure_experiment(uri: str, name: str) -> str:
    """The id of the experiment ``name``, created where it is missing and restored where it was deleted.

    Artifacts of a SQLite store go to ``mlartifacts/<name>`` beside it; a server decides for itself.

    Raises:
        ValueError: the store refuses the name.
    """
    mlflow_client = client(uri)
    database = sqlite_file(uri)
    location = (database.parent / ARTIFACTS / name).as_uri() if database else None
    try:
        found = mlflow_client.get_experiment_by_name(name)
        if found is None:
            return str(mlflow_client.create_experiment(name, artifact_location=location))
        if found.lifecycle_stage == LifecycleStage.DELETED:
            mlflow_client.restore_experiment(found.experiment_id)
    except MlflowException as error:
        # Another study may have created it between the question and the creation.
        created = mlflow_client.get_experiment_by_name(name) if error.error_code == "RESOURCE_ALREADY_EXISTS" else None
        if created is None:
            raise ValueError(
                f"experiment {name!r} cannot be made in {shown(uri)}: {error}; rename the study"
            ) from error
        return str(created.experiment_id)
    return str(found.experiment_id)
