"""Where the runs are kept, and whether that place can be reached and written, told in seconds and without MLflow."""

from __future__ import annotations

import base64
import http.client
import os
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from lchp.data.files import unwritable
from lchp.errors import shown
from lchp.surroundings import LOOPBACK

SQLITE = "sqlite:///"
REMEDY = (
    "give --tracking-uri (or MLFLOW_TRACKING_URI) as sqlite:///ABSOLUTE/PATH/mlflow.db or as the http(s) address of a "
    "running MLflow server, or leave both out for a SQLite store in the working folder"
)
_REBUILT = "; or, where it was the store, move it away: the next run of every study writes its runs into a new one"
ARTIFACTS = "mlartifacts"
"""The folder beside a SQLite store that holds the files of its runs."""
_QUESTION = "/api/2.0/mlflow/experiments/search?max_results=1"
"""A server may call itself healthy while its database is away: it is asked what a study asks first."""
_MAGIC = b"SQLite format 3\0"
_ANSWER_SECONDS = 10.0
_LOCKED_SECONDS = 10.0


def is_server(uri: str) -> bool:
    """Whether ``uri`` is the address of an MLflow server."""
    return urlsplit(uri).scheme in ("http", "https")


def sqlite_file(uri: str) -> Path | None:
    """The absolute path of the SQLite file behind ``uri``; None for every other store."""
    return Path(uri.removeprefix(SQLITE)).absolute() if uri.startswith(SQLITE) else None


def resolved(uri: str | None, folder: Path) -> str:
    """The URI that is meant: the one asked for, else MLFLOW_TRACKING_URI, else ``mlflow.db`` in ``folder``.

    The path of a SQLite store is absolute, since trials run elsewhere.

    Raises:
        ValueError: it is no address of a server, or names a SQLite store without a file.
    """
    asked = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not asked and "?" in str(folder.absolute()):
        # SQLAlchemy takes what follows it for options.
        raise ValueError(
            f"{folder.absolute()}: no SQLite store can lie below a name that holds `?`: stand in another folder, or "
            "name a tracking store (--tracking-uri, or the variable MLFLOW_TRACKING_URI)"
        )
    asked = asked or f"{SQLITE}{folder.absolute() / 'mlflow.db'}"
    _require_address(asked)
    database = sqlite_file(asked)
    return f"{SQLITE}{database}" if database else asked


def _require_address(uri: str) -> None:
    name = f"tracking store {shown(uri)!r}"
    try:
        parts = urlsplit(uri)
        _ = parts.port if parts.scheme in ("http", "https") else None
    except ValueError as error:
        raise ValueError(f"{name} is no address ({error}): {REMEDY}") from error
    if parts.scheme == "sqlite" and not (uri.startswith(SQLITE) and uri.removeprefix(SQLITE)):
        # MLflow would keep the runs in memory, and lose them with the process.
        raise ValueError(f"{name} names no file: {REMEDY}")
    if uri == f"{SQLITE}:memory:":
        raise ValueError(f"{name} lies in memory, and no later process would find a run in it: {REMEDY}")
    if uri.startswith(SQLITE) and "?" in uri:
        # SQLAlchemy cuts them off, so that runs would be in another file than the one that is looked for.
        raise ValueError(f"{name} holds options behind `?`, which a SQLite store does not take: {REMEDY}")


def require_runs(uri: str) -> None:
    """See that a store that lies in a file is there: who looks for a run in it would make an empty one.

    Raises:
        ValueError: there is no such file; names the remedy.
    """
    database = sqlite_file(uri)
    if database is not None and not database.exists():
        raise ValueError(
            f"tracking store {shown(uri)!r}: {database} does not exist, so it holds no run: name the store that has "
            "the run with --tracking-uri, or stand in the folder in which its study was run"
        )


def obstacles(uri: str, experiment: str | None = None) -> list[str]:
    """What keeps the runs of an experiment from being written to a resolved store, one line each with its remedy.

    A server is asked whether it lives; of other kinds of store MLflow alone knows.
    """
    database = sqlite_file(uri)
    if database is not None:
        return _obstacles_of_file(database, experiment)
    reason = silence(uri) if is_server(uri) else None
    return [f"tracking store {shown(uri)!r} {reason}: {REMEDY}"] if reason else []


def silence(uri: str) -> str | None:
    """Why the server at ``uri`` cannot be used, as the end of a sentence; None where it answers.

    MLflow would ask again for minutes. A server that refuses this request (4xx) is left to MLflow, which asks as the
    user; one that does not know it (404) is another kind of server.
    """
    request = urllib.request.Request(without_user(uri).rstrip("/") + _QUESTION, headers=_authorization(uri))
    direct = [urllib.request.ProxyHandler({})] if urlsplit(uri).hostname in LOOPBACK else []
    try:
        urllib.request.build_opener(*direct).open(request, timeout=_ANSWER_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
        is_other = error.code >= 500 or error.code == 404
        return f"answers {error.code} {error.reason}".rstrip() if is_other else None
    except TimeoutError:
        return f"does not answer within {_ANSWER_SECONDS:.0f} s"
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, TimeoutError):
            return f"does not answer within {_ANSWER_SECONDS:.0f} s"
        if isinstance(reason, http.client.HTTPException):
            return f"does not answer as a server of web pages does ({type(reason).__name__})"
        return f"cannot be reached ({reason})"
    return None


def without_user(uri: str) -> str:
    """The address of a server without the user and password that may stand in it."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _authorization(uri: str) -> dict[str, str]:
    parts = urlsplit(uri)
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def _obstacles_of_file(database: Path, experiment: str | None) -> list[str]:
    name = f"tracking store '{SQLITE}{database}'"
    reason = unwritable(database.parent)
    if reason:
        return [f"{name}: {database.parent} is no folder that can be written ({reason}): {REMEDY}"]
    lines = []
    artifacts = database.parent / ARTIFACTS
    # That of an experiment is made with its first run.
    for folder in [artifacts, *([artifacts / experiment] if experiment and (artifacts / experiment).exists() else [])]:
        reason = unwritable(folder)
        if reason:
            lines.append(
                f"{folder}: is no folder that can be written ({reason}), and the files of the runs in {database} go "
                "there: make it one, or give another store with --tracking-uri"
            )
            break
    reason = _unusable(database)
    return [*lines, *([f"{name} {unopened(reason)}"] if reason else [])]


def unopened(reason: str) -> str:
    """What is said of a store that cannot be opened, as the end of a sentence: why, and the remedy."""
    return f"cannot be opened ({reason}): {REMEDY}{_REBUILT if is_damage(reason) else ''}"


def is_damage(reason: str) -> bool:
    """Whether what SQLite says of a file is that its content is not whole."""
    return "malformed" in reason or "not a database" in reason


def foreign(database: Path) -> str | None:
    """Why a file is no SQLite store; None where it is one, is empty or is not there.

    SQLite itself takes a file of less than a page for an empty database, and writes over it.
    """
    try:
        with database.open("rb") as file:
            start = file.read(len(_MAGIC))
    except OSError:
        return None
    return None if start in (b"", _MAGIC) else "the file is not a database"


def _unusable(database: Path) -> str | None:
    """What speaks against writing into ``database``; None where nothing is there yet."""
    if not database.exists():
        return None
    reason = foreign(database)
    if reason:
        return reason
    try:
        with closing(sqlite3.connect(database, timeout=_LOCKED_SECONDS, isolation_level=None)) as connection:
            connection.execute("PRAGMA schema_version")
            connection.execute("BEGIN IMMEDIATE")
            # A file that may only be read begins a transaction nevertheless.
            connection.execute("CREATE TABLE lchp_may_write (trial)")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return f"another process has held it for {_LOCKED_SECONDS:.0f} s: end that one, `fuser {database}` names it"
        return str(error)
    except sqlite3.Error as error:
        return str(error)
    return None
