from __future__ import annotations

import errno
import multiprocessing
import re
import socket
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from lchp.errors import shown
from lchp.tracking.address import sqlite_file
from lchp.tracking.store import client, ensure_experiment, open_store, why


def test_open_store_without_uri_is_an_absolute_sqlite_file(store: str) -> None:
    database = sqlite_file(store)
    assert database is not None
    assert database.is_absolute()
    assert database.name == "mlflow.db"
    assert database.is_file()


def test_open_store_environment_is_honoured_and_made_absolute(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = sqlite_file(store)
    assert database is not None
    monkeypatch.chdir(database.parent)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert open_store(None, tmp_path) == store
    assert list(tmp_path.iterdir()) == []


def test_open_store_option_beats_the_environment(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://")
    assert open_store(store, tmp_path) == store


def test_open_store_unknown_scheme_is_refused_with_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tracking store 'carrier-pigeon://home' cannot be opened.*--tracking-uri"):
        open_store("carrier-pigeon://home", tmp_path)


def test_open_store_server_that_does_not_answer_is_refused_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ValueError, match=r"http://\*\*\*@127.*refused.*running MLflow server") as refusal:
            open_store(address, tmp_path)
    assert "secret" not in str(refusal.value)


def test_open_store_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is a diary, not a database", encoding="utf-8")
    with pytest.raises(ValueError, match=r"mlflow\.db.*not a database"):
        open_store(None, tmp_path)


def _open(folder: Path) -> None:
    assert open_store(None, folder)


def test_open_store_two_processes_at_once_leave_a_whole_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_open, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert ensure_experiment(open_store(None, tmp_path), "after") == "1"


def test_shown_password_is_hidden() -> None:
    assert shown("postgresql://me:secret@host/db") == "postgresql://***@host/db"
    assert shown("sqlite:////home/me/mlflow.db") == "sqlite:////home/me/mlflow.db"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MlflowException("(sqlite3.OperationalError) database is locked\n[SQL: SELECT 1]"), "database is locked"),
        (MlflowException("(advice of a library)\n(sqlite3.OperationalError) disk is full\n[SQL: 1]"), "disk is full"),
        (OSError(errno.ENOSPC, "No space left on device", "/there/a.png"), "/there/a.png: No space left on device"),
        (ValueError("at http://me:secret@host it is cut"), "at http://***@host it is cut"),
        (KeyError(), "KeyError"),
    ],
)
def test_why_is_one_line_without_a_password(error: Exception, told: str) -> None:
    assert why("sqlite:////there/mlflow.db", error) == f"cannot be written ({told})"


def test_ensure_experiment_repeated_is_the_same_and_lies_beside_the_store(store: str) -> None:
    first = ensure_experiment(store, "tables of birds")
    database = sqlite_file(store)
    assert database is not None
    assert ensure_experiment(store, "tables of birds") == first
    location = client(store).get_experiment(first).artifact_location
    assert location == (database.parent / "mlartifacts" / "tables of birds").as_uri()


def test_ensure_experiment_deleted_one_is_restored(store: str) -> None:
    first = ensure_experiment(store, "deleted")
    client(store).delete_experiment(first)
    assert ensure_experiment(store, "deleted") == first
    assert client(store).get_experiment(first).lifecycle_stage == "active"


def test_ensure_experiment_refused_name_says_so(store: str) -> None:
    with pytest.raises(ValueError, match=re.escape("experiment '' cannot be made")):
        ensure_experiment(store, "")
