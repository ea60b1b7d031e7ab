"""A picture of a dataset: a grid of samples with their classes and true boxes."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lchp.data.config import DatasetConfig
from lchp.data.drawing import plain_style
from lchp.data.files import replacing
from lchp.data.loader import decode
from lchp.data.reading import read_pixel_boxes
from lchp.data.records import Dataset, PixelBoxes, Records
from lchp.vocabulary import TEST, TRAIN, TRUTH_COLOUR


def show(config: DatasetConfig, dataset: Dataset, out: Path, count: int = 16, seed: int = 0) -> None:
    """Draw ``count`` images, chosen by ``seed``, with class, split and true boxes (red), into the PNG ``out``.

    Boxes are drawn as written, before clipping. Raises ValueError where a box file, or a chosen image, cannot be read.
    """
    order = torch.randperm(len(dataset.images), generator=torch.Generator().manual_seed(seed))[:count]
    chosen = dataset.images.at(order.numpy())
    boxes = read_pixel_boxes(config, dataset, chosen) or {}
    with plain_style():
        figure = _drawn(dataset, chosen, order.tolist(), boxes)
        with replacing(out) as part:
            figure.savefig(part, format="png", dpi=110)


def _drawn(dataset: Dataset, chosen: Records, rows_of: list[int], boxes: PixelBoxes) -> Figure:
    """The grid of the images ``chosen``, which are rows of the dataset."""
    columns = math.ceil(math.sqrt(len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    figure = Figure(figsize=(2.6 * columns, 2.8 * rows), layout="constrained")
    for place, (record, row) in enumerate(zip(chosen, rows_of, strict=True), 1):
        split = TRAIN if row < len(dataset.train) else TEST
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(decode(dataset.root / record.path).permute(1, 2, 0).numpy())
        axes.set_title(f"{dataset.classes[record.label]} ({split})", fontsize=7, parse_math=False)
        axes.set_axis_off()
        for x1, y1, x2, y2 in boxes.get(record.path, []):
            # Pixel i covers [i - 0.5, i + 0.5] in the axes.
            axes.add_patch(
                Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, color=TRUTH_COLOUR, linewidth=1.5)
            )
    return figure
