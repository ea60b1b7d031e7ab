"""The MLflow UI on loopback, stopped with all the processes it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from tempfile import TemporaryFile

from lchp.errors import shown
from lchp.surroundings import unproxied
from lchp.tracking.address import is_server, obstacles, sqlite_file

_HOST = "127.0.0.1"
_START_SECONDS = 90.0
_STOP_SECONDS = 10.0
_SERVER = {
    # Nothing of a study needs MLflow's job queue, and it would start helper processes.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # Python and uvicorn would look for modules in the store's folder before all else, where a `random.py` may lie.
    "PYTHONSAFEPATH": "1",
    "UVICORN_APP_DIR": sysconfig.get_path("stdlib"),
}
"""The server's environment, beside this process's own."""
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Loopback is never asked through a proxy (mlflow#11551)."""
_GUARD = """
import os, signal, subprocess, sys, threading
def end_with_parent():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=end_with_parent, daemon=True).start()
subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL)
"""
"""Runs a command that ends, with all its group, when the pipe does that is this one's input: a parent that is killed
ends nothing itself, and the port would stay taken.
"""


def _answers(address: str) -> bool:
    try:
        with _DIRECT.open(f"{address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the whole process group: MLflow's helpers outlive their parent otherwise."""
    for signal_number, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
        until = time.monotonic() + seconds
        try:
            os.killpg(server.pid, signal_number)
            while time.monotonic() < until:
                server.poll()
                os.killpg(server.pid, 0)
                time.sleep(0.05)
        except ProcessLookupError:
            break
    server.wait()


def _command(uri: str, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "ui", "--host", _HOST, "--port", str(port)),
        *("--backend-store-uri", uri, "--workers", "1"),
    ]


def require_free(uri: str, port: int) -> None:
    """See that ``serve`` can listen at ``port``.

    Raises:
        ValueError: the port is taken.
    """
    if is_server(uri):
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise ValueError(
                f"port {port} of {_HOST} cannot be used ({error}): choose a free one with --port"
            ) from error


def require_server(uri: str) -> None:
    """See that the store answers, where it is a server: MLflow would ask for minutes.

    Raises:
        ValueError: it does not.
    """
    told = obstacles(uri) if is_server(uri) else []
    if told:
        raise ValueError(told[0])


def address_of(uri: str, port: int) -> str:
    """Where the UI of the store at ``uri`` is, or will be."""
    return shown(uri) if is_server(uri) else f"http://{_HOST}:{port}"


def serve(uri: str, port: int, ready: Callable[[], None]) -> int:
    """Serve the MLflow UI of the store at ``uri`` on 127.0.0.1 until Ctrl-C or SIGTERM; ``ready`` is called when it
    answers.

    A store that is itself a server has its own UI: nothing is served. Call it from the main thread, where signals
    arrive, after :func:`require_free`. What MLflow says is shown where it ends by itself.

    Returns:
        0 after a clean stop, else 1.
    """
    if is_server(uri):
        ready()
        return 0
    stopped = threading.Event()
    before = {
        number: signal.signal(number, lambda _signal, _frame: stopped.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    database = sqlite_file(uri)
    environment = {**os.environ, **unproxied(os.environ), **_SERVER}
    with (
        TemporaryFile() as said,
        subprocess.Popen(
            [sys.executable, "-c", _GUARD, *_command(uri, port)],
            cwd=database.parent if database else None,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            start_new_session=True,
        ) as server,
    ):
        try:
            _watch(server, port, stopped, ready)
        finally:
            _stop(server)
            for number, handler in before.items():
                signal.signal(number, handler)
        if not stopped.is_set():
            said.seek(0)
            print(said.read().decode(errors="replace"), end="", file=sys.stderr, flush=True)
    return 0 if stopped.is_set() else 1


def _watch(server: subprocess.Popen[bytes], port: int, stopped: threading.Event, ready: Callable[[], None]) -> None:
    """Call ``ready`` when the server answers; wait until it ends, is to be stopped, or has not answered for too
    long.
    """
    address = f"http://{_HOST}:{port}"
    until = time.monotonic() + _START_SECONDS
    answered = False
    while not stopped.is_set() and server.poll() is None:
        if not answered and _answers(address):
            answered = True
            ready()
        if not answered and time.monotonic() > until:
            print(f"the MLflow UI did not answer within {_START_SECONDS:.0f} s", file=sys.stderr, flush=True)
            return
        time.sleep(0.1)
