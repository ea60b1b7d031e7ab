"""The picture of a finished trial: its predicted boxes on test images."""

from __future__ import annotations

import io
from pathlib import Path

from lchp.store.folder import StageFolder
from lchp.store.per_image import CORNERS, PATH
from lchp.training.material import Material


def draw_predictions(material: Material, folder: Path) -> None:
    """Draw the picture into the folder of a finished trial, if it is not there or damaged."""
    trial = StageFolder(folder)
    if trial.picture is not None:
        return
    import pandas as pd

    from lchp.reporting.figures import predictions

    boxes = material.pixel_boxes(material.splits.test)
    rows = [(path, *box) for path, several in (boxes or {}).items() for box in several]
    truth = pd.DataFrame(rows, columns=[PATH, *CORNERS]) if rows else None
    with trial.drawing() as picture:
        predictions(pd.read_csv(io.StringIO(trial.per_image_text())), material.dataset.root, picture, truth=truth)
