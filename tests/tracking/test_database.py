from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lchp.tracking import store
from lchp.tracking.database import settle_locations
from lchp.tracking.runs import ensure_run, finish_run, is_complete, log_result
from lchp.tracking.store import client, ensure_experiment, open_store
from lchp.tracking.stored import read_run


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a store without experiments of ours; to be copied."""
    folder = tmp_path_factory.mktemp("empty")
    open_store(None, folder)
    return folder / "mlflow.db"


@pytest.fixture
def nothing_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder, in which no empty store is kept yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "kept"))
    return tmp_path / "kept/lchp/tracking"


def execute(database: Path, *commands: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        for command in commands:
            connection.execute(command)


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_open_store_leaves_the_database_and_its_lock_alone(empty: Path) -> None:
    assert names(empty.parent) == {"mlflow.db", "mlflow.db.lock"}


@pytest.mark.usefixtures("nothing_kept")
def test_open_store_killed_while_it_is_made_leaves_nothing_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(uri: str) -> None:
        Path(uri.removeprefix("sqlite:///")).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("lchp.tracking.store._ask", killed)
    with pytest.raises(KeyboardInterrupt):
        open_store(None, tmp_path)
    assert names(tmp_path) == {"mlflow.db.lock"}


@pytest.mark.usefixtures("nothing_kept")
def test_open_store_after_a_kill_while_the_tables_are_made_is_whole(tmp_path: Path) -> None:
    tmp_path = tmp_path / "project"
    tmp_path.mkdir()
    child = os.fork()
    if not child:
        open_store(None, tmp_path)
        os._exit(0)
    until = time.monotonic() + 60
    while time.monotonic() < until and not any(file.stat().st_size > 50_000 for file in tmp_path.rglob("*.db")):
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert ensure_experiment(open_store(None, tmp_path), "after") == "1"
    assert names(tmp_path) == {"mlflow.db", "mlflow.db.lock"}


def rows(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """What the tables of a database are made by, and what they hold, without times."""
    with closing(sqlite3.connect(database)) as connection:
        made = {"": connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()}
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            found = connection.execute(f"SELECT * FROM '{name}'").fetchall()
            made[name] = [tuple(value for value in row if not isinstance(value, int) or value < 1e9) for row in found]
    return made


def test_open_store_copies_the_empty_one_that_is_kept_and_makes_anew_what_is_damaged(
    tmp_path: Path, nothing_kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask = store._ask
    monkeypatch.setattr(store, "_ask", lambda uri: (asked.append(Path(uri).name), ask(uri)))

    def made(name: str) -> Path:
        asked.clear()
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        open_store(None, tmp_path / name)
        return tmp_path / name / "mlflow.db"

    first = rows(made("first"))
    assert asked == ["made.db", "mlflow.db"]
    assert first["experiments"][0][2] == str(tmp_path / "first/mlruns/0")
    (kept,) = nothing_kept.iterdir()
    second = rows(made("second"))
    assert asked == ["mlflow.db"]
    assert second["experiments"][0][2] == str(tmp_path / "second/mlruns/0")
    assert {**second, "experiments": []} == {**first, "experiments": []}
    for number, content in enumerate((b"", b"half", kept.read_bytes()[:50_000])):
        kept.write_bytes(content)
        assert rows(made(f"{number}")).keys() == first.keys()
        assert asked == ["made.db", "mlflow.db"]


def test_open_store_keeps_the_empty_one_in_the_cache_that_is_given(tmp_path: Path, nothing_kept: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        open_store(None, tmp_path / name, tmp_path / "cache")
    assert [kept.suffix for kept in (tmp_path / "cache/tracking").iterdir()] == [".db"]
    assert not nothing_kept.exists()


def test_open_store_without_a_cache_is_made_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    assert ensure_experiment(open_store(None, tmp_path), "after") == "1"


HALF = ("DROP TABLE trace_info", "UPDATE alembic_version SET version_num = 'c48cb773bb87'")
"""MLflow makes the tables step by step, and writes down each step after it."""


def test_open_store_half_made_without_a_run_is_set_aside_and_made_anew(empty: Path, tmp_path: Path) -> None:
    shutil.copy(empty, tmp_path / "mlflow.db")
    execute(tmp_path / "mlflow.db", "PRAGMA foreign_keys = OFF", *HALF)
    assert ensure_experiment(open_store(None, tmp_path), "after") == "1"
    assert names(tmp_path) == {"mlflow.db", "mlflow.db.lock", "mlflow.db.damaged-1"}


def test_open_store_half_made_with_a_run_is_refused_and_kept(empty: Path, tmp_path: Path) -> None:
    shutil.copy(empty, tmp_path / "mlflow.db")
    execute(tmp_path / "mlflow.db", "INSERT INTO runs (run_uuid, experiment_id) VALUES ('a', 0)", *HALF)
    with pytest.raises(ValueError, match="cannot be opened"):
        open_store(None, tmp_path)
    assert names(tmp_path) == {"mlflow.db", "mlflow.db.lock"}


def test_open_store_whose_rows_are_not_those_of_its_indexes_is_refused_with_remedy(empty: Path, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    shutil.copy(empty, database)
    run = "INSERT INTO runs (run_uuid, experiment_id) VALUES ('a', 0)"
    metric = "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan) VALUES ('a', 'flipped', 0.5, 1, 1, 0)"
    execute(database, run, metric)
    assert open_store(None, tmp_path)
    database.write_bytes(database.read_bytes().replace(b"flipped", b"flapped", 1))
    with pytest.raises(ValueError, match=r"cannot be opened \(malformed: .* missing from index .*move it away"):
        open_store(None, tmp_path)


def test_open_store_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    assert ensure_experiment(open_store(None, tmp_path), "after") == "1"
    assert names(tmp_path) == {"mlflow.db", "mlflow.db.lock"}


@pytest.fixture
def project(empty: Path, tmp_path: Path, finished: Callable[[], Path]) -> tuple[Path, str, Path]:
    """A project's folder with a store that holds one finished run, the run's id, and its trial."""
    folder = tmp_path / "a project"
    folder.mkdir()
    shutil.copy(empty, folder / "mlflow.db")
    uri = open_store(None, folder)
    experiment = ensure_experiment(uri, "tiny")
    parent = ensure_run(uri, experiment, "tiny", "study", None, {}, {})
    run_id = ensure_run(uri, experiment, "trial", "trial", parent, {}, {})
    trial = finished()
    log_result(uri, run_id, trial)
    return folder, run_id, trial


def artifacts(uri: str, run_id: str) -> str:
    return str(client(uri).get_run(run_id).info.artifact_uri)


def test_open_store_moved_project_finds_and_writes_its_files_where_it_is_now(
    project: tuple[Path, str, Path], tmp_path: Path
) -> None:
    folder, run_id, trial = project
    there = folder.rename(tmp_path / "elsewhere, now")
    uri = open_store(None, there)
    assert artifacts(uri, run_id).startswith((there / "mlartifacts/tiny").as_uri())
    assert is_complete(uri, run_id, trial)
    assert read_run(uri, run_id, tmp_path / "copy").scores
    log_result(uri, run_id, trial)
    new = ensure_run(uri, ensure_experiment(uri, "tiny"), "second", "second", None, {}, {})
    finish_run(uri, new, [trial / "config.json"])
    assert (there / "mlartifacts/tiny" / new / "artifacts/config.json").is_file()
    assert not folder.exists()
    assert open_store(None, there) == uri


def test_open_store_copied_project_does_not_write_into_the_original(
    project: tuple[Path, str, Path], tmp_path: Path
) -> None:
    folder, run_id, trial = project
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    uri = open_store(None, copy)
    (copy / "mlartifacts/tiny" / run_id / "artifacts/config.json").unlink()
    assert not is_complete(uri, run_id, trial)
    log_result(uri, run_id, trial)
    assert is_complete(uri, run_id, trial)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    assert artifacts(open_store(None, folder), run_id).startswith(folder.as_uri())


def test_open_store_database_alone_moved_keeps_the_files_where_they_are(
    project: tuple[Path, str, Path], tmp_path: Path
) -> None:
    folder, run_id, trial = project
    (tmp_path / "fast disk").mkdir()
    shutil.move(folder / "mlflow.db", tmp_path / "fast disk")
    uri = open_store(None, tmp_path / "fast disk")
    assert artifacts(uri, run_id).startswith(folder.as_uri())
    assert is_complete(uri, run_id, trial)


def test_open_store_by_a_link_is_not_moved(project: tuple[Path, str, Path], tmp_path: Path) -> None:
    folder, run_id, _ = project
    (tmp_path / "link").symlink_to(folder)
    assert artifacts(open_store(None, tmp_path / "link"), run_id).startswith(folder.as_uri())


def test_settle_locations_of_foreign_places_and_databases_changes_nothing(empty: Path, tmp_path: Path) -> None:
    database = Path(shutil.copy(empty, tmp_path / "mlflow.db"))
    values = [("s3://bucket/mlartifacts/s3", "s3"), ("file:///somewhere/runs/own", "own"), (None, "none")]
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany("INSERT INTO experiments (artifact_location, name) VALUES (?, ?)", values)
    for name in ("s3", "own", "none"):
        (tmp_path / "mlartifacts" / name).mkdir(parents=True)
    before = database.read_bytes()
    settle_locations(database)
    assert database.read_bytes() == before
    execute(tmp_path / "diary.db", "CREATE TABLE diary (day TEXT)")
    settle_locations(tmp_path / "diary.db")
