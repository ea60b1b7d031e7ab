"""The real thing, as a user starts it: Ray, its workers and kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

import tests.study.small as small
from lchp.study.run.ledger import read
from lchp.tracking.store import client
from tests.study.run.processes import descendants, lives

FAILING = "- {refinement.rate: 1e38, delta: 0.4, tau: 0.5}\n"
TEXT = (
    small.TINY.replace("refinement: {epochs: 2", "refinement: {epochs: 12")
    + "vary:\n- {delta: [0.4, 0.5], tau: 0.5, refinement.rate: 2e-3}\n"
    + FAILING
)
SEARCH = (
    small.TINY
    + """
search:
  trials: 3
  sampler: random
  seed: 5
  space:
    delta: {low: 0.3, high: 0.6}
    tau: {low: 0.0, high: 0.9}
    augmentation: [none, [scale, flip]]
"""
)


@pytest.fixture
def hostile(tmp_path: Path) -> dict[str, str]:
    """An environment that has failed: a temporary folder of 101 characters where Ray finds somebody's cluster, a proxy
    in front of loopback, authentication off.
    """
    long = tmp_path / "x"
    long = long.with_name("x" * (101 - len(str(tmp_path)) - 1))
    (long / "ray").mkdir(parents=True)
    # What `ray start --head` leaves, and what ray.init() then joins.
    (long / "ray/ray_current_cluster").write_text("127.0.0.1:9", encoding="utf-8")
    assert len(str(long)) == 101
    home = tmp_path / "home"
    home.mkdir()
    proxy = "http://127.0.0.1:9"
    return {"TMPDIR": str(long), "HOME": str(home), "http_proxy": proxy, "no_proxy": "", "RAY_AUTH_MODE": "disabled"}


def listening(pids: Iterable[int]) -> list[str]:
    """The addresses in hexadecimal at which processes listen."""
    sockets = set()
    for pid in pids:
        with suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    sockets.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in sockets]


def start(folder: Path, text: str, **more: str) -> subprocess.Popen[str]:
    """``lchp study run`` in a process of its own, its output as a pipe."""
    study = folder / "study.yaml"
    study.write_text(text, encoding="utf-8")
    code = "import sys; from lchp.cli import run; sys.exit(run(sys.argv[1:]))"
    options = ["--output", "out", "--cache", "cache", "--device", "cpu", "--tracking-uri", "sqlite:///mlflow.db"]
    # Every worker imports torch: what is compiled stays compiled.
    left_out = {"RAY_ADDRESS", "PYTHONDONTWRITEBYTECODE"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    return subprocess.Popen(
        [sys.executable, "-c", code, "study", "run", str(study), *options],
        cwd=folder,
        env=environment | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def results(folder: Path) -> pd.DataFrame:
    """results.csv without the runs' ids."""
    return pd.read_csv(folder / "out/tiny/results.csv").drop(columns="run_id")


def until(lines: Iterator[str], wanted: str) -> None:
    """Read lines up to the first that holds ``wanted``."""
    seen = []
    for line in lines:
        seen.append(line)
        if wanted in line:
            return
    raise AssertionError(f"{wanted!r} was not said:\n{''.join(seen)}")


def signalled(process: subprocess.Popen[str], number: signal.Signals, name: str) -> None:
    """Send a signal to the process that a run has started and whose command line holds ``name``."""
    for pid in descendants(process.pid):
        if name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, number)
            return
    raise AssertionError(f"no {name} runs")


def test_study_run_whose_ray_and_then_itself_are_killed_ends_as_if_nothing_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, serial = tmp_path / "killed", tmp_path / "serial"
    killed.mkdir()
    serial.mkdir()
    first = start(killed, TEXT + "resources: {concurrent: 1}\n")
    assert first.stdout is not None
    with first.stdout as lines:
        until(lines, ": refinement 1 ")
        # A worker that is stopped would hold its trial's lock for ever.
        signalled(first, signal.SIGSTOP, "Trainable")
        signalled(first, signal.SIGKILL, "raylet/raylet")
        until(lines, "Ray's raylet is gone: it is started again (1 of 3)")
        until(lines, "epochs reused")
        until(lines, ": refinement ")
        family = descendants(first.pid)
        signalled(first, signal.SIGSTOP, "Trainable")
        first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    states = [entry.state for entry in read(killed / "out/tiny")]
    assert "running" in states
    assert states.count("finished") < 2
    while any(map(lives, family)):
        time.sleep(0.1)

    again = start(killed, TEXT)
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 1, said
    assert "FAILED: FloatingPointError" in said
    assert "Traceback" not in said
    assert [entry.state for entry in read(killed / "out/tiny")] == ["finished", "finished", "failed"]

    monkeypatch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
    assert small.run(small.load(serial, TEXT.replace(FAILING, "")), serial) == 0
    pd.testing.assert_frame_equal(results(killed), results(serial))
    mlflow_client = client(f"sqlite:///{killed / 'mlflow.db'}")
    experiment = mlflow_client.get_experiment_by_name("tiny")
    assert experiment is not None
    of_trials = "tags.`lchp.kind` != 'initialization'"
    runs = {
        one.info.run_name: one.info.status for one in mlflow_client.search_runs([experiment.experiment_id], of_trials)
    }
    assert sorted(runs.values()) == ["FAILED", "FAILED", "FINISHED", "FINISHED"]
    assert runs["tiny"] == "FAILED"


def test_study_run_search_in_a_hostile_environment_takes_up_stale_suggestions_and_names_the_best(
    tmp_path: Path, hostile: dict[str, str]
) -> None:
    from lchp.study.run.optuna_search import ContinuedSearch
    from lchp.study.run.optuna_storage import open_search

    loaded = small.load(tmp_path, SEARCH)
    assert loaded.search is not None
    (tmp_path / "out/tiny").mkdir(parents=True)
    planted = ContinuedSearch(loaded, tmp_path / "out/tiny", lambda *_: None).next()
    assert planted is not None
    process = start(tmp_path, SEARCH, **hostile)
    assert process.stdout is not None
    first = next((line for line in process.stdout if ": initialization 1" in line), "")
    family = descendants(process.pid)
    addresses = listening(family)
    environments = {pid: Path(f"/proc/{pid}/environ").read_bytes() for pid in family}
    off = {pid for pid, words in environments.items() if f"RAY_AUTH_MODE={hostile['RAY_AUTH_MODE']}".encode() in words}
    guarded = [pid for pid, words in environments.items() if b"\0RAY_AUTH_MODE=token\0" in words]
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, first + said
    assert len(addresses) >= 4, "the driver, the head's server, its node and a worker"
    assert {address[-8:] for address in addresses} == {"0100007F"}, "127.0.0.1, alone or within IPv6"
    assert off == {process.pid}, "what the command starts is not told to do without authentication, as the user was"
    assert guarded, "and is told to ask for a token"
    assert {int(stat[16]) for stat in family.values()} == {os.nice(0)}, "a trial has the command's priority"
    assert not (Path(hostile["HOME"]) / ".ray").exists(), "no token is left"
    trials = open_search("tiny", tmp_path / "out/tiny").get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    assert trials[0].params == planted.varied
    assert planted.number == 0
    best = json.loads((tmp_path / "out/tiny/best.json").read_text(encoding="utf-8"))
    assert best["value"] == max(trial.value for trial in trials)
    assert f"best by lchp_r/val/gt_known: {best['name']}" in said
    frame = pd.read_csv(tmp_path / "out/tiny/results.csv")
    chosen = frame[(frame["run_id"] == best["run_id"]) & (frame["method"] == "lchp_r") & (frame["split"] == "val")]
    assert chosen[chosen["metric"] == "gt_known"]["value"].tolist() == [best["value"]]
    assert set(frame["augmentation"]) <= {"none", "scale+flip"}
