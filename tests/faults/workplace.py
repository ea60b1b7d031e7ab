"""A folder in which a study runs, and the commands that run it there: with Ray as a user starts it, or without."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any

import lchp
from tests.faults.subjects import SUBJECTS
from tests.faults.zygote import ERR, EVENTS, GO, HIT, OUT
from tests.study.run.processes import descendants, lives
from tests.tracking.empty import put_empty_store

_MARK = "LCHP_FAULT"
LIMIT_SECONDS = 420.0
"""A command that takes longer hangs."""
_LEAVE_SECONDS = 30.0
"""How long what a command has started may outlive it."""
_ROOT = Path(__file__).parents[2]
_CODE = "from tests.faults.zygote import heed_signals; heed_signals(); from lchp.cli import main; main()"


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, negative for a signal, and what it said."""

    code: int
    out: str
    err: str
    events: int
    """Only without Ray, and where it ended by itself."""


class Zygote:
    """The process from which commands without Ray are forked."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def start(self, request: Mapping[str, Any]) -> int:
        """Fork a command; gives its process."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.zygote"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=_ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"},
            )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._answer())

    def wait(self) -> int:
        """The exit code of the command that was forked last."""
        return int(self._answer())

    def _answer(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline()


class Workplace:
    """The folder of one study, made from nothing or as a copy of another's. What its commands say lies beside it, their
    temporary files in a folder of their own, whose path is short.
    """

    def __init__(self, folder: Path, subject: str, zygote: Zygote) -> None:
        self.folder, self.subject, self.zygote = folder, SUBJECTS[subject], zygote
        self.said = folder.with_name(f"{folder.name}.said")
        self.out, self.err = self.said / OUT, self.said / ERR
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.process = 0
        self._ray: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Workplace:
        self.temporary = Path(mkdtemp(prefix="lf-", dir="/tmp"))
        self.said.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        for process in self.left_processes():
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(self.temporary, ignore_errors=True)

    def prepare(self, calm: Path, cache: Path) -> None:
        """Put in place what the study finds: the folder of the one before it, or caches and an empty tracking store."""
        if self.subject.before is not None:
            shutil.copytree(calm.parent / self.subject.before, self.folder, dirs_exist_ok=True)
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            if cache.exists():
                shutil.copytree(cache, self.folder / "cache", dirs_exist_ok=True)
            if self.subject.has_store:
                put_empty_store(self.folder)
        (self.folder / "study.yaml").write_text(self.subject.text, encoding="utf-8")

    @property
    def study(self) -> Path:
        """The study's own folder."""
        return self.folder / "out/tiny"

    def start(self, ray: bool, acts: Mapping[int | str, Mapping[str, Any]] | None = None) -> None:
        """Start the command; without Ray ``acts`` befall it at its events."""
        for name in (HIT, GO):
            (self.said / name).unlink(missing_ok=True)
        arguments = ["study", "run", "study.yaml", "--output", "out", "--cache", "cache", "--device", "cpu"]
        arguments += ["--tracking-uri", self.uri]
        left_out = {"RAY_ADDRESS", "PYTHONDONTWRITEBYTECODE", "MLFLOW_TRACKING_URI"}
        environment = {name: value for name, value in os.environ.items() if name not in left_out}
        environment |= {"TMPDIR": str(self.temporary), _MARK: str(self.folder), "OMP_NUM_THREADS": "1"}
        # torch's optimizers make this folder when they are imported, in TMPDIR unless it is named.
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(self.said / "torch")
        environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
        # Without a commit: the tree may change between two faults.
        environment["PATH"] = os.pathsep.join((str(without_git(self.said)), environment["PATH"]))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), environment.get("PYTHONPATH"))))
        if ray:
            with self.out.open("wb") as out, self.err.open("wb") as err:
                self._ray = subprocess.Popen(
                    [sys.executable, "-c", _CODE, *arguments],
                    cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                    start_new_session=True,
                )  # fmt: skip
            self.process = self._ray.pid
            return
        self._ray = None
        request = {"folder": str(self.folder), "said": str(self.said), "arguments": arguments, "acts": acts or {}}
        self.process = self.zygote.start({**request, "environment": environment})

    def runs(self) -> bool:
        """Whether the command has not ended."""
        return self._ray.poll() is None if self._ray else lives(self.process)

    def wait(self) -> Ended:
        """The end of the command; one that hangs is killed, and has the code 124."""
        until = time.monotonic() + LIMIT_SECONDS
        while self.runs() and time.monotonic() < until:
            time.sleep(0.05)
        hangs = self.runs()
        if hangs:
            os.kill(self.process, signal.SIGKILL)
        code = self._ray.wait() if self._ray else self.zygote.wait()
        counted = self.said / EVENTS
        events = int(counted.read_text(encoding="utf-8")) if counted.exists() else 0
        out, err = (file.read_text(encoding="utf-8", errors="replace") for file in (self.out, self.err))
        return Ended(124 if hangs else code, out, err, events)

    def lines(self) -> int:
        """How many lines the command has said."""
        return self.out.read_bytes().count(b"\n") if self.out.exists() else 0

    def find(self, name: str) -> int | None:
        """A living process of the command whose command line holds ``name``; the command itself for ``driver``."""
        if name == "driver":
            return self.process
        for process in sorted(descendants(self.process)):
            with suppress(OSError):
                if name.encode() in Path(f"/proc/{process}/cmdline").read_bytes() and lives(process):
                    return process
        return None

    def left_processes(self) -> list[int]:
        """The processes that commands of this folder have left, after the time that they may take to end."""
        until = time.monotonic() + _LEAVE_SECONDS
        while (found := self._marked()) and time.monotonic() < until:
            time.sleep(0.2)
        return found

    def _marked(self) -> list[int]:
        mark, found = f"{_MARK}={self.folder}\0".encode(), []
        for file in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if mark in file.read_bytes() + b"\0" and lives(int(file.parent.name)):
                    found.append(int(file.parent.name))
        return found


@cache
def without_git(folder: Path) -> Path:
    """A folder of programs, for the head of PATH, in which git knows of no repository."""
    git = folder / "programs/git"
    git.parent.mkdir(parents=True, exist_ok=True)
    git.write_text('#!/bin/sh\n[ "$1" = version ] && echo git version 2.39.5\n', encoding="utf-8")
    git.chmod(0o755)
    return git.parent


def code() -> str:
    """The digest of the package."""
    files = sorted(Path(lchp.__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def calm(root: Path, subject: str, zygote: Zygote) -> Path:
    """The folder in which nothing has befallen a study, which is run there the first time that it is asked for, and
    again when the code has changed.
    """
    folder = root / "calm" / subject
    made_by = folder.with_name(f"{subject}.said") / "code.txt"
    if not made_by.exists() or made_by.read_text(encoding="utf-8") != code():
        shutil.rmtree(folder, ignore_errors=True)
        before = SUBJECTS[subject].before
        if before is not None:
            calm(root, before, zygote)
        with Workplace(folder, subject, zygote) as place:
            place.prepare(folder, root / "cache")
            place.start(ray=False)
            ended = place.wait()
        assert ended.code == 0, f"the undisturbed {subject} ended with {ended.code}: {ended.out}{ended.err}"
        made_by.write_text(code(), encoding="utf-8")
        if not (root / "cache").exists():
            # Without the empty store: a new one is made by MLflow each time, and has as many events.
            shutil.copytree(folder / "cache", root / "cache", ignore=shutil.ignore_patterns("tracking"))
    return folder
