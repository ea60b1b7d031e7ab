"""The picture of a finished trial: its predicted boxes on test images."""

from __future__ import annotations

from pathlib import Path

from lchp.training.material import Material

PICTURE = "predictions.png"


def draw_predictions(material: Material, folder: Path) -> None:
    """Draw ``predictions.png`` into the folder of a finished trial, if it is not there."""
    if (folder / PICTURE).exists():
        return
    import pandas as pd

    from lchp.reporting.figures import predictions

    boxes = material.pixel_boxes(material.splits.test)
    rows = [(path, *box) for path, several in (boxes or {}).items() for box in several]
    truth = pd.DataFrame(rows, columns=["path", "x1", "y1", "x2", "y2"]) if rows else None
    predictions(pd.read_csv(folder / "per_image.csv"), material.dataset.root, folder / PICTURE, truth=truth)
