from __future__ import annotations

from pathlib import Path

import pytest

from lchp.tracking.reports import fetch_file
from lchp.tracking.store import client, ensure_experiment

OWN = "tags.kind = 'study'"


def test_fetch_file_of_runs_that_keep_it_is_that_of_the_youngest_own_one(store: str, tmp_path: Path) -> None:
    mlflow_client, experiment = client(store), ensure_experiment(store, "fetched")
    runs = [("oldest", {"kind": "study"}), ("own", {"kind": "study"})]
    # MLflow puts runs without a tag behind those that have it.
    runs += [("child", {"kind": "trial", "mlflow.parentRunId": "own"})]
    for start, (name, tags) in enumerate(runs, 1):
        run_id = mlflow_client.create_run(experiment, start_time=start, tags=tags).info.run_id
        mlflow_client.log_text(run_id, name, "report.json")
        mlflow_client.set_terminated(run_id)
    file, run_id = fetch_file(store, "fetched", OWN, "report.json", tmp_path)
    assert file.read_text(encoding="utf-8") == "own"
    assert mlflow_client.get_run(run_id).data.tags["kind"] == "study"
    with pytest.raises(ValueError, match=r"the study 'fetched' in .* keeps no other\.json: an older version wrote it"):
        fetch_file(store, "fetched", OWN, "other.json", tmp_path)


@pytest.mark.parametrize(
    ("state", "error", "told"),
    [
        ("RUNNING", None, "it is running, and no trial of it was finished at its last end: wait"),
        ("FAILED", "no space left\nsecond line", r"it ended before a trial of it was finished \(no space left\): run"),
        ("FAILED", None, "it ended before a trial of it was finished: run"),
    ],
)
def test_fetch_file_of_a_study_that_has_not_ended_well_says_so_or_has_it_from_before(
    store: str, tmp_path: Path, state: str, error: str | None, told: str
) -> None:
    name = f"{state} {error is None}"
    mlflow_client, experiment = client(store), ensure_experiment(store, name)
    tags = {"kind": "study", **({"lchp.error": error} if error else {})}
    run_id = mlflow_client.create_run(experiment, tags=tags).info.run_id
    mlflow_client.update_run(run_id, status=state)
    with pytest.raises(ValueError, match=rf"keeps no report\.json: {told}"):
        fetch_file(store, name, OWN, "report.json", tmp_path)
    mlflow_client.log_text(run_id, "of before", "report.json")
    file, parent = fetch_file(store, name, OWN, "report.json", tmp_path)
    assert (file.read_text(encoding="utf-8"), parent) == ("of before", run_id)
