"""The real thing, as a user starts it: Ray and its workers; tests/faults has the kills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

import tests.study.small as small
from tests.study.run.processes import descendants

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
    in front of loopback, authentication off; in the folder a file of the user that is called as a module.
    """
    (tmp_path / "pandas.py").write_text("raise RuntimeError('of the user')\n", encoding="utf-8")
    long = tmp_path / "x"
    long = long.with_name("x" * (101 - len(str(tmp_path)) - 1))
    (long / "ray").mkdir(parents=True)
    # What `ray start --head` leaves, and what ray.init() then joins.
    (long / "ray/ray_current_cluster").write_text("127.0.0.1:9", encoding="utf-8")
    assert len(str(long)) == 101
    home = tmp_path / "home"
    home.mkdir()
    proxy = "http://127.0.0.1:9"
    return {
        "TMPDIR": str(long),
        "HOME": str(home),
        "http_proxy": proxy,
        "no_proxy": "",
        "RAY_AUTH_MODE": "disabled",
        # The command itself, as that of a wheel, has no folder of the user on its path.
        "PYTHONSAFEPATH": "1",
    }


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
    """``lchp study run`` in a process of its own, its output as a pipe; the process is a child of one that is called as
    ``uv run`` is, by which Ray knows that, and its Python lies in an environment whose path has a space.
    """
    (folder / "an environment").symlink_to(sys.prefix)
    python = folder / "an environment" / Path(sys.executable).relative_to(sys.prefix)
    (folder / "run").write_text('"$@"\nexit $?\n', encoding="utf-8")
    study = folder / "study.yaml"
    study.write_text(text, encoding="utf-8")
    code = "import sys; from lchp.cli import run; sys.exit(run(sys.argv[1:]))"
    options = ["--output", "out", "--cache", "cache", "--device", "cpu", "--tracking-uri", "sqlite:///mlflow.db"]
    # Every worker imports torch: what is compiled stays compiled.
    left_out = {"RAY_ADDRESS", "PYTHONDONTWRITEBYTECODE"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    return subprocess.Popen(
        ["uv", "run", str(python), "-c", code, "study", "run", str(study), *options],
        executable="/bin/sh",
        cwd=folder,
        env=environment | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


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
    command = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
    addresses = listening(family)
    environments = {pid: Path(f"/proc/{pid}/environ").read_bytes() for pid in family}
    off = {pid for pid, words in environments.items() if f"RAY_AUTH_MODE={hostile['RAY_AUTH_MODE']}".encode() in words}
    guarded = [pid for pid, words in environments.items() if b"\0RAY_AUTH_MODE=token\0" in words]
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, first + said
    assert len(addresses) >= 4, "the driver, the head's server, its node and a worker"
    assert {address[-8:] for address in addresses} == {"0100007F"}, "127.0.0.1, alone or within IPv6"
    assert off == {process.pid, command}, (
        "what the command starts is not told to do without authentication, as the user was"
    )
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
