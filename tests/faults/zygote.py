"""Commands that train without Ray, one after the other: this process imports what they import, once, and each is forked
from it. What a command does to files and to databases are its events; at one of them something may befall it.

It reads requests from standard input, a JSON object a line, and answers each with two: the process, and how it ended.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR
_FILES = ("os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link")
FILLER = ".filler"
"""The file that fills a disk."""
HIT, GO = ".hit", ".go"
"""What a command leaves at an event that something befalls it at, and may wait for then."""
OUT, ERR, EVENTS = "stdout.txt", "stderr.txt", "events.txt"
"""What it says, and how many events it had."""


class Events:
    """Counts what a command does below a folder, as an audit hook, and acts at events of certain numbers, or at
    those whose words fit a pattern.
    """

    def __init__(self, folder: Path, said: Path, acts: Mapping[int | str, Mapping[str, Any]]) -> None:
        self.folder, self.said, self.acts, self.count = folder, said, acts, 0
        self._acting = threading.local()

    def __call__(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "sqlite3.connect/handle":
            with suppress(sqlite3.Error):
                arguments[0].set_trace_callback(self._statement)
        elif name == "os.rename":
            self._change(name, *arguments[:2])
        elif name in _FILES or (name == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES):
            self._change(name, arguments[1 if name == "os.symlink" else 0])

    def _change(self, name: str, path: object, to: object = None) -> None:
        """A change of what lies at a path, which then may lie at another."""
        if isinstance(path, str | bytes | os.PathLike):
            place = Path(os.fsdecode(path)).absolute()
            if place.is_relative_to(self.folder):
                goal = f" to {Path(os.fsdecode(to)).name}" if isinstance(to, str | bytes | os.PathLike) else ""
                self._tick(f"{name} {place.relative_to(self.folder)}{goal}")

    def _statement(self, text: str) -> None:
        if not text.lstrip().upper().startswith(("SELECT", "PRAGMA", "--")):
            self._tick(" ".join(text.split()[:3]))

    def _tick(self, what: str) -> None:
        if getattr(self._acting, "now", False):
            return
        self.count += 1
        act = self.acts.get(self.count) or self._named(what)
        if act is not None:
            self._acting.now = True
            try:
                (self.said / HIT).write_text(what, encoding="utf-8")
                self._act(act)
            finally:
                self._acting.now = False

    def _named(self, what: str) -> Mapping[str, Any] | None:
        return next((act for at, act in self.acts.items() if isinstance(at, str) and fnmatch(what, at)), None)

    def _act(self, act: Mapping[str, Any]) -> None:
        if "signal" in act:
            os.kill(os.getpid(), act["signal"])
        if "limit" in act:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (act["limit"], resource.RLIM_INFINITY))
        if act.get("fill"):
            with suppress(OSError), (self.folder / FILLER).open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        if act.get("wait"):
            while not (self.said / GO).exists():
                time.sleep(0.01)


def heed_signals() -> None:
    """What the harness was started with may ignore some (nohup does); a command then would, too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _run(request: Mapping[str, Any]) -> None:
    """The command, in the process that was forked for it."""
    os.setsid()
    folder, said = Path(request["folder"]), Path(request["said"])
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    for number, name in ((1, OUT), (2, ERR)):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    events = Events(folder, said, {int(at) if at.isdigit() else at: act for at, act in request["acts"].items()})
    sys.addaudithook(events)
    heed_signals()
    sys.argv = ["lchp", *request["arguments"]]
    from lchp.cli import main

    code = 0
    try:
        main()
    except SystemExit as error:
        code = int(error.code or 0)
    with suppress(OSError):
        (said / EVENTS).write_text(str(events.count), encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def _serve() -> None:
    # What a command imports while it runs is imported here, so that it is forked with it.
    import lchp.reporting.html
    import lchp.study.run.ray_tune
    import lchp.study.run.search_repair
    import lchp.study.run.study
    import lchp.training.references
    import tests.study.small as small

    lchp.study.run.ray_tune.train = small.train_serially
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            try:
                _run(json.loads(line))
            finally:
                os._exit(70)
        print(process, file=answers, flush=True)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
