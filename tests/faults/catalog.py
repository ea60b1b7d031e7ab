"""The faults, in a list that a seed draws: each is a record, which can be repeated alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

WAYS = ("flip", "cut", "empty", "remove")
"""What may happen to a file."""
STORE = ("config.json", "environment.json", "history.json", "scores.json", "per_image.csv", "selection.csv",
         "dataset.json", "networks.pt", "manifest.json")  # fmt: skip
FILES: Mapping[str, tuple[str, ...]] = {
    "grid": (
        "mlflow.db",
        *(f"out/tiny/{name}" for name in (
            "study.json", "trials.json", "runs/study-*.json", "runs/[!s]*.json", "log.txt", "results.csv",
            "table.csv", "table.md", "table.tex", "report.html", "training.png", ".lock")),
        *(f"out/.store/trial/*/{name}" for name in (*STORE, "predictions.png", ".lock")),
        *(f"out/.store/initialization/*/{name}" for name in STORE),
        *(f"out/.store/reference/*/{name}" for name in STORE),
        "out/.store/milestones/*/*.pt",
        "out/.store/datasets/*.csv",
        "mlartifacts/tiny/*/artifacts/scores.json",
        "mlartifacts/tiny/*/artifacts/datasets/*.csv",
    ),
    "search": ("mlflow.db", "out/tiny/optuna.journal", "out/tiny/trials.json", "out/tiny/best.json"),
}  # fmt: skip
"""Patterns of files that may be damaged, by study."""
DATABASE_FLIPS = 8
UPLOADS = {
    "grid": ("config.json", "networks.pt", "requirements.txt", "MLmodel", "scores.json", "report.html"),
    "search": ("config.json", "best.json"),
}
"""Files of runs, by study."""
UNLOCKED = {"grid": ("out/.store/datasets/*.csv", "out/.store/datasets/*.json"), "fresh": ("cache/tracking/*",)}
"""Temporary files in folders that nobody holds as a whole, by study."""


@dataclass(frozen=True)
class Fault:
    """One fault: ``kind`` is a function of ``tests.faults.inflicted``, ``parameters`` are what it takes."""

    number: int
    name: str
    kind: str
    subject: str
    ray: bool
    seed: int
    parameters: Mapping[str, Any]


_Drawn = tuple[str, str, str, bool, Mapping[str, Any]]


def catalog(seed: int = 0) -> list[Fault]:
    """All faults of a seed, the cheap ones first."""
    random = Random(seed)
    drawn = [*_kills(random), *_signals(random), *_full(random), *_damages(), *_later(random), *_away(random)]
    drawn += _with_ray(random)
    # Last, for the numbers of those before are written down elsewhere.
    drawn += [*_uploads(), *_unlocked()]
    return [
        Fault(number, name, kind, subject, ray, random.randrange(1 << 30), parameters)
        for number, (name, kind, subject, ray, parameters) in enumerate(drawn)
    ]


def _kills(random: Random) -> Iterator[_Drawn]:
    """SIGKILL at an event, spread over all that a command does."""
    for subject, count in (("grid", 24), ("search", 20), ("grown", 10), ("fresh", 6)):
        for part in range(count):
            at = (part + random.random()) / count
            yield f"{subject}: killed", "acts", subject, False, {"acts": [[at, {"signal": signal.SIGKILL}]]}


def _signals(random: Random) -> Iterator[_Drawn]:
    """A signal that asks for the end, once or twice."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        for times in (1, 1, 2):
            subject, at = random.choice(("grid", "search")), random.random()
            acts = [[at, {"signal": number}], [at + 0.005, {"signal": number}]][:times]
            yield f"{subject}: {number.name} {times}x", "acts", subject, False, {"acts": acts}


def _full(random: Random) -> Iterator[_Drawn]:
    """A disk that is full, or a largest size of files, from an event on."""
    for part in range(8):
        subject = ("grid", "search")[part % 2]
        yield (
            f"{subject}: full disk",
            "full",
            subject,
            False,
            {"acts": [[(part + random.random()) / 8, {"fill": True}]]},
        )
    for part in range(4):
        limit = random.choice((1 << 14, 1 << 16, 1 << 18))
        acts = [[(part + random.random()) / 4, {"limit": limit}]]
        yield f"grid: no file beyond {limit} bytes", "acts", "grid", False, {"acts": acts}


def _damages() -> Iterator[_Drawn]:
    """Every file of a finished study, in every way."""
    for subject, patterns in FILES.items():
        for pattern in patterns:
            for way in WAYS:
                for _ in range(DATABASE_FLIPS if (pattern, way) == ("mlflow.db", "flip") else 1):
                    name = f"{subject}: {way} {pattern.removeprefix('out/')}"
                    yield name, "damage", subject, False, {"pattern": pattern, "way": way}


def _later(random: Random) -> Iterator[_Drawn]:
    """A kill, and then any file of what it left damaged."""
    for part in range(24):
        subject, way = ("grid", "search")[part % 2], WAYS[part // 2 % 4]
        acts = [[random.random(), {"signal": signal.SIGKILL}]]
        pattern = "out/.store/*/*/checkpoint.pt" if part % 3 == 0 else "**/*"
        parameters = {"acts": acts, "pattern": pattern, "way": way}
        yield f"{subject}: killed, then {way} {pattern}", "acts", subject, False, parameters


def _away(random: Random) -> Iterator[_Drawn]:
    """A tracking store that is locked, or away, for some time or until the end."""
    for seconds in (3.0, None):
        acts = [[random.random() * 0.6, {"wait": True}]]
        until = "for the rest" if seconds is None else f"for {seconds:g} s"
        yield f"grid: store locked {until}", "locked", "grid", False, {"acts": acts, "seconds": seconds}
    for _ in range(2):
        acts = [[random.random() * 0.6, {"wait": True}]]
        yield "grid: server killed, and back", "server", "grid", False, {"acts": acts, "seconds": 3.0}


def _uploads() -> Iterator[_Drawn]:
    """SIGKILL while a file of that name is stored with a run, from a temporary folder or another."""
    for subject, files in UPLOADS.items():
        for file in files:
            acts = [[f"* mlartifacts/*{file}", {"signal": signal.SIGKILL}]]
            yield f"{subject}: killed while {file} is stored", "acts", subject, False, {"acts": acts}


def _unlocked() -> Iterator[_Drawn]:
    """SIGKILL before a file of that name takes its place, in a folder that nobody sweeps."""
    for subject, patterns in UNLOCKED.items():
        for pattern in patterns:
            acts = [[f"os.rename {pattern} to *", {"signal": signal.SIGKILL}]]
            yield f"{subject}: killed before {pattern} is in place", "acts", subject, False, {"acts": acts}


def _step(random: Random, target: str, number: signal.Signals, first: int, last: int) -> dict[str, Any]:
    """A signal to a process, so long after so many lines were said."""
    delay = random.uniform(1.5, 8.0) if last == 0 else random.uniform(0.0, 1.5)
    return {"lines": random.randint(first, last), "delay": round(delay, 2), "target": target, "signal": number}


def _with_ray(random: Random) -> Iterator[_Drawn]:
    """What befalls the processes of a study that trains under Ray."""
    kill, lines = signal.SIGKILL, {"grid": 30, "search": 18}
    for target, count in (("driver", 6), ("Trainable", 5), ("raylet/raylet", 4), ("gcs_server", 4), ("ray_process", 3)):
        for part in range(count):
            subject = ("grid", "search")[part % 2]
            # The first meets it while it starts.
            steps = [_step(random, target, kill, int(part > 0), lines[subject] * (part > 0))]
            yield f"{subject} in Ray: {target} killed", "steps", subject, True, {"steps": steps}
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        for times in (1, 2):
            step = _step(random, "driver", number, 0, 25)
            steps = [step, {**step, "delay": round(random.uniform(0.0, 0.5), 2)}][:times]
            yield f"grid in Ray: {number.name} {times}x", "steps", "grid", True, {"steps": steps}
    for target in ("Trainable", "raylet/raylet"):
        steps = [_step(random, target, signal.SIGSTOP, 2, 20)]
        yield f"grid in Ray: {target} stopped", "steps", "grid", True, {"steps": steps}
    # What a raylet that is gone leaves stopped, and then the driver itself.
    steps = [
        {"lines": 4, "delay": 0.2, "target": "Trainable", "signal": signal.SIGSTOP},
        {"lines": 4, "delay": 0.0, "target": "raylet/raylet", "signal": kill},
        _step(random, "Trainable", signal.SIGSTOP, 8, 10),
        {"lines": 0, "delay": 0.0, "target": "driver", "signal": kill},
    ]
    yield "grid in Ray: raylet, and then the driver killed", "steps", "grid", True, {"steps": steps}
