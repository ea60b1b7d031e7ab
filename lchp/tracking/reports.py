"""What the report of a study is made of, read back from a tracking store."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mlflow.entities import ViewType

from lchp.errors import shown
from lchp.tracking.runs import KEY_TAG, find_run
from lchp.tracking.store import client
from lchp.tracking.stored import read_run


def fetch_file(uri: str, study: str, own: str, name: str, folder: Path) -> tuple[Path, str]:
    """Copy the artifact of that name of the study's own run into ``folder``; of several runs that the filter ``own``
    finds, the youngest has it. Gives the copy, and the id of the run.

    Raises:
        ValueError: the store holds no such study, or none that keeps it.
    """
    mlflow_client = client(uri)
    experiment = mlflow_client.get_experiment_by_name(study)
    if experiment is None:
        known = ", ".join(sorted(one.name for one in mlflow_client.search_experiments(ViewType.ACTIVE_ONLY)))
        raise ValueError(f"{shown(uri)} holds no study {study!r}: choose one of {known}")
    runs = mlflow_client.search_runs(
        [experiment.experiment_id],
        f"attributes.status = 'FINISHED' AND {own}",
        order_by=["attributes.start_time DESC"],
    )
    for run in runs:
        if name in {file.path for file in mlflow_client.list_artifacts(run.info.run_id)}:
            return Path(mlflow_client.download_artifacts(run.info.run_id, name, str(folder))), str(run.info.run_id)
    raise ValueError(
        f"the study {study!r} in {shown(uri)} keeps no {name}: an older version wrote it: run the study again, which "
        "writes it"
    )


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
