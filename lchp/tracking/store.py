"""The MLflow store: which one a study writes to, opened once before any trial, and its experiments."""

from __future__ import annotations

import logging
import os
import re
import socket
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SADeprecationWarning, SQLAlchemyError

_SQLITE = "sqlite:///"
_CONNECT_SECONDS = 10.0
_REMEDY = (
    "give --tracking-uri (or MLFLOW_TRACKING_URI) as sqlite:///ABSOLUTE/PATH/mlflow.db or as the http(s) address of a "
    "running MLflow server, or leave both out for a SQLite store in the working folder"
)

# MLflow announces every table it creates, and draws a bar for each artifact: neither says anything about a study.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def shown(uri: str) -> str:
    """``uri`` without the user name and password it may hold."""
    return re.sub(r"//[^/@]*@", "//***@", uri)


def is_server(uri: str) -> bool:
    """Whether ``uri`` is the address of an MLflow server."""
    return urlsplit(uri).scheme in ("http", "https")


def sqlite_file(uri: str) -> Path | None:
    """The absolute path of the SQLite file behind ``uri``; None for every other store."""
    return Path(uri.removeprefix(_SQLITE)).absolute() if uri.startswith(_SQLITE) else None


def client(uri: str) -> MlflowClient:
    """A client of the store at ``uri``, as ``open_store`` resolved it."""
    with warnings.catch_warnings():
        # MLflow maps its tables with a loader that SQLAlchemy is about to remove.
        warnings.filterwarnings("ignore", message=".*noload.*", category=SADeprecationWarning)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Hold the lock beside ``database``: stores that are opened at the same moment for the first time stay broken."""
    import fcntl

    with (database.parent / f"{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _initialise(uri: str) -> None:
    database = sqlite_file(uri)
    if database is None:
        client(uri).search_experiments(max_results=1)
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with _alone(database):
        with closing(sqlite3.connect(database)) as connection:
            # MLflow retries a file that is no database for minutes: SQLite says it at once.
            connection.execute("PRAGMA schema_version")
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
    asked = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{folder.absolute() / 'mlflow.db'}"
    database = sqlite_file(asked)
    resolved = f"{_SQLITE}{database}" if database else asked
    try:
        if is_server(resolved):
            address = urlsplit(resolved)
            # MLflow retries an address where nobody answers for minutes.
            port = address.port or (443 if address.scheme == "https" else 80)
            socket.create_connection((address.hostname or "", port), _CONNECT_SECONDS).close()
        _initialise(resolved)
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ImportError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"tracking store {shown(asked)!r} cannot be opened ({reason}): {_REMEDY}") from error
    return resolved


def ensure_experiment(uri: str, name: str) -> str:
    """The id of the experiment ``name``, created where it is missing and restored where it was deleted.

    Artifacts of a SQLite store go to ``mlartifacts/<name>`` beside it; a server decides for itself.

    Raises:
        ValueError: the store refuses the name.
    """
    door = client(uri)
    database = sqlite_file(uri)
    location = (database.parent / "mlartifacts" / name).as_uri() if database else None
    try:
        found = door.get_experiment_by_name(name)
        if found is None:
            return str(door.create_experiment(name, artifact_location=location))
        if found.lifecycle_stage == LifecycleStage.DELETED:
            door.restore_experiment(found.experiment_id)
    except MlflowException as error:
        # Another study may have created it between the question and the creation.
        created = door.get_experiment_by_name(name) if error.error_code == "RESOURCE_ALREADY_EXISTS" else None
        if created is None:
            raise ValueError(
                f"experiment {name!r} cannot be made in {shown(uri)}: {error}; rename the study"
            ) from error
        return str(created.experiment_id)
    return str(found.experiment_id)
