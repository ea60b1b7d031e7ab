"""The files that a tracking store keeps with a run."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow import MlflowClient

from lchp.data.files import write_json
from lchp.data.scratch import scratch_folder

_PARTS = ".artifact.uploading.*"
"""MLflow's temporary names in a folder of artifacts."""


def keep_files(mlflow_client: MlflowClient, run_id: str, files: Sequence[Path], below: str = "") -> None:
    """Store files with a run, in its folder ``below``, again if it has them. What a process that was killed has left
    half-written there is removed: none but the caller writes to the run.
    """
    _sweep(mlflow_client, run_id, below)
    for file in files:
        mlflow_client.log_artifact(run_id, str(file), below or None)


def keep_folder(mlflow_client: MlflowClient, run_id: str, folder: Path, below: str) -> None:
    """As :func:`keep_files`, of all that lies in a folder."""
    _sweep(mlflow_client, run_id, below)
    mlflow_client.log_artifacts(run_id, str(folder), below)


def keep_value(mlflow_client: MlflowClient, run_id: str, name: str, value: Any) -> None:
    """As :func:`keep_files`, of a JSON file of that name. MlflowClient.log_dict would leave a temporary folder of a
    process that is killed, which nobody removes.
    """
    with scratch_folder() as scratch:
        write_json(scratch / name, value)
        keep_files(mlflow_client, run_id, [scratch / name])


def _sweep(mlflow_client: MlflowClient, run_id: str, below: str) -> None:
    place = _folder(str(mlflow_client.get_run(run_id).info.artifact_uri))
    for part in (place / below).rglob(_PARTS) if place else ():
        part.unlink(missing_ok=True)


def is_kept(file: Path, sizes: Mapping[str, int | None], artifacts: str) -> bool:
    """Whether a run's artifacts, of these ``sizes`` by name, hold a file: the same bytes where they lie in a folder,
    else the same size.
    """
    if file.name not in sizes or sizes[file.name] not in (None, file.stat().st_size):
        return False
    place = _folder(artifacts)
    return place is None or filecmp.cmp(file, place / file.name, shallow=False)


def _folder(artifacts: str) -> Path | None:
    """Where artifacts at a URI lie in a folder; None where a server has them."""
    place = urlsplit(artifacts)
    return Path(unquote(place.path)) if place.scheme == "file" else None
