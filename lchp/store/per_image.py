"""The columns of per_image.csv: one row an image, split and method, boxes in pixels of the original image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lchp.data.records import PixelBox

PATH, LABEL, SPLIT, METHOD = "path", "label", "split", "method"
CORNERS = ("x1", "y1", "x2", "y2")
"""Of the predicted box."""
IOU = "iou"
"""With the true box that fits best; empty where none is known."""
TOP1, TOP5 = "top1", "top5"
"""Whether the label is the likeliest class, among the likeliest five: 1 or 0; empty where nothing was classified."""

COLUMNS = (PATH, LABEL, SPLIT, METHOD, *CORNERS, IOU, TOP1, TOP5)
KEY = (PATH, SPLIT, METHOD)
"""What no two rows have in common."""


def box_of(row: Mapping[str, str]) -> PixelBox:
    """The predicted box of a row of per_image.csv, in pixels."""
    x1, y1, x2, y2 = (float(row[corner]) for corner in CORNERS)
    return x1, y1, x2, y2


def box_iou(a: PixelBox, b: PixelBox) -> float:
    """The IoU of two boxes; 0 of two without area."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) for box in (a, b)]
    union = sum(areas) - width * height
    return width * height / union if union else 0.0
