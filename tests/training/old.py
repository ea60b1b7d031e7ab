"""Folders of stages as version 0.1 left them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path


def as_of_old(folder: Path, store: Path) -> None:
    """Takes from a stage's folder in ``store`` what came later: the manifest, and the digest in the place of a list of
    its own.
    """
    digest = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["sha256"]
    shutil.copy(store / "datasets" / f"{digest}.csv", folder / "dataset.csv")
    (folder / "dataset.json").unlink()
    (folder / "manifest.json").unlink()
