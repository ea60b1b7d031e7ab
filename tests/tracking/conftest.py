from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lchp.tracking.store import open_store

from .empty import put_empty_store

HISTORY = [
    {
        "stage": stage,
        "epoch": epoch,
        "step": step,
        "metrics": {"train/loss": 1.0 / step, "lchp_i/val/gt_known": value},
        "seconds": 0.5 * step,
        "reused": stage == "initialization",
    }
    for stage, epoch, step, value in [
        ("initialization", 1, 1, 0.25),
        ("initialization", 2, 2, 0.625),
        ("refinement", 1, 3, 0.5),
        ("refinement", 2, 4, 0.5),
    ]
]
SCORES = {"lchp_i/val/gt_known": 0.5, "lchp_i/test/gt_known": 1 / 3, "whole_image/test/mean_iou": 0.1 + 0.2}


PICTURE = b"\x89PNG\r\n\x1a\n...IEND\xaeB`\x82"
"""As much of a PNG file as is looked at."""


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One real SQLite store for all tests."""
    folder = tmp_path_factory.mktemp("store")
    put_empty_store(folder)
    return open_store(None, folder)


@pytest.fixture
def finished(tmp_path: Path) -> Callable[[], Path]:
    """Writes the folder of a finished trial and gives it."""

    def write() -> Path:
        folder = tmp_path / "trial"
        folder.mkdir()
        for name, value in {
            "config.json": {"seed": 3, "delta": 0.7},
            "scores.json": SCORES,
            "history.json": HISTORY,
            "environment.json": {"commit": "abc", "versions": {"lchp": "0.1.0"}},
        }.items():
            (folder / name).write_text(json.dumps(value), encoding="utf-8")
        (folder / "per_image.csv").write_text("path,label\na.png,0\n", encoding="utf-8")
        (folder / "dataset.csv").write_text("path,sha256\na.png,00\n", encoding="utf-8")
        (folder / "predictions.png").write_bytes(PICTURE)
        return folder

    return write
