"""The files that a tracking store keeps with a run."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow import MlflowClient

_PARTS = ".artifact.uploading.*"
"""MLflow's temporary names in a folder of artifacts."""


def keep_files(mlflow_client: MlflowClient, run_id: str, files: Sequence[Path], below: str = "") -> None:
    """Store files with a run, in its folder ``below``, again if it has them. What a process that was killed has left
    half-written there is removed: none but the caller's writes to the run.
    """
    place = _folder(str(mlflow_client.get_run(run_id).info.artifact_uri))
    for part in (place / below).glob(_PARTS) if place else ():
        part.unlink(missing_ok=True)
    for file in files:
        mlflow_client.log_artifact(run_id, str(file), below or None)


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
