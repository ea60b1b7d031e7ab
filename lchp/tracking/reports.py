"""What the report of a study is made of, read back from a tracking store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from mlflow.entities import Run, ViewType

from lchp.errors import shown
from lchp.tracking.runs import ERROR_TAG, KEY_TAG, find_run
from lchp.tracking.store import client
from lchp.tracking.stored import read_run


def has_study(uri: str, name: str) -> bool:
    """Whether the store holds a study of that name."""
    return client(uri).get_experiment_by_name(name) is not None


def fetch_file(uri: str, study: str, own: str, name: str, folder: Path) -> tuple[Path, str]:
    """Copy the artifact of that name of the study's own run into ``folder``; of several runs that the filter ``own``
    finds, the youngest has it. A study that is run again, or of which a trial failed, has it from before. Gives the
    copy, and the id of the run.

    Raises:
        ValueError: the store holds no such study, or none that keeps it: says why.
    """
    mlflow_client = client(uri)
    experiment = mlflow_client.get_experiment_by_name(study)
    if experiment is None:
        known = ", ".join(sorted(one.name for one in mlflow_client.search_experiments(ViewType.ACTIVE_ONLY)))
        raise ValueError(f"{shown(uri)} holds no study {study!r}: choose one of {known}")
    runs = mlflow_client.search_runs([experiment.experiment_id], own, order_by=["attributes.start_time DESC"])
    for run in runs:
        if name in {file.path for file in mlflow_client.list_artifacts(run.info.run_id)}:
            return Path(mlflow_client.download_artifacts(run.info.run_id, name, str(folder))), str(run.info.run_id)
    raise ValueError(f"the study {study!r} in {shown(uri)} keeps no {name}: {_lacking(runs)}")


def _lacking(runs: Sequence[Run]) -> str:
    """Why none of a study's own runs, the youngest first, keeps what its report is made of, and the remedy."""
    state = runs[0].info.status if runs else "FINISHED"
    if state == "RUNNING":
        return "it is running, and no trial of it was finished at its last end: wait for its end, or see `lchp ui`"
    if state == "FAILED":
        reason = runs[0].data.tags.get(ERROR_TAG, "").strip().splitlines()[:1]
        return f"it ended before a trial of it was finished{f' ({reason[0]})' if reason else ''}: run the study again"
    return "an older version wrote it: run the study again, which writes it"


def fetch_records(uri: str, parent: str, places: Iterable[tuple[str, str]], folder: Path) -> None:
    """Copy the records of trials to their places below ``folder``; ``places`` has each with the id of its run or,
    where that is not known, the key. The runs are those below the study's own, whose id is ``parent``.

    Raises:
        ValueError: the store lacks one, or an artifact is damaged.
    """
    own = client(uri).get_run(parent)
    for place, run in places:
        found = find_run(uri, own.info.experiment_id, Path(place).name, own.data.tags[KEY_TAG], parent)
        read_run(uri, found or run, folder / place)
