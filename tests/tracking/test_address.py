from __future__ import annotations

import re
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import lchp.tracking.address as address
from lchp.tracking.address import obstacles, resolved, silence
from lchp.tracking.store import open_store


@contextmanager
def server(status: int, asked: list[dict[str, str]] | None = None) -> Iterator[str]:
    """An HTTP server on loopback that answers everything with ``status``; notes the headers of what it is asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if asked is not None:
                asked.append({"path": self.path, **self.headers})
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as there:
        thread = threading.Thread(target=there.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{there.server_port}"
        there.shutdown()
        thread.join()


@contextmanager
def silent() -> Iterator[str]:
    """A server that accepts and never answers."""
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        there.listen()
        yield f"http://me:secret@127.0.0.1:{there.getsockname()[1]}"


def test_obstacles_server_that_never_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert address._ANSWER_SECONDS <= 10, "a refusal comes within 15 s"
    monkeypatch.setattr(address, "_ANSWER_SECONDS", 0.2)
    with silent() as uri:
        (line,) = obstacles(uri)
    assert "http://***@127.0.0.1" in line
    assert "does not answer within" in line
    assert "--tracking-uri" in line
    assert "secret" not in line


@pytest.mark.parametrize("opened", [False, True])
def test_obstacles_server_that_answers_503_is_named(tmp_path: Path, opened: bool) -> None:
    with server(503) as uri:
        if opened:
            with pytest.raises(ValueError, match="answers 503 Service Unavailable: give --tracking-uri"):
                open_store(uri, tmp_path)
        else:
            (line,) = obstacles(uri)
            assert line.startswith(f"tracking store '{uri}' answers 503 Service Unavailable: give --tracking-uri")


@pytest.mark.parametrize("status", [200, 401])
def test_silence_server_that_answers_is_left_to_mlflow(status: int) -> None:
    asked: list[dict[str, str]] = []
    with server(status, asked) as uri:
        assert silence(uri.replace("//", "//me:se%20cret@") + "/prefix/") is None
    assert asked[0]["path"] == "/prefix/api/2.0/mlflow/experiments/search?max_results=1"
    assert asked[0]["Authorization"] == "Basic bWU6c2UgY3JldA=="


def test_silence_server_that_is_no_mlflow_is_told() -> None:
    with server(404) as uri:
        assert silence(uri) == "answers 404 Not Found"


def test_silence_loopback_is_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with server(200) as uri:
        assert silence(uri) is None


def test_open_store_api_that_fails_behind_a_healthy_server_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lchp.tracking.store.silence", lambda _: None)
    asked: list[dict[str, str]] = []
    with server(503, asked) as uri, pytest.raises(ValueError, match="cannot be opened"):
        open_store(uri, tmp_path)
    assert len(asked) <= 1


@contextmanager
def babbling() -> Iterator[str]:
    """Something on loopback that is no web server: it greets, as ssh does."""
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        there.listen()

        def greet() -> None:
            asking, _ = there.accept()
            with asking:
                asking.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                asking.recv(1 << 16)

        thread = threading.Thread(target=greet)
        thread.start()
        yield f"http://127.0.0.1:{there.getsockname()[1]}"
        thread.join()


def test_obstacles_server_of_another_protocol_is_named() -> None:
    with babbling() as uri:
        (line,) = obstacles(uri)
    assert line.startswith(
        f"tracking store '{uri}' does not answer as a server of web pages does (BadStatusLine): give"
    )


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://127.0.0.1:port", "'http://127.0.0.1:port' is no address (Port could not be cast"),
        ("http://127.0.0.1:99999", "is no address (Port out of range 0-65535): give --tracking-uri"),
        ("http://me:secret@[::1", "'http://***@[::1' is no address (Invalid IPv6 URL): give --tracking-uri"),
        ("sqlite://", "'sqlite://' names no file: give --tracking-uri"),
        ("sqlite:///", "'sqlite:///' names no file: give --tracking-uri"),
        ("sqlite:mlflow.db", "'sqlite:mlflow.db' names no file: give --tracking-uri"),
        (
            "sqlite:///:memory:",
            "'sqlite:///:memory:' lies in memory, and no later process would find a run in it: give",
        ),
        (
            "sqlite:///x.db?mode=ro",
            "holds options behind `?`, which a SQLite store does not take: give --tracking-uri",
        ),
    ],
)
def test_resolved_malformed_address_is_refused(tmp_path: Path, uri: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        resolved(uri, tmp_path)


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("content", ["x", "notes\n" * 1000])
def test_obstacles_file_that_is_no_database_is_named_and_kept(tmp_path: Path, content: str, opened: bool) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(content, encoding="utf-8")
    if opened:
        with pytest.raises(ValueError, match="cannot be opened \\(the file is not a database\\): give --tracking-uri"):
            open_store(f"sqlite:///{file}", tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    else:
        (line,) = obstacles(f"sqlite:///{file}")
        assert "cannot be opened (the file is not a database): give --tracking-uri" in line
        assert line.endswith("move it away: the next run of every study writes its runs into a new one")
    assert file.read_text(encoding="utf-8") == content


def test_obstacles_fresh_folder_has_none(tmp_path: Path) -> None:
    assert obstacles(resolved(f"sqlite:///{tmp_path}/new/mlflow.db", tmp_path)) == []


def test_obstacles_artifact_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlartifacts").write_text("", encoding="utf-8")
    (line,) = obstacles(resolved(None, tmp_path))
    assert line.startswith(f"{tmp_path / 'mlartifacts'}: is no folder that can be written (File exists)")
    assert "--tracking-uri" in line


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that refuses writing even to root")
@pytest.mark.parametrize("name", ["mlartifacts", "mlartifacts/birds"])
def test_obstacles_artifact_folder_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to("/proc")
    (line,) = obstacles(resolved(None, tmp_path), "birds")
    assert line.startswith(f"{tmp_path / name}: is no folder that can be written (")


def test_obstacles_artifact_folder_of_another_study_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "mlartifacts").mkdir()
    (tmp_path / "mlartifacts/birds").write_text("", encoding="utf-8")
    assert obstacles(resolved(None, tmp_path), "dogs") == []


def test_obstacles_database_in_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")
    (line,) = obstacles(f"sqlite:///{tmp_path}/taken/mlflow.db")
    assert f"{tmp_path}/taken is no folder that can be written" in line


def test_obstacles_database_that_is_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    (line,) = obstacles(resolved(None, tmp_path))
    assert "unable to open database file" in line


def test_obstacles_locked_database_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "_LOCKED_SECONDS", 0.1)
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as holder:
        holder.execute("CREATE TABLE runs (name)")
        holder.execute("BEGIN EXCLUSIVE")
        (line,) = obstacles(resolved(None, tmp_path))
        assert f"another process has held it for 0 s: end that one, `fuser {database}` names it" in line
        holder.execute("ROLLBACK")
    assert obstacles(resolved(None, tmp_path)) == []


def test_obstacles_read_only_database_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("CREATE TABLE runs (name)")

    real = sqlite3.connect
    # Even root may not write through a connection that is opened for reading.
    monkeypatch.setattr(
        "lchp.tracking.address.sqlite3.connect",
        lambda file, **options: real(f"file:{file}?mode=ro", uri=True, **options),
    )
    (line,) = obstacles(resolved(None, tmp_path))
    assert "attempt to write a readonly database" in line


def test_address_imports_no_mlflow() -> None:
    code = "import sys, lchp.tracking.address; print(sorted({'mlflow', 'sqlalchemy', 'requests'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_resolved_below_a_folder_that_sqlite_cannot_name_tells_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ValueError, match=r"what\?: no SQLite store can lie below .*: stand in another folder, or name"):
        resolved(None, tmp_path / "what?")
    assert resolved("http://here:5000", tmp_path / "what?") == "http://here:5000"
