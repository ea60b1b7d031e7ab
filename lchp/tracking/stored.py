"""What a tracking store holds of a finished trial, read back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from lchp.errors import shown
from lchp.store.checks import Damaged
from lchp.store.folder import StageFolder, lacking
from lchp.tracking.runs import KEY_TAG, LISTS, PARENT_TAG, UNKNOWN
from lchp.tracking.store import client


@dataclass(frozen=True)
class StoredRun:
    """A finished trial as the store holds it.

    ``scores`` is the artifact scores.json; ``metrics`` are the last values that the store itself shows, of all metrics.
    """

    run_id: str
    experiment: str
    name: str
    tags: dict[str, str]
    params: dict[str, str]
    scores: dict[str, float]
    metrics: dict[str, float]
    folder: Path


def existing_run(mlflow_client: MlflowClient, uri: str, run_id: str) -> Any:
    """MLflow's record of a run.

    Raises:
        ValueError: there is no such run, or it was deleted; names the remedy.
    """
    where = f"run {run_id!r} in {shown(uri)}"
    try:
        run = mlflow_client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in UNKNOWN:
            raise
        raise ValueError(
            f"there is no {where}: take an id from the runs table (`lchp ui`) or from results.csv, or name the store "
            "that has it with --tracking-uri"
        ) from error
    if run.info.lifecycle_stage == LifecycleStage.DELETED:
        raise ValueError(f"{where} was deleted: restore it in the MLflow UI, or take another run")
    return run


def _finished_trial(mlflow_client: MlflowClient, uri: str, run_id: str) -> Any:
    run, where = existing_run(mlflow_client, uri, run_id), f"run {run_id!r} in {shown(uri)}"
    if KEY_TAG not in run.data.tags:
        raise ValueError(f"{where} is no trial of lchp (it has no tag {KEY_TAG}): take a nested run of a study")
    missing = lacking([file.path for file in mlflow_client.list_artifacts(run_id)])
    if missing:
        raise ValueError(
            f"{where} is no finished trial, its artifacts lack {', '.join(missing)}: take the finished run of a "
            "trial, or run the study again to complete it"
        )
    return run


def read_run(uri: str, run_id: str, folder: Path) -> StoredRun:
    """What the store holds of a finished trial; its artifacts are copied into ``folder``, which is made.

    Raises:
        ValueError: no such run, a deleted one, none of a trial, or one whose artifacts are not complete or damaged.
    """
    mlflow_client = client(uri)
    run = _finished_trial(mlflow_client, uri, run_id)
    folder.mkdir(parents=True, exist_ok=True)
    for file in mlflow_client.list_artifacts(run_id):
        # Its model is no record, and a hundred times as large.
        if not file.is_dir:
            mlflow_client.download_artifacts(run_id, file.path, str(folder))
    trial = StageFolder(folder)
    try:
        trial.check_records()
    except Damaged as error:
        raise ValueError(
            f"run {run_id!r} in {shown(uri)}: its artifact {error.fault}: run the study again, which stores it again"
        ) from error
    return StoredRun(
        run_id=run_id,
        experiment=str(mlflow_client.get_experiment(run.info.experiment_id).name),
        name=str(run.info.run_name),
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        scores={name: float(value) for name, value in trial.scores().items()},
        metrics=dict(run.data.metrics),
        folder=folder,
    )


def fetch_list(uri: str, run: StoredRun, name: str) -> Path | None:
    """Copy the list of images of that file name, which the run of a study keeps for the runs below it; None where no
    run above this one has it.
    """
    mlflow_client = client(uri)
    parent = run.tags.get(PARENT_TAG)
    while parent is not None:
        try:
            above = mlflow_client.get_run(parent)
        except MlflowException as error:
            if error.error_code not in UNKNOWN:
                raise
            return None
        kept = f"{LISTS}/{name}"
        if kept in {file.path for file in mlflow_client.list_artifacts(parent, LISTS)}:
            return Path(mlflow_client.download_artifacts(parent, kept, str(run.folder.parent)))
        parent = above.data.tags.get(PARENT_TAG)
    return None
