"""The real thing, as a user starts it: Ray, its workers and kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import tests.study.small as small
from lchp.study.run.ledger import read
from lchp.tracking.store import client

FAILING = "- {refinement.rate: 1e38, delta: 0.4, tau: 0.5}\n"
TEXT = small.TINY + "vary:\n- {delta: [0.4, 0.5], tau: 0.5, refinement.rate: 2e-3}\n" + FAILING
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


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


def start(folder: Path, text: str, cache: Path) -> subprocess.Popen[str]:
    """``lchp study run`` in a process of its own, its output as a pipe."""
    study = folder / "study.yaml"
    study.write_text(text, encoding="utf-8")
    code = "import sys; from lchp.cli import run; sys.exit(run(sys.argv[1:]))"
    options = ["--output", "out", "--cache", "cache", "--device", "cpu", "--tracking-uri", "sqlite:///mlflow.db"]
    # Every worker imports torch: compiled modules are kept, wherever they are not already.
    left_out = {"RAY_ADDRESS", "PYTHONDONTWRITEBYTECODE"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    return subprocess.Popen(
        [sys.executable, "-c", code, "study", "run", str(study), *options],
        cwd=folder,
        env=environment | {"PYTHONPYCACHEPREFIX": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def results(folder: Path) -> pd.DataFrame:
    """results.csv without the runs' ids."""
    return pd.read_csv(folder / "out/tiny/results.csv").drop(columns="run_id")


def test_study_run_killed_and_started_again_ends_as_if_never_killed(
    tmp_path: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, serial = tmp_path / "killed", tmp_path / "serial"
    killed.mkdir()
    serial.mkdir()
    first = start(killed, TEXT, compiled)
    assert first.stdout is not None
    seen = []
    for line in first.stdout:
        seen.append(line)
        if ": refinement 1" in line:
            first.send_signal(signal.SIGKILL)
            break
    first.stdout.close()
    assert first.wait() == -signal.SIGKILL, "".join(seen)
    states = [entry.state for entry in read(killed / "out/tiny")]
    assert "running" in states
    assert states.count("finished") < 2

    again = start(killed, TEXT, compiled)
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 1, said
    assert "FAILED: FloatingPointError" in said
    assert "Traceback" not in said
    assert [entry.state for entry in read(killed / "out/tiny")] == ["finished", "finished", "failed"]

    monkeypatch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
    assert small.run(small.load(serial, TEXT.replace(FAILING, "")), serial) == 0
    pd.testing.assert_frame_equal(results(killed), results(serial))
    door = client(f"sqlite:///{killed / 'mlflow.db'}")
    experiment = door.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = {run.info.run_name: run.info.status for run in door.search_runs([experiment.experiment_id])}
    assert sorted(runs.values()) == ["FAILED", "FAILED", "FINISHED", "FINISHED"]
    assert runs["tiny"] == "FAILED"


def test_study_run_search_takes_up_stale_suggestions_and_names_the_best(tmp_path: Path, compiled: Path) -> None:
    from lchp.study.run.optuna_search import ContinuedSearch, open_search

    loaded = small.load(tmp_path, SEARCH)
    assert loaded.search is not None
    (tmp_path / "out/tiny").mkdir(parents=True)
    planted = ContinuedSearch(loaded, tmp_path / "out/tiny", lambda *_: None).suggest("killed before it began")
    assert isinstance(planted, dict)
    started = time.monotonic()
    process = start(tmp_path, SEARCH, compiled)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert time.monotonic() - started < 300
    trials = open_search("tiny", tmp_path / "out/tiny").get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    assert trials[0].params == planted["trial"].varied
    assert planted["trial"].number == 0
    best = json.loads((tmp_path / "out/tiny/best.json").read_text(encoding="utf-8"))
    assert best["value"] == max(trial.value for trial in trials)
    assert f"best by lchp_r/val/gt_known: {best['name']}" in said
    frame = pd.read_csv(tmp_path / "out/tiny/results.csv")
    chosen = frame[(frame["run_id"] == best["run_id"]) & (frame["method"] == "lchp_r") & (frame["split"] == "val")]
    assert chosen[chosen["metric"] == "gt_known"]["value"].tolist() == [best["value"]]
    assert set(frame["augmentation"]) <= {"none", "scale+flip"}
