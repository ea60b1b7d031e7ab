"""The model of a trial in its run: what ``mlflow.pyfunc.load_model("runs:/<id>/model")`` loads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import mlflow
import yaml

from lchp.data.files import write_text
from lchp.data.scratch import scratch_folder
from lchp.errors import shown
from lchp.store import model
from lchp.tracking.artifacts import keep_files, keep_folder
from lchp.tracking.store import client
from lchp.tracking.stored import existing_run

NAME = "model"
"""Of the folder of a run's artifacts that is its model."""
_DATA, _DESCRIPTION, _EXAMPLE = "data", "MLmodel", "input_example.json"
_REQUIRED = ("lchp", "torch", "torchvision", "mlflow")
_TYPES = {"label": "long", "class": "string"}


def keep_model(uri: str, run_id: str, write: Callable[[Path], None], versions: Mapping[str, str], example: str) -> None:
    """Store the model that ``write`` puts into a folder with a run, unless it has one.

    MLflow's own writer asks for what a model wants by loading it in another process, which takes longer than a small
    trial; its files are few.

    Args:
        versions: of the libraries that the trial was trained with.
        example: the path of an image in its dataset, as an example of what the model takes.
    """
    mlflow_client = client(uri)
    if f"{NAME}/{_DESCRIPTION}" in {file.path for file in mlflow_client.list_artifacts(run_id, NAME)}:
        return
    with scratch_folder() as scratch:
        folder = scratch / NAME
        write(folder / _DATA)
        wanted = [f"{name}=={versions[name]}" for name in _REQUIRED if name in versions]
        write_text(folder / "requirements.txt", "\n".join(wanted) + "\n")
        write_text(folder / _EXAMPLE, json.dumps([example]))
        keep_folder(mlflow_client, run_id, folder, NAME)
        # What says that there is a model goes last.
        write_text(folder / _DESCRIPTION, yaml.safe_dump(_described(versions)))
        keep_files(mlflow_client, run_id, [folder / _DESCRIPTION], NAME)


def _described(versions: Mapping[str, str]) -> dict[str, object]:
    columns = [{"name": name, "type": _TYPES.get(name, "double"), "required": True} for name in model.ANSWER]
    return {
        "artifact_path": NAME,
        "flavors": {
            "python_function": {
                "data": _DATA,
                "loader_module": model.__name__,
                "python_version": versions.get("python", ""),
            }
        },
        "metadata": {"input": "paths of images, or RGB arrays (height, width, 3) of uint8"},
        "mlflow_version": mlflow.__version__,
        "saved_input_example_info": {"artifact_path": _EXAMPLE, "type": "json_object", "serving_input_path": None},
        "signature": {"inputs": None, "outputs": json.dumps(columns), "params": None},
    }


def fetch_model(uri: str, run_id: str, out: Path) -> None:
    """Copy the model that a run keeps into the folder ``out``, which is there.

    Raises:
        ValueError: there is no such run, it was deleted, or it keeps no model.
    """
    mlflow_client, where = client(uri), f"run {run_id!r} in {shown(uri)}"
    existing_run(mlflow_client, uri, run_id)
    if f"{NAME}/{_DESCRIPTION}" not in {file.path for file in mlflow_client.list_artifacts(run_id, NAME)}:
        raise ValueError(
            f"{where} keeps no model: take the run of a finished trial, no search's, or name the trial's folder in the "
            "store"
        )
    fetched = Path(mlflow_client.download_artifacts(run_id, f"{NAME}/{_DATA}", str(out)))
    if fetched != out / _DATA:
        fetched.rename(out / _DATA)
