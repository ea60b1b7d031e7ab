"""The SQLite file of a tracking store: made whole or not at all, and sure of where the files of its runs lie now."""

from __future__ import annotations

import fcntl
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from lchp.data.files import replacing, set_aside
from lchp.tracking.address import ARTIFACTS, SQLITE

_QUICKLY_READ = 256 << 20
"""Bytes of a database whose indexes are compared with its rows at every start: a second or two."""
Ask = Callable[[str], object]
"""Asks MLflow something of a URI, which makes the tables of a database that has none."""


def open_database(database: Path, ask: Ask, cache: Path) -> None:
    """Make the store where there is none yet, or only a half that holds no run; let it say where its artifacts lie now.
    An empty one is kept in the folder ``cache``, for the next.

    A half is what an older version left that was killed, or had no space, while MLflow made the tables: MLflow refuses
    it for ever ("index ... already exists"). It is set aside as ``<name>.damaged-<N>``.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    with _alone(database):
        # MLflow retries a file that is no database for minutes: SQLite says it at once.
        tables = _tables(database)
        if "experiments" in tables and _is_half(database, tables, ask):
            set_aside(database)
            tables = set()
        if not tables:
            _create(database, ask, cache)
        require_whole(database)
        settle_locations(database)
        ask(f"{SQLITE}{database}")


@contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Hold the lock beside ``database``: stores that are opened at the same moment for the first time stay broken. What
    a process that was killed behind it left is removed.
    """
    with (database.parent / f"{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = re.compile(rf"{re.escape(_scratch(database))}[a-z0-9_]{{8}}")
        for left in database.parent.iterdir():
            if made.fullmatch(left.name):
                shutil.rmtree(left, ignore_errors=True)
        yield


def _scratch(database: Path) -> str:
    """How the folders beside a database begin in which, behind its lock, another is made or tried."""
    return f".{database.name}-"


def _create(database: Path, ask: Ask, cache: Path) -> None:
    """Put a database with MLflow's tables in place, to which nobody is connected: one that MLflow has made under
    another name, or a copy of the one that is kept from an earlier time, for MLflow takes a second of computing.
    """
    kept = cache / "tracking" / f"mlflow-{mlflow.__version__}.db"
    with tempfile.TemporaryDirectory(prefix=_scratch(database), dir=database.parent) as scratch:  # noqa: TID251
        whole = Path(scratch) / "whole.db"
        if not _copied(kept, whole):
            made = Path(scratch) / "made.db"
            ask(f"{SQLITE}{made}")
            with closing(sqlite3.connect(made, isolation_level=None)) as connection:
                # MLflow makes its own default experiment again, with a place of the working folder.
                connection.execute("DELETE FROM experiments")
                connection.execute("VACUUM INTO ?", [str(whole)])
            # Without a cache that can be written the next store takes as long.
            with suppress(OSError), replacing(kept) as part:
                shutil.copyfile(whole, part)
        whole.replace(database)


def _copied(kept: Path, whole: Path) -> bool:
    """Whether ``kept`` is a whole database with tables and without experiments, of which ``whole`` is a copy now."""
    if not kept.is_file():
        return False
    with suppress(OSError, sqlite3.Error):
        shutil.copyfile(kept, whole)
        require_whole(whole)
        with closing(sqlite3.connect(whole)) as connection:
            if connection.execute("SELECT 1 FROM experiments LIMIT 1").fetchone() is None:
                return True
    whole.unlink(missing_ok=True)
    return False


def _tables(database: Path) -> set[str]:
    if not database.exists():
        return set()
    with closing(sqlite3.connect(database)) as connection:
        return {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _is_half(database: Path, tables: set[str], ask: Ask) -> bool:
    """Whether MLflow refuses a database of its own that holds no run. It is asked of a copy, since it stays connected
    to what it has once opened.
    """
    with tempfile.TemporaryDirectory(prefix=_scratch(database), dir=database.parent) as scratch:  # noqa: TID251
        copy = Path(scratch) / "copy.db"
        with closing(sqlite3.connect(database)) as connection:
            if "runs" in tables and connection.execute("SELECT 1 FROM runs LIMIT 1").fetchone():
                return False
            connection.execute("VACUUM INTO ?", [str(copy)])
        try:
            ask(f"{SQLITE}{copy}")
        except (MlflowException, SQLAlchemyError):
            return True
    return False


def require_whole(database: Path) -> None:
    """See that a database is what SQLite wrote: every row in its indexes, every page in its place. What is not would
    end a study later, or say something else of a run.

    Raises:
        sqlite3.DatabaseError: it is not; says where.
    """
    check = "integrity_check" if database.stat().st_size < _QUICKLY_READ else "quick_check"
    with closing(sqlite3.connect(database)) as connection:
        (found,) = connection.execute(f"PRAGMA {check}(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(f"malformed: {' '.join(found.split())}")


def settle_locations(database: Path) -> None:
    """Where the project was moved or copied, rewrite the places of artifacts, which MLflow keeps absolute, to those
    beside the database.

    A place that lchp made ends in ``mlartifacts/<experiment>``. It is rewritten if that exists beside the database, or
    if what was recorded is gone: so a copy never writes into the original.
    """
    if not {"experiments", "runs"} <= _tables(database):
        return
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        changes = list(_changes(connection, database.parent))
        if changes:
            connection.execute("BEGIN IMMEDIATE")
            for change, values in changes:
                connection.execute(change, values)
            connection.execute("COMMIT")


def _changes(connection: sqlite3.Connection, here: Path) -> Iterator[tuple[str, tuple[object, ...]]]:
    """The updates, with their values, that put the places of experiments and runs right."""
    for experiment, name, location in connection.execute(
        "SELECT experiment_id, name, artifact_location FROM experiments"
    ).fetchall():
        if now := _moved(location, name, here):
            yield "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (now, experiment)
        runs = connection.execute("SELECT run_uuid, artifact_uri FROM runs WHERE experiment_id = ?", [experiment])
        for run, recorded in runs.fetchall():
            end = f"/{run}/artifacts"
            if recorded and recorded.endswith(end) and (now := _moved(recorded[: -len(end)], name, here)):
                yield "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (now + end, run)


def _moved(location: str | None, experiment: str, here: Path) -> str | None:
    """The URI at which artifacts lie now that were at ``location``; None where they still are, or are not lchp's."""
    parts = urlsplit(location or "")
    own = (ARTIFACTS, *Path(experiment).parts)
    recorded = Path(unquote(parts.path))
    if parts.scheme != "file" or recorded.parts[-len(own) :] != own:
        return None
    now = here.joinpath(*own)
    if recorded == now or recorded.resolve() == now.resolve():
        return None
    gone = True
    with suppress(OSError):
        gone = not recorded.exists()
    return now.as_uri() if gone or now.exists() else None
