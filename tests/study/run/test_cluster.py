"""How the process that talks to Ray is started, watched and ended, with processes that know no Ray."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import tests.study.small as small
from lchp.errors import Refusal
from lchp.study.run import cluster as module
from lchp.study.run import ray_tune
from lchp.study.run.cluster import (
    QUIET,
    Cluster,
    Lost,
    Unstarted,
    answers,
    end_session,
    environment,
    plain_python,
    resources,
)
from lchp.study.run.materials import Materials
from lchp.study.run.ray_tune import ATTEMPTS, RESTARTS, LostForGood
from lchp.study.spec.load import Study
from lchp.training.material import Runtime
from tests.study.run.processes import lives

IN_PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
TALKS = """
import os, signal, subprocess, time
from multiprocessing.connection import Connection
requests = Connection(int(sys.argv[1]))
requests.recv_bytes()
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return small.load(tmp_path, small.GRID)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Something that answers, until it is closed."""

    def answer() -> None:
        with suppress(OSError):
            while True:
                call, _ = listening.accept()
                with call:
                    call.sendall(b"settings")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer)
        thread.start()
        yield listening
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def closed(server: socket.socket) -> None:
    """The server is gone; what waits for a call is woken."""
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def address(server: socket.socket) -> str:
    host, port = server.getsockname()
    return f"{host}:{port}"


def talking(monkeypatch: pytest.MonkeyPatch, study: Study, folder: Path, code: str) -> Cluster:
    """A cluster whose process runs ``code``, with the pipe to us as ``requests``."""
    monkeypatch.setattr(module, "_CODE", TALKS + code)
    monkeypatch.setattr(module, "_END_SECONDS", 1.0)
    return Cluster(study, Materials(Runtime(folder / "store", folder / "cache")))


def until_message(cluster: Cluster) -> tuple[Any, ...]:
    """The next message, which comes."""
    while True:
        message = cluster.message(1.0)
        if message is not None:
            return message


def test_plain_python_leads_by_a_link_to_an_environment_whose_path_has_spaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = tmp_path / "an environment"
    (prefix / "bin").mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.setattr(sys, "executable", str(prefix / "bin/python"))
    monkeypatch.setattr(sys, "path", ["/usr/lib/python", str(prefix / "lib/site-packages"), f"{prefix} of others"])
    python, path = plain_python(tmp_path)
    assert python == str(tmp_path / "environment/bin/python")
    assert path == ["/usr/lib/python", str(tmp_path / "environment/lib/site-packages"), f"{prefix} of others"]
    assert (tmp_path / "environment").samefile(prefix)


def test_plain_python_is_this_one_where_its_path_is_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/env-3.11/bin/python")
    assert plain_python(tmp_path) == ("/opt/env-3.11/bin/python", sys.path)
    assert list(tmp_path.iterdir()) == []


def test_environment_of_a_cluster_of_its_own_is_guarded_by_a_token_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    given = environment(own=True)
    assert len(given["RAY_AUTH_TOKEN"]) == 64
    assert "RAY_AUTH_MODE" not in given, "Ray then asks for the token"
    assert given["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0", "Ray then takes loopback where it is told so"
    assert "127.0.0.1" in given["no_proxy"]
    assert QUIET.items() <= given.items()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


def test_environment_token_of_the_user_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "mine")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    assert "RAY_AUTH_TOKEN" not in environment(own=True)


def test_environment_of_somebodys_cluster_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    given = environment(own=False)
    assert given["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in given


def test_resources_of_a_trial_are_gpus_on_cuda_alone(tmp_path: Path) -> None:
    study = small.load(tmp_path, small.GRID, "resources={gpus: 0.5, cpus: 3}")
    assert resources(study, "cuda") == {"cpu": 3.0, "gpu": 0.5}
    assert resources(study, "cpu") == {"cpu": 3.0, "gpu": 0.0}


def test_answers_tells_a_server_that_answers_from_one_that_is_gone(server: socket.socket) -> None:
    where = address(server)
    assert answers(where)
    closed(server)
    assert not answers(where)


def test_answers_is_not_content_with_a_server_that_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    # The system takes calls for whoever listens.
    with socket.create_server(("127.0.0.1", 0)) as stopped:
        assert not answers(address(stopped))


@IN_PROC
def test_end_session_ends_processes_whose_parent_is_gone_and_those_that_are_stopped() -> None:
    code = (
        "import subprocess as s; [print(s.Popen(['sleep', '100'], process_group=0, stdout=-3).pid) for _ in range(2)]"
    )
    leader = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE, text=True)
    assert leader.stdout is not None
    with leader, leader.stdout:
        left = [int(line) for line in leader.stdout.read().split()]
    os.kill(left[0], signal.SIGSTOP)
    assert all(map(lives, left))
    end_session(leader.pid)
    assert not any(map(lives, left))


@IN_PROC
def test_cluster_leaves_neither_process_nor_folder(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "requests.send(('up', 2, {})); requests.send(('pid', subprocess.Popen(['sleep', '100']).pid)); time.sleep(100)"
    )
    with suppress(KeyboardInterrupt), talking(monkeypatch, study, tmp_path, code) as cluster:
        assert until_message(cluster) == ("up", 2, {})
        _, left = until_message(cluster)
        assert cluster.folder.is_dir()
        raise KeyboardInterrupt
    assert not cluster.folder.exists()
    assert not lives(left)


@pytest.mark.parametrize(
    ("code", "kind", "told"),
    [
        ("requests.send(('unstarted', 'timed out'))", Unstarted, "^timed out$"),
        ("requests.send(('refused', 'too few'))", Refusal, "^too few$"),
        ("requests.send(('crashed', 'Traceback\\nTuneError: what'))", Lost, r"Ray has failed \(TuneError: what\)"),
        ("os.kill(os.getpid(), signal.SIGABRT)", Unstarted, r"has ended \(SIGABRT\)"),
        ("import nothing_of_that_name", Unstarted, r"has ended \(ModuleNotFoundError: No module named 'nothing_of"),
    ],
)
def test_cluster_message_that_nothing_goes_on_is_raised(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told), talking(monkeypatch, study, tmp_path, code) as cluster:
        until_message(cluster)


def test_cluster_whose_process_aborts_is_lost_and_names_the_server_that_is_gone(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: socket.socket
) -> None:
    where = address(server)
    closed(server)
    code = f"requests.send(('up', 2, {{'gcs_server': {where!r}}})); time.sleep(0.5); os.abort()"
    with talking(monkeypatch, study, tmp_path, code) as cluster:
        until_message(cluster)
        with pytest.raises(Lost, match="Ray's gcs_server is gone"):
            until_message(cluster)


def test_cluster_whose_server_is_gone_is_lost_though_its_process_lives(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: socket.socket
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    code = f"requests.send(('up', 2, {{'raylet': {address(server)!r}}})); time.sleep(100)"
    with talking(monkeypatch, study, tmp_path, code) as cluster:
        until_message(cluster)
        assert cluster.message(0.05) is None
        closed(server)
        with pytest.raises(Lost, match="Ray's raylet is gone"):
            until_message(cluster)


def test_cluster_worker_that_fails_because_its_node_is_gone_is_no_failure(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: socket.socket
) -> None:
    where = address(server)
    closed(server)
    code = f"requests.send(('up', 2, {{'raylet': {where!r}}})); requests.send(('failed', 'p', (), '')); time.sleep(100)"
    with talking(monkeypatch, study, tmp_path, code) as cluster:
        until_message(cluster)
        with pytest.raises(Lost, match="Ray's raylet is gone"):
            until_message(cluster)


def test_cluster_whose_process_says_nothing_more_is_lost(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE_SECONDS", 1.5)
    with talking(monkeypatch, study, tmp_path, "requests.send(('up', 2, {})); time.sleep(100)") as cluster:
        until_message(cluster)
        assert cluster.message(1.0) is None
        with pytest.raises(Lost, match=r"has said nothing for 1\.5 s"):
            until_message(cluster)


def test_cluster_that_does_not_start_in_time_is_given_up(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.1)
    with (
        pytest.raises(Unstarted, match=r"nothing has happened for 0\.1 s"),
        talking(monkeypatch, study, tmp_path, "time.sleep(100)") as cluster,
    ):
        until_message(cluster)


class Scripted:
    """A cluster that says what was written for it, one list for each time that it is started."""

    script: list[list[object]]
    address: str | None = None

    def __init__(self, *_: object) -> None:
        self.lines = self.script.pop(0)
        self.answers: list[object] = []

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def message(self, seconds: float) -> object:
        line = self.lines.pop(0)
        if isinstance(line, Exception):
            raise line
        return line

    def answer(self, answer: object) -> None:
        self.answers.append(answer)


class Told:
    """A driver of one trial, which ends with the first message that says so."""

    def __init__(self, *_: object) -> None:
        self.queue = self
        self.finished, self.slots = False, 0

    def completed(self, attempt: str, objective: object) -> None:
        self.finished = True

    def lost(self) -> int:
        return 1

    def is_stuck(self, seconds: float) -> bool:
        return self.slots == STUCK

    def overdue(self) -> Sequence[str]:
        return []

    def close(self) -> None:
        pass


class Saying:
    materials = None

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


UP = ("up", 2, {})
STUCK = 7
END: list[object] = [UP, ("completed", "p", None)]


def trained(
    monkeypatch: pytest.MonkeyPatch, study: Study, *script: list[object], address: str | None = None
) -> list[str]:
    """What ``train`` says over such clusters, once it has said that it begins with one."""
    monkeypatch.setattr(Scripted, "script", [list(lines) for lines in script], raising=False)
    monkeypatch.setattr(Scripted, "address", address)
    monkeypatch.setattr(ray_tune, "Cluster", Scripted)
    monkeypatch.setattr(ray_tune, "Driver", Told)
    recorder = Saying()
    ray_tune.train(study, study.trials, recorder)  # type: ignore[arg-type]
    assert Scripted.script == [], "every cluster was started"
    begun, *lines = recorder.lines
    assert begun == (f"joining Ray at {address}" if address else "starting Ray (a few seconds)")
    return lines


def test_train_cluster_that_starts_late_is_tried_again(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[object] = [Unstarted("The current node timed out during startup.")]
    assert trained(monkeypatch, study, late, late, END) == [
        f"Ray is not started (The current node timed out during startup.): that is tried again ({attempt} of 3)"
        for attempt in (2, 3)
    ]


def test_train_cluster_that_never_starts_is_refused_with_remedy(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[object] = [Unstarted("The current node timed out during startup.")]
    told = r"Ray does not start, 3 times in a row \(The current node timed out during startup\.\): see .* --address"
    with pytest.raises(Refusal, match=told):
        trained(monkeypatch, study, *[late] * ATTEMPTS)


def test_train_cluster_that_cannot_be_joined_is_refused_with_remedy(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refusal, match=r"head:6379 cannot be joined \(no\).*RAY_AUTH_MODE=token"):
        trained(monkeypatch, study, [Unstarted("no")], address="head:6379")


def test_train_cluster_that_is_lost_is_started_again(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[object] = [UP, Lost("Ray's raylet is gone")]
    assert trained(monkeypatch, study, *[lost] * RESTARTS, END) == [
        f"Ray's raylet is gone: it is started again ({time} of 3), trials go on from their checkpoints (1 had begun)"
        for time in (1, 2, 3)
    ]


def test_train_cluster_that_ends_or_gets_stuck_before_the_trials_is_started_again(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = trained(monkeypatch, study, [UP, ("done",)], [("up", STUCK, {})], END)
    assert [line.partition(":")[0] for line in said] == [
        "Ray has ended before the trials",
        "Ray has not begun with a trial for longer than failures.silent",
    ]


def test_train_cluster_of_somebody_that_is_lost_is_joined_again_when_it_is_back(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[object] = [("up", STUCK, {}), Lost("Ray's gcs_server is gone")]
    away: list[object] = [Unstarted("timed out")]
    left: list[object] = [*END, ("done",)]
    assert trained(monkeypatch, study, waits, away, left, address="head:6379") == [
        "Ray's gcs_server is gone: it is joined again (1 of 3), trials go on from their checkpoints (1 had begun)",
        "Ray is not joined (timed out): that is tried again (2 of 3)",
    ]


def test_train_cluster_that_is_lost_after_the_last_trial_is_let_go(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained(monkeypatch, study, [*END, Lost("Ray's raylet is gone")], address="head:6379") == []


def test_train_cluster_that_is_lost_again_and_again_ends_the_study_with_remedy(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[object] = [UP, Lost("Ray's raylet is gone")]
    with pytest.raises(LostForGood, match=r"Ray's raylet is gone, 4 times: .* then run the same command again"):
        trained(monkeypatch, study, *[lost] * (RESTARTS + 1))
