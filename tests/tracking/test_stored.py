from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from lchp.tracking.runs import ensure_run, is_complete, log_result
from lchp.tracking.store import client, ensure_experiment
from lchp.tracking.stored import read_run


def _run(store: str, experiment: str, key: str) -> str:
    return ensure_run(store, ensure_experiment(store, experiment), f"run {key}", key, None, {"delta": 0.7}, {})


@pytest.mark.parametrize("name", ["scores.json", "history.json", "per_image.csv", "dataset.csv"])
def test_read_run_damaged_artifact_is_named_with_the_remedy(
    store: str, finished: Callable[[], Path], tmp_path: Path, name: str
) -> None:
    run_id = _run(store, f"damaged {name}", "trial")
    log_result(store, run_id, finished())
    file = Path(unquote(client(store).get_run(run_id).info.artifact_uri.removeprefix("file://"))) / name
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ValueError, match=rf"run '{run_id}' in .*: its artifact {name} .*: run the study again"):
        read_run(store, run_id, tmp_path / "copy")


@pytest.mark.parametrize("run_id", ["0" * 32, "no-such-run"])
def test_read_run_unknown_id_is_refused_with_remedy(store: str, tmp_path: Path, run_id: str) -> None:
    assert not is_complete(store, run_id, tmp_path)
    with pytest.raises(ValueError, match=f"there is no run '{run_id}'.*--tracking-uri"):
        read_run(store, run_id, tmp_path / "copy")


def test_read_run_foreign_deleted_and_parent_runs_are_refused(store: str, tmp_path: Path) -> None:
    experiment = ensure_experiment(store, "foreign")
    foreign = client(store).create_run(experiment).info.run_id
    with pytest.raises(ValueError, match=r"is no trial of lchp"):
        read_run(store, foreign, tmp_path / "copy")
    client(store).delete_run(foreign)
    with pytest.raises(ValueError, match=r"was deleted"):
        read_run(store, foreign, tmp_path / "copy")
    with pytest.raises(ValueError, match=r"is no finished trial.*config\.json.*take the finished run of a trial"):
        read_run(store, _run(store, "foreign", "study"), tmp_path / "copy")
