"""A tracking store without runs, put in place as a file: MLflow takes seconds to make one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from lchp.tracking.store import open_store


@cache
def _database() -> bytes:
    with TemporaryDirectory() as folder:
        open_store(None, Path(folder))
        return (Path(folder) / "mlflow.db").read_bytes()


def put_empty_store(folder: Path) -> Path:
    """Write what ``open_store`` makes in a folder where nothing was; gives the database."""
    database = folder / "mlflow.db"
    database.write_bytes(_database())
    return database
