"""Pictures: predicted boxes on test images, a metric over a parameter, loss curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from lchp.data.files import replacing
from lchp.reporting.tables import Table
from lchp.store.per_image import CORNERS, IOU, METHOD, PATH, SPLIT
from lchp.vocabulary import METHODS, METRICS, TEST, TRUTH_COLOUR, is_training_key

TRUTH = "truth"
COLOURS = {name: method.colour for name, method in METHODS.items() if method.colour} | {TRUTH: TRUTH_COLOUR}
"""Of boxes on photographs: a method's own, and the truth's red."""

_ACROSS = 4


def _save(figure: Figure, out: Path) -> None:
    with replacing(out) as part:
        figure.savefig(part, dpi=110)


def _outline(axes: Any, row: Mapping[str, Any], colour: str) -> None:
    x1, y1, x2, y2 = (row[corner] for corner in CORNERS)
    axes.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=2.0))


def _caption(rows: Sequence[Mapping[str, Any]]) -> str:
    known = {row[METHOD]: row[IOU] for row in rows if not pd.isna(row[IOU])}
    shown = [f"{METHODS[name].short} {known[name]:.2f}" for name in METHODS if name in known]
    return "IoU " + "  ".join(shown) if shown else ""


def predictions(
    per_image: pd.DataFrame,
    root: Path,
    out: Path,
    count: int = 12,
    seed: int = 0,
    truth: pd.DataFrame | None = None,
) -> None:
    """Draw the boxes of every method that has a colour on test images.

    Args:
        per_image: per_image.csv of a run (boxes in pixels of the original image).
        root: the folder that the paths in ``per_image`` start from.
        out: the picture (.png).
        count: images drawn, chosen by ``seed``; all where there are fewer.
        truth: true boxes with the columns ``path, x1, y1, x2, y2`` in pixels, any number of rows an image.

    Raises:
        ValueError: ``per_image`` has no test image.
    """
    test = per_image[(per_image[SPLIT] == TEST) & per_image[METHOD].isin(COLOURS)]
    paths = list(dict.fromkeys(test[PATH]))
    if not paths:
        raise ValueError("per_image.csv has no boxes on the test split: nothing to draw")
    drawn = np.sort(np.random.default_rng(seed).choice(len(paths), min(count, len(paths)), replace=False))
    down = -(-len(drawn) // _ACROSS)
    figure = Figure(figsize=(3 * _ACROSS, 3.2 * down + 0.5), layout="constrained")
    grid = figure.subplots(down, _ACROSS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, place in zip(grid.flat, drawn, strict=False):
        path = paths[place]
        with Image.open(root / path) as image:
            axes.imshow(np.asarray(image.convert("RGB")))
        for true_box in [] if truth is None else truth[truth[PATH] == path].to_dict("records"):
            _outline(axes, {str(key): value for key, value in true_box.items()}, COLOURS[TRUTH])
        rows = [{str(key): value for key, value in row.items()} for row in test[test[PATH] == path].to_dict("records")]
        for row in rows:
            _outline(axes, row, COLOURS[row[METHOD]])
        axes.set_title(_caption(rows), fontsize=9)
    names = [name for name in COLOURS if name in set(test[METHOD]) or (name == TRUTH and truth is not None)]
    labels = {name: METHODS[name].title if name in METHODS else name.capitalize() for name in names}
    lines = [Line2D([], [], color=COLOURS[name], linewidth=3, label=labels[name]) for name in names]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines))
    _save(figure, out)


def curve(table: Table, out: Path) -> None:
    """The table's first metric over its parameter: a line with standard deviations per method, floors and references
    dashed.
    """
    assert table.is_curve, "only a table over one number is a curve"
    parameter, metric = table.spec.by[0], table.spec.metrics[0]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, method in METHODS.items():
        points = sorted((x, cell.mean, cell.std or 0.0) for x, cell in table.points(name))
        if not points:
            continue
        xs, means, spreads = zip(*points, strict=True)
        look: dict[str, Any] = {"color": method.dark, "linestyle": method.dash, "label": method.title}
        if method.constant or method.reference:
            axes.plot(xs, means, **look)
        else:
            axes.errorbar(xs, means, spreads, marker="o", capsize=3, **look)
    axes.set_xlabel(parameter)
    unit = ", %" if METRICS[metric].share else ""
    axes.set_ylabel(f"{METRICS[metric].title} on {table.spec.split}{unit}")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    _save(figure, out)


def losses(history: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Every ``train/...`` value of a trial's history over the epochs of both stages, one panel each.

    Raises:
        ValueError: the history holds none.
    """
    names = list(dict.fromkeys(name for report in history for name in report["metrics"] if is_training_key(name)))
    if not names:
        raise ValueError("the history holds no train/... values: nothing to draw")
    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(4 * across, 2.6 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(grid.flat, names, strict=False):
        points = [(report["step"], report["metrics"][name]) for report in history if name in report["metrics"]]
        axes.plot(*zip(*points, strict=True), marker=".", color="0.2")
        axes.set_title(name.removeprefix("train/"), fontsize=9)
        axes.set_xlabel("epoch over both stages", fontsize=8)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    _save(figure, out)
