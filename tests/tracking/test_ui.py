from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from lchp.tracking.ui import require_free, serve


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


def test_serve_store_on_a_server_prints_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve("http://me:secret@tracking.example:5000", 5000) == 0
    printed = capsys.readouterr().out
    assert "http://***@tracking.example:5000" in printed
    assert "secret" not in printed


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for left processes in /proc")
def test_serve_behind_a_proxy_until_sigterm_answers_and_leaves_no_process(store: str) -> None:
    port = _free_port()
    code = f"import sys; from lchp.tracking.ui import serve; sys.exit(serve({store!r}, {port}))"
    # A proxy where nobody answers: loopback is never asked through one.
    environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    environment["http_proxy"] = f"http://127.0.0.1:{_free_port()}"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "MLflow UI" in line)
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        inherited = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as page:
            assert page.status == 200
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(30) == 0
    assert f"http://127.0.0.1:{port}" in line
    assert b"no_proxy=127.0.0.1,localhost,::1" in inherited
    assert _session_members(int(child)) == []
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2)
