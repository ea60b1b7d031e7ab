"""What befalls a study, and the study that goes on after it until it is done."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.catalog import Fault
from tests.faults.outcome import differences, outcome
from tests.faults.workplace import Ended, Workplace, Zygote, calm
from tests.faults.zygote import EVENTS, FILLER, GO, HIT

_TRIES = 4
"""Commands after which a study must be done."""
_DISK = "size=300m"


@dataclass
class Verdict:
    """What came of a fault: ``codes`` are the exit codes of the commands, ``hit`` is what it met, ``problems`` say what
    is not as it should be.
    """

    codes: list[int] = field(default_factory=list)
    hit: str = ""
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def befall(fault: Fault, root: Path, zygote: Zygote) -> Verdict:
    """Let a fault befall its study, run that until it is done, and compare it with the one that nothing befell."""
    started, verdict, folder = time.monotonic(), Verdict(), root / str(fault.number)
    expected = calm(root, fault.subject, zygote)
    with Workplace(folder, fault.subject, zygote) as place, _disk(folder, fault.kind == "full"):
        if fault.kind == "damage":
            shutil.copytree(expected, folder, dirs_exist_ok=True)
        else:
            place.prepare(expected, root / "cache")
        KINDS[fault.kind](place, fault, expected, verdict)
        _go_on(place, fault, verdict)
        if left := place.left_processes():
            verdict.problems.append(f"{len(left)} processes are left")
        if files := sorted(file.name for file in place.temporary.iterdir()):
            verdict.problems.append(f"temporary files are left: {', '.join(files)}")
        verdict.problems += differences(outcome(expected), outcome(folder))
        verdict.seconds = time.monotonic() - started
    return verdict


@contextmanager
def _disk(folder: Path, wanted: bool) -> Iterator[None]:
    """A disk of its own at a folder, which root alone may mount; else the limit of files stands for its end."""
    if not wanted:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", _DISK, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _go_on(place: Workplace, fault: Fault, verdict: Verdict) -> None:
    """Run the same command until it is done; a remedy that it names is followed."""
    for _ in range(_TRIES):
        place.start(fault.ray)
        ended = place.wait()
        _judge(ended, (0, 1, 2), verdict)
        if ended.code == 0:
            return
        if not _remedied(place, ended):
            verdict.problems.append(f"exit code {ended.code}: {(ended.err or ended.out).strip().splitlines()[-1:]}")
    verdict.problems.append(f"not done after {_TRIES} commands")


def _remedied(place: Workplace, ended: Ended) -> bool:
    """Do what a refusal asks for: whether it asks for something."""
    if ended.code == 2 and "study.json" in ended.err and "delete it" in ended.err:
        (place.study / "study.json").unlink()
        return True
    database = place.folder / "mlflow.db"
    if str(database) in ended.err + ended.out and re.search("move (it|its file) away", ended.err + ended.out):
        database.rename(database.with_name("mlflow.db.damaged-by-hand"))
        return True
    return False


def _judge(ended: Ended, codes: Sequence[int], verdict: Verdict) -> None:
    """See that a command ended with one of these codes, and said nothing that is for developers."""
    verdict.codes.append(ended.code)
    said = ended.err + ended.out
    if ended.code not in codes:
        verdict.problems.append(f"exit code {ended.code}: {said.strip().splitlines()[-1:]}")
    for word in ("Traceback", "internal error", "*** SIG", "core dumped"):
        if word in said:
            verdict.problems.append(f"says {word!r}: {next(line for line in said.splitlines() if word in line)[:200]}")
    if len(ended.err.strip().splitlines()) > 8:
        verdict.problems.append(f"says {len(ended.err.splitlines())} lines on standard error")


def _acts(place: Workplace, fault: Fault, expected: Path) -> dict[int | str, Mapping[str, Any]]:
    """What befalls a command at its events: at a part of all that the undisturbed one had, or at one of these words."""
    total = int((expected.with_name(f"{expected.name}.said") / EVENTS).read_text(encoding="utf-8"))
    return {at if isinstance(at, str) else 1 + int(at * total): act for at, act in fault.parameters["acts"]}


def _hit(place: Workplace, verdict: Verdict) -> None:
    file = place.said / HIT
    verdict.hit = file.read_text(encoding="utf-8") if file.exists() else "(ended before)"


def _codes(signals: Sequence[int]) -> tuple[int, ...]:
    """The exit codes that signals to the command may end it with; it may have ended before they came."""
    return (0, *(-number if number == signal.SIGKILL else 128 + number for number in signals))


def at_events(place: Workplace, fault: Fault, expected: Path, verdict: Verdict) -> None:
    """Something befalls the command at its events; then a file may be damaged."""
    acts = _acts(place, fault, expected)
    place.start(ray=False, acts=acts)
    ended = place.wait()
    signals = [act["signal"] for act in acts.values() if "signal" in act]
    _judge(ended, _codes(signals) if signals else (0, 1, 2), verdict)
    _hit(place, verdict)
    if any(isinstance(at, str) for at in acts) and not (place.said / HIT).exists():
        verdict.problems.append(f"nothing happened at {', '.join(map(str, acts))}")
    if "pattern" in fault.parameters:
        harm(place, fault, verdict)


def full(place: Workplace, fault: Fault, expected: Path, verdict: Verdict) -> None:
    """The disk is full from an event on; afterwards there is room again."""
    at_events(place, fault, expected, verdict)
    if (place.folder / FILLER).exists():
        (place.folder / FILLER).unlink()


def damage(place: Workplace, fault: Fault, expected: Path, verdict: Verdict) -> None:
    """A file of a finished study is damaged; what nobody needs any more, because all is finished, is needed again."""
    harm(place, fault, verdict)


def harm(place: Workplace, fault: Fault, verdict: Verdict) -> None:
    """Damage a file, which the fault's seed draws of those that its pattern means."""
    drawn, way = random.Random(fault.seed), fault.parameters["way"]
    files = [
        file for file in sorted(place.folder.glob(fault.parameters["pattern"]))
        if file.is_file() and file.name != "study.yaml" and "cache" not in file.relative_to(place.folder).parts[:1]
    ]  # fmt: skip
    if not files:
        verdict.hit += ", nothing to damage"
        return
    file = drawn.choice(files)
    _need(place, file)
    data = bytearray(file.read_bytes())
    if way == "remove":
        file.unlink()
    elif way == "flip" and data:
        bit = drawn.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        way = f"flip bit {bit} of"
    else:
        file.write_bytes(data[: 0 if way == "empty" else drawn.randrange(max(1, len(data)))])
    verdict.hit = f"{verdict.hit}, then {way} {file.relative_to(place.folder)}".removeprefix(", then ")


def _need(place: Workplace, file: Path) -> None:
    """Take away what keeps a file from being needed: the trials of an initialization, and that of a milestone."""
    kind, name = file.parent.parent.name, file.parent.name
    trials = sorted((place.folder / "out/.store/trial").glob("*"))
    if kind == "initialization":
        cards = [json.loads(card.read_text(encoding="utf-8")) for card in place.study.glob("runs/*.json")]
        shared = [card["folder"] for card in cards if card["tags"].get("lchp.initialization") == name]
        shutil.rmtree(place.folder / "out/.store" / shared[0])
    elif kind == "milestones":
        for folder in (*trials, *(place.folder / "out/.store/initialization").glob("*")):
            shutil.rmtree(folder)


def locked(place: Workplace, fault: Fault, expected: Path, verdict: Verdict) -> None:
    """Another process holds the tracking store's database."""
    place.start(ray=False, acts=_acts(place, fault, expected))
    if _until_hit(place, verdict):
        with closing(sqlite3.connect(place.folder / "mlflow.db", timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            (place.said / GO).touch()
            until = time.monotonic() + (fault.parameters["seconds"] or float("inf"))
            while place.runs() and time.monotonic() < until:
                time.sleep(0.05)
            connection.execute("ROLLBACK")
    _judge(place.wait(), (0, 1), verdict)


def server(place: Workplace, fault: Fault, expected: Path, verdict: Verdict) -> None:
    """An MLflow server dies, and is there again after some time; all commands write to it."""
    database, place.uri = place.uri, "http://127.0.0.1:5917"
    serving = _serving(place, database)
    try:
        place.start(ray=False, acts=_acts(place, fault, expected))
        if _until_hit(place, verdict):
            _end_group(serving)
            (place.said / GO).touch()
            time.sleep(fault.parameters["seconds"])
            serving = _serving(place, database)
        _judge(place.wait(), (0, 1), verdict)
        if verdict.codes[-1] == 1:
            place.start(ray=False)
            _judge(place.wait(), (0,), verdict)
    finally:
        _end_group(serving)
        place.uri = database


def _serving(place: Workplace, database: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", "5917", "--workers", "1"]
    artifacts = (place.folder / "mlartifacts").as_uri()
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    serving = subprocess.Popen(
        [*command, "--backend-store-uri", database, "--default-artifact-root", artifacts],
        cwd=place.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with suppress(OSError):
            urllib.request.urlopen("http://127.0.0.1:5917/health", timeout=5).close()
            return serving
        time.sleep(0.2)
    _end_group(serving)
    raise TimeoutError("the MLflow server does not answer")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _until_hit(place: Workplace, verdict: Verdict) -> bool:
    """Wait until the command waits; whether it does."""
    while place.runs() and not (place.said / HIT).exists():
        time.sleep(0.01)
    _hit(place, verdict)
    return place.runs()


def in_steps(place: Workplace, fault: Fault, expected: Path, verdict: Verdict) -> None:
    """Signals to processes of a study that trains under Ray, one after the other."""
    place.start(ray=True)
    sent, said = [], 0
    for step in fault.parameters["steps"]:
        # Lines are counted from the last step on.
        while place.runs() and place.lines() < said + step["lines"]:
            time.sleep(0.02)
        time.sleep(step["delay"])
        target = place.find(step["target"])
        while target is None and place.runs():
            time.sleep(0.05)
            target = place.find(step["target"])
        if target is None or not place.runs():
            verdict.hit += " (ended before)"
            break
        with suppress(ProcessLookupError):
            os.kill(target, step["signal"])
        said = place.lines()
        last = place.out.read_text(encoding="utf-8", errors="replace").splitlines()[-1:] or [""]
        verdict.hit += f" {step['target']} after {said} lines ({last[0][:60]})"
        if step["target"] == "driver":
            sent.append(step["signal"])
    _judge(place.wait(), _codes(sent) if sent else (0,), verdict)


KINDS: Mapping[str, Callable[[Workplace, Fault, Path, Verdict], None]] = {
    "acts": at_events,
    "full": full,
    "damage": damage,
    "locked": locked,
    "server": server,
    "steps": in_steps,
}
