"""The Ray of a study, from outside: the process that talks to it is started, watched, and ended with all that it
started. The cluster is the study's own, on loopback and behind a token, unless the user names one.
"""

from __future__ import annotations

import os
import pickle
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType
from typing import Any

from lchp.data.config import DatasetConfig
from lchp.data.scratch import scratch_folder
from lchp.errors import Refusal
from lchp.study.run.faults import last_line
from lchp.study.run.fitness import cluster_address, short_folder
from lchp.study.run.materials import Materials
from lchp.study.spec.load import Study
from lchp.surroundings import unproxied
from lchp.training.material import Runtime

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    # Ray's own choice is 15: beside any other work on the machine training then starves.
    "RAY_worker_niceness": "0",
    # Ray's own choice is a worker for each core, half a CPU second each, whatever a study needs.
    "RAY_prestart_worker_first_driver": "0",
    # Below `uv run` Ray would pack the folder that the user stands in, and start each worker by `uv run` in a copy.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
"""Ray sends no usage statistics, prints no tables, hands every epoch over at once and starts no worker before it is
needed; its workers have the priority and the Python of the command that started them."""
START_SECONDS = 300.0
"""Ray's own limits for the parts of a start are shorter; one that they do not end is ended here."""
LOOK_SECONDS, LOOKS = 4.0, 3
"""How often Ray's servers are called, and how many calls in a row are not answered where one is gone."""
SILENCE_SECONDS = 120.0
"""How long the process may say nothing: it does every few seconds, unless Ray does not let it go on."""
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a call of gRPC begins: HTTP/2 with settings that change nothing."""
_END_SECONDS = 20.0
_CODE = "from lchp.study.run.ray_process import main; main(int(sys.argv[1]), int(sys.argv[2]))"
_ERRORS = "errors.txt"
_ENVIRONMENT = "environment"
FINISHED = "finished"
"""What the driver answers where no job will come any more."""


class Unstarted(Exception):
    """Ray has not started, or the cluster cannot be joined; says why."""


class Lost(Exception):
    """Ray, or a part of it without which nothing goes on, is gone; says which."""


@dataclass(frozen=True)
class Setup:
    """What the process that talks to Ray is told at its start.

    ``folder`` is for Ray's session and Tune's files; ``resources`` are those of one trial, of which ``concurrent`` at
    most run at once; ``materials`` hold, pickled, what :class:`lchp.study.run.trainable.Session` wants, for workers
    alone read it.
    """

    folder: Path
    resources: Mapping[str, float]
    concurrent: int | None
    runtime: Runtime
    materials: Mapping[DatasetConfig, bytes]
    objective: str | None
    judged: bool = False


class Cluster:
    """A context in which the process that talks to Ray (:mod:`lchp.study.run.ray_process`) lives."""

    def __init__(self, study: Study, materials: Materials) -> None:
        self.study, self.materials = study, materials
        self.address = cluster_address()
        self.slots = 0
        """How many trials run at once; 0 until Ray has started."""
        self._servers: dict[str, str] = {}
        self._unanswered = 0
        self._silence = 0.0
        """Seconds of waiting since the process has said something."""
        self._stack = ExitStack()

    def __enter__(self) -> Cluster:
        self.folder = self._stack.enter_context(scratch_folder(scratch_parent()))
        self._requests, requests = Pipe()
        commands, self._commands = Pipe(duplex=False)
        ends = (requests.fileno(), commands.fileno())
        python, path = (sys.executable, sys.path) if self.address else plain_python(self.folder)
        # The path is this process's own: a folder that the user stands in may hold modules of any name.
        code = f"import sys; sys.path[:] = {path!r}; {_CODE}"
        with (self.folder / _ERRORS).open("wb") as errors:
            self._process = subprocess.Popen(
                [python, "-c", code, *map(str, ends), str(self.folder)],
                env=environment(own=self.address is None),
                pass_fds=ends,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,  # signals of a terminal end this process, which then ends that one
            )
        requests.close()
        commands.close()
        self._next_look = time.monotonic() + START_SECONDS
        with suppress(OSError):  # it has gone: the first message tells
            self._requests.send(self._setup())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Of somebody's cluster it takes its leave. One of its own has nothing more to do: it ends at once.
        if kind is None and self.address:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
        end_session(self._process.pid)
        self._process.wait()
        self._requests.close()
        self._commands.close()
        self._stack.close()

    def message(self, seconds: float) -> tuple[Any, ...] | None:
        """What the process says next: a name and arguments; None where it says nothing for so long.

        Raises:
            Unstarted, Lost: as their names say.
            Refusal: the cluster has too little for one trial.
        """
        try:
            message = self._requests.recv() if self._requests.poll(seconds) else None
        except (EOFError, OSError):
            raise self._gone() from None
        match message:
            case ("up", slots, servers):
                self.slots, self._servers, self._next_look = slots, servers, time.monotonic()
            case ("unstarted", reason):
                raise Unstarted(reason)
            case ("refused", reason):
                raise Refusal(reason)
            case ("crashed", trace):
                error = Lost(f"Ray has failed ({trace.strip().splitlines()[-1]})")
                error.add_note(trace)
                raise error
            case ("failed", *_):
                # The workers of a node that is gone fail first.
                self._look(LOOKS)
        self._silence = 0.0 if message else self._silence + seconds
        if self.slots and self._silence > SILENCE_SECONDS:
            raise Lost(f"the process that talks to Ray has said nothing for {SILENCE_SECONDS:g} s")
        self._look()
        return message

    def answer(self, answer: object) -> None:
        """Answer what the process has asked."""
        with suppress(OSError):  # as above
            self._requests.send(answer)

    def end(self, attempt: str) -> None:
        """End the worker of an attempt at once, whatever it does."""
        with suppress(OSError):
            self._commands.send(attempt)

    def _setup(self) -> Setup:
        study, runtime = self.study, self.materials.runtime
        materials = {dataset: pickle.dumps(part) for dataset, part in self.materials.by_dataset().items()}
        objective = study.search.objective.key if study.search else None
        needed, concurrent = resources(study, runtime.device), study.resources.concurrent
        judged = study.search is not None and study.search.pruner is not None
        return Setup(self.folder, needed, concurrent, runtime, materials, objective, judged)

    def _look(self, calls: int = 0) -> None:
        """See, from time to time or by so many calls now, that Ray's servers answer."""
        now = time.monotonic()
        if now < self._next_look and not calls:
            return
        if not self.slots:
            raise Unstarted(f"nothing has happened for {START_SECONDS:g} s")
        self._next_look = now + LOOK_SECONDS
        silent = self._silent()
        self._unanswered = self._unanswered + max(1, calls) if silent else 0
        if self._unanswered >= LOOKS:
            raise Lost(f"Ray's {silent} gone")

    def _silent(self) -> str:
        """The servers that do not answer, as the beginning of a sentence; empty where all do."""
        silent = [name for name, address in self._servers.items() if not answers(address)]
        return f"{' and '.join(silent)} {'is' if len(silent) == 1 else 'are'}" if silent else ""

    def _gone(self) -> Exception:
        """The process that talks to Ray has ended, which it does only by force or where it cannot be imported."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        code, silent = self._process.returncode, self._silent()
        if code is None or code >= 0:
            how = last_line((self.folder / _ERRORS).read_text(encoding="utf-8", errors="replace"))
        else:
            how = signal.Signals(-code).name
        reason = f"Ray's {silent} gone" if silent else f"the process that talks to Ray has ended ({how})"
        return Lost(reason) if self.slots else Unstarted(reason)


def scratch_parent() -> Path:
    """The folder in which those of Ray's sessions are made.

    Raises:
        Refusal: there is none whose path is short enough.
    """
    return Path(tempfile.gettempdir()) if cluster_address() else short_folder()


def plain_python(folder: Path) -> tuple[str, list[str]]:
    """This process's Python and the path of its modules, by a link in ``folder`` to its environment where the path of
    that has spaces or other letters that mean something to a shell: Ray gives it to one as it is.
    """
    python = Path(sys.executable)
    if shlex.quote(sys.executable) == sys.executable or not python.parent.parent.samefile(sys.prefix):
        return sys.executable, sys.path
    link = folder / _ENVIRONMENT
    link.symlink_to(sys.prefix)
    inside = f"{sys.prefix}{os.sep}"
    path = [str(link / place.removeprefix(inside)) if place.startswith(inside) else place for place in sys.path]
    return str(link / python.parent.name / python.name), path


def resources(study: Study, device: str) -> dict[str, float]:
    """What one trial takes, by Ray's names in small letters."""
    cpus = study.resources.cpus or study.base.compute.cpu_threads
    return {"cpu": float(cpus), "gpu": study.resources.gpus if device.startswith("cuda") else 0.0}


def environment(own: bool) -> dict[str, str]:
    """The environment of the process that talks to Ray, and of all that it starts; ``own`` is a cluster that serves
    this user on this machine alone.

    Ray takes the machine's outward address even where loopback is asked for, except where clusters are not supported:
    so they are not. It asks for a token by itself unless RAY_AUTH_MODE says otherwise, and would leave one in the home
    folder if the environment held none.
    """
    variables = {**QUIET, **os.environ, **unproxied(os.environ)}
    if own:
        variables.pop("RAY_AUTH_MODE", None)
        variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        if not variables.get("RAY_AUTH_TOKEN") and not variables.get("RAY_AUTH_TOKEN_PATH"):
            variables["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return variables


def answers(address: str) -> bool:
    """Whether a server of Ray answers at HOST:PORT; for one that is stopped the system would still take calls."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), LOOK_SECONDS) as call:
            call.settimeout(LOOK_SECONDS)
            call.sendall(_GREETING)
            call.recv(1)  # its own settings or, where it speaks TLS alone, that it does not understand
    except ConnectionResetError:
        return True
    except OSError:
        return False
    return True


def end_session(leader: int) -> None:
    """End all processes of the session that a process has begun, whoever has started them, and see that they end; the
    one that calls this is spared.
    """
    if leader != os.getpid():
        with suppress(OSError):
            os.killpg(leader, signal.SIGKILL)
    until = time.monotonic() + _END_SECONDS
    while (left := _session(leader) - {os.getpid()}) and time.monotonic() < until:
        for process in left:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


def _session(leader: int) -> set[int]:
    """The living processes of a session, where the system shows them in /proc."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, session, *_ = file.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(session) == leader and state not in "ZX":
                found.add(int(file.parent.name))
    return found
