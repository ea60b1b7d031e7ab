"""The MLflow store: which one a study writes to, opened once before any trial, and its experiments."""

from __future__ import annotations

import logging
import os
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.tracking._tracking_service import utils
from sqlalchemy.exc import SADeprecationWarning, SQLAlchemyError

from lchp.tracking.address import ARTIFACTS, REMEDY, foreign, is_server, resolved, shown, silence, sqlite_file
from lchp.tracking.database import open_database

_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""MLflow asks a server again for minutes: right for a study that runs, wrong for one that is about to start."""

# MLflow announces every table it creates, and draws a bar for each artifact: neither says anything about a study.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def client(uri: str) -> MlflowClient:
    """A client of the store at ``uri``, as ``open_store`` resolved it."""
    with warnings.catch_warnings():
        # MLflow maps its tables with a loader that SQLAlchemy is about to remove.
        warnings.filterwarnings("ignore", message=".*noload.*", category=SADeprecationWarning)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def _impatient() -> Iterator[None]:
    """Ask a server once, for ten seconds, unless the user's own variables say otherwise."""
    added = {name: value for name, value in _IMPATIENT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _ask(uri: str) -> None:
    client(uri).search_experiments(max_results=1)


def open_store(uri: str | None, folder: Path) -> str:
    """Resolve the tracking store and initialise it, once, before any trial opens it.

    Args:
        uri: what the user asked for; None stands for MLFLOW_TRACKING_URI and, where that is unset or empty, for
            ``mlflow.db`` in ``folder``.
        folder: the working folder of the default store.

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
        raise ValueError(f"tracking store {shown(store)!r} cannot be opened ({reason}): {REMEDY}")
    try:
        with _impatient():
            if database is None:
                _ask(store)
            else:
                open_database(database, _ask)
                # MLflow remembers by the run alone where artifacts are: after a move in one process, the old place.
                utils._artifact_repos_cache.clear()
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ImportError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"tracking store {shown(store)!r} cannot be opened ({reason}): {REMEDY}") from error
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
