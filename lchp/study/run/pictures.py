"""The picture of a finished trial: its predicted boxes on test images."""

from __future__ import annotations

from pathlib import Path

from lchp.reporting.predictions import draw_predictions
from lchp.store.exchange import leave
from lchp.training.material import Material


def keep_picture(material: Material, folder: Path) -> None:
    """Draw the picture into the folder of a finished trial, if it is not there or damaged."""
    trial = material.stage(folder)
    if trial.picture is not None:
        return
    boxes = material.pixel_boxes(material.splits.test)
    with trial.drawing() as picture:
        draw_predictions(trial.per_image(), material.dataset.root, picture, truth=boxes)
    leave(trial)
