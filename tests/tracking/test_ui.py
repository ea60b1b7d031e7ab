from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from lchp.cli import run
from lchp.tracking.address import SQLITE
from lchp.tracking.store import ensure_experiment
from lchp.tracking.ui import address_of, require_free, serve


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def modules_of_the_same_names(store: str) -> Iterator[None]:
    """Files of a user in the folder of the store that are called as modules that the server imports."""
    folder = Path(store.removeprefix(SQLITE)).parent
    files = [folder / name for name in ("mlflow.py", "random.py", "pandas.py")]
    for file in files:
        file.write_text("raise RuntimeError('of the user')\n", encoding="utf-8")
    yield
    for file in files:
        file.unlink()


def _session_members(leader: int) -> list[int]:
    """Processes that still run in the sessions started by ``leader``'s children."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            members.append(int(stat.parent.name))
    return members


def test_require_free_taken_port_is_refused(store: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} of 127.0.0.1 cannot be used.*--port"):
            require_free(store, port)


def test_serve_store_on_a_server_is_ready_at_its_address() -> None:
    told: list[str] = []
    uri = "http://me:secret@tracking.example:5000"
    assert serve(uri, 5000, lambda: told.append("ready")) == 0
    assert told == ["ready"]
    assert address_of(uri, 5000) == "http://***@tracking.example:5000"


def test_serve_shows_what_mlflow_said_where_it_ends_by_itself(
    store: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    command = [sys.executable, "-c", "print('a port is taken')"]
    monkeypatch.setattr("lchp.tracking.ui._command", lambda *_: command)
    assert serve(store, _free_port(), lambda: told.append("ready")) == 1
    assert told == []
    assert capfd.readouterr() == ("", "a port is taken\n")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for left processes in /proc")
def test_serve_behind_a_proxy_until_sigterm_answers_and_leaves_no_process(
    store: str, modules_of_the_same_names: None
) -> None:
    port = _free_port()
    ensure_experiment(store, "kept")
    code = "import sys; from lchp.cli import run; sys.exit(run(sys.argv[1:]))"
    # A proxy where nobody answers: loopback is never asked through one.
    environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    environment["http_proxy"] = f"http://127.0.0.1:{_free_port()}"
    command = [sys.executable, "-c", code, "ui", "--tracking-uri", store, "--port", str(port)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("opening sqlite:///")
        said = list(takewhile(lambda line: "the MLflow UI" not in line, process.stdout))
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        inherited = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as page:
            assert page.status == 200
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr.read() == "", "what MLflow and Starlette warn of says nothing about a study"
    experiments = f"http://127.0.0.1:{port}/#/experiments"
    assert said[0].startswith(f"kept: {experiments}/")
    assert said[-1] == f"all experiments: {experiments}\n"
    assert b"no_proxy=127.0.0.1,localhost,::1" in inherited
    assert _session_members(int(child)) == []
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for left processes in /proc")
def test_serve_that_is_killed_leaves_no_process_and_its_port_free(store: str) -> None:
    port = _free_port()
    code = (
        "import sys; from lchp.tracking import ui\n"
        "ui._command = lambda *_: ['sh', '-c', 'sleep 1000 & wait']\n"
        "ui.serve(sys.argv[1], int(sys.argv[2]), print)"
    )
    with subprocess.Popen([sys.executable, "-c", code, store, str(port)]) as process:
        children, until = Path(f"/proc/{process.pid}/task/{process.pid}/children"), time.monotonic() + 60
        while not (child := children.read_text()) or len(_session_members(int(child))) < 3:
            assert time.monotonic() < until
            time.sleep(0.05)
        process.kill()
    until = time.monotonic() + 60
    while _session_members(int(child)):
        assert time.monotonic() < until, "what it has started outlives it"
        time.sleep(0.05)
    require_free(store, port)


def test_ui_of_a_study_that_the_store_does_not_hold_is_refused_with_those_it_does(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ensure_experiment(store, "kept")
    assert run(["ui", "lost", "--tracking-uri", store, "--port", str(_free_port())]) == 2
    said = capsys.readouterr().err
    assert "holds no study 'lost': choose " in said
    assert "kept" in said
