"""The columns of per_image.csv: one row an image, split and method, boxes in pixels of the original image."""

from __future__ import annotations

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
