"""Pictures of a study: a metric over a parameter, loss curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lchp.data.files import replacing
from lchp.reporting.table import Table
from lchp.vocabulary import METHODS, METRICS, is_training_key


def _save(figure: Figure, out: Path) -> None:
    with replacing(out) as part:
        figure.savefig(part, dpi=110)


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
