from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote

import pytest

from lchp.data.scratch import sweep_scratch
from lchp.tracking.models import keep_model
from lchp.tracking.runs import ensure_run, keep_config
from lchp.tracking.store import client, ensure_experiment


def _keep_config(store: str, run_id: str) -> None:
    keep_config(store, run_id, {"delta": 0.7})


def _keep_model(store: str, run_id: str) -> None:
    keep_model(store, run_id, _write, {"lchp": "0.3.0"}, "a.png")


def _write(out: Path) -> None:
    out.mkdir(parents=True)
    (out / "networks.pt").write_bytes(b"0" * 1000)


KEEP: Mapping[str, Callable[[str, str], None]] = {"config": _keep_config, "model": _keep_model}


def _killed(what: str, store: str, run_id: str, last: str) -> None:
    """Keep something with a run, and die where a file of that name would take its place there."""

    def kill(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.rename" and str(arguments[1]).endswith(f"/{last}") and ".uploading." in str(arguments[0]):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill)
    KEEP[what](store, run_id)


@pytest.mark.parametrize(("what", "last"), [("config", "config.json"), ("model", "MLmodel")])
def test_what_is_kept_by_a_process_that_is_killed_is_kept_by_the_next_and_nothing_is_left_of_the_first(
    what: str, last: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run_id = ensure_run(store, ensure_experiment(store, "killed"), what, what, None, {}, {})
    process = multiprocessing.get_context("spawn").Process(target=_killed, args=(what, store, run_id, last))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    folder = Path(unquote(client(store).get_run(run_id).info.artifact_uri.removeprefix("file://")))
    assert len(list(folder.rglob(".artifact.uploading.*"))) == 1
    assert len(list(tmp_path.iterdir())) == 1

    sweep_scratch()
    assert list(tmp_path.iterdir()) == [], "as a study does that starts"
    KEEP[what](store, run_id)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    model = {"model/MLmodel", "model/data/networks.pt", "model/input_example.json", "model/requirements.txt"}
    assert files == ({"config.json"} if what == "config" else model)
    assert list(tmp_path.iterdir()) == []
