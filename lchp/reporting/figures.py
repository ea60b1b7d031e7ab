"""Figures of a study, fit for a paper, the same bytes for the same numbers.

matplotlib takes a second to import: it is imported where a figure is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lchp.data.files import replacing
from lchp.data.fingerprint import distinct
from lchp.reporting.frame import TrialRow
from lchp.reporting.statistics import Summary
from lchp.reporting.table import Table
from lchp.store.selection import EVALUATED, TRAINING, own_rule
from lchp.vocabulary import (
    GT_KNOWN,
    HIT_IOU,
    INITIALIZATION,
    METHODS,
    METRICS,
    VAL,
    Score,
    is_training_key,
    predicting,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PALE = 0.15
"""The opacity of intervals."""
_FEW = 12
"""Trials whose lines are drawn in full."""
_LOSS_OF = {"loss_cls": "loss_cls", "train_cls": "loss_cls", "loss_reg": "loss_reg"}
"""The loss of the network of which a number of the initialization tells."""
_VIEWS = {TRAINING: "training views", EVALUATED: "whole images"}


# What every study draws does without a constrained layout, which takes as long as the drawing.
def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """An empty figure of so many inches, drawn without a window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def save(figure: Figure, out: Path, vector: bool = False) -> None:
    """Write a figure as .png and, where asked, as .svg beside it."""
    from matplotlib import rc_context

    # Ids of an SVG are drawn by lot, and either format says when and by what it was made.
    with rc_context({"svg.hashsalt": out.stem, "svg.fonttype": "none"}):
        with replacing(out) as part:
            figure.savefig(part, dpi=110, metadata={"Software": None})
        if vector:
            with replacing(out.with_suffix(".svg")) as part:
                figure.savefig(part, metadata={"Date": None, "Creator": None})


def curve(table: Table) -> Figure:
    """The table's first metric over its parameter: a line with standard deviations per method and, pale, the interval
    of the mean over all seeds; floors and references dashed; the paper's numbers as crosses.
    """
    assert table.is_curve, "only a table over one number is a curve"
    parameter, metric = table.spec.by[0], table.spec.metrics[0]
    figure = new_figure(6, 4)
    axes = figure.subplots()
    for name, method in METHODS.items():
        points: list[tuple[Any, Summary]] = sorted(table.points(name), key=_place)
        xs, means = [x for x, _ in points], [cell.mean for _, cell in points]
        look: dict[str, Any] = {"color": method.dark, "linestyle": method.dash, "label": method.title}
        if points and (method.constant or method.reference):
            axes.plot(xs, means, **look)
        elif points:
            axes.errorbar(xs, means, [cell.std or 0.0 for _, cell in points], marker="o", capsize=3, **look)
            _band(axes, points, method.dark)
        paper = sorted(table.paper_points(name), key=_place)
        if paper:
            look = {"color": method.dark, "label": f"{method.title} (paper)"}
            axes.plot(*zip(*paper, strict=True), marker="x", linestyle="", **look)
    axes.set_xlabel(parameter)
    axes.set_ylabel(axis_title(metric, table.spec.split))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)
    return figure


def _place(point: tuple[Any, object]) -> Any:
    return point[0]


def _band(axes: Axes, points: Sequence[tuple[Any, Summary]], colour: str) -> None:
    known = [(x, *cell.interval) for x, cell in points if cell.interval is not None]
    if len(known) == len(points) > 1:
        xs, lows, highs = zip(*known, strict=True)
        ends = axes.get_ylim()
        axes.fill_between(xs, lows, highs, color=colour, alpha=_PALE, linewidth=0)
        # Of two seeds an interval may be as wide as all shares: what was measured stays legible.
        axes.set_ylim(ends)


def axis_title(metric: str, split: str) -> str:
    """What stands beside an axis of a metric."""
    return f"{METRICS[metric].title} on {split}{', %' if METRICS[metric].share else ''}"


def heat_map(table: Table) -> Figure:
    """The table's first metric over its two parameters, a map for each method that a trial has."""
    assert table.is_map, "only a table over two parameters is a map"
    down, across = (distinct(table.column(key)) for key in table.spec.by)
    maps = {name: _cells(table, name, down, across) for name in predicting()}
    maps = {name: cells for name, cells in maps.items() if not np.isnan(cells).all()}
    width, height = 1.2 + 2.6 * len(maps), 1.9 + 0.45 * len(down)
    figure = new_figure(width, height, layout=None)
    grid = figure.subplots(1, len(maps), squeeze=False, sharey=True)
    figure.subplots_adjust(
        left=1.1 / width, right=1 - 0.1 / width, bottom=1.2 / height, top=1 - 0.6 / height, wspace=0.06
    )
    least, most = (float(end([end(cells) for cells in maps.values()])) for end in (np.nanmin, np.nanmax))
    for axes, (name, cells) in zip(grid.flat, maps.items(), strict=True):
        axes.imshow(cells, vmin=least, vmax=most, cmap="Blues", aspect="auto")
        for (row, column), value in np.ndenumerate(cells):
            if not np.isnan(value):
                dark = value > (least + most) / 2
                axes.text(column, row, f"{value:.1f}", ha="center", va="center", color="w" if dark else "k", fontsize=8)
        axes.set_xticks(range(len(across)), list(map(str, across)), rotation=30, ha="right", fontsize=8)
        axes.set_yticks(range(len(down)), list(map(str, down)), fontsize=8)
        axes.set_title(METHODS[name].title, fontsize=9)
        axes.set_xlabel(table.spec.by[1])
    grid.flat[0].set_ylabel(table.spec.by[0])
    figure.suptitle(axis_title(table.spec.metrics[0], table.spec.split), fontsize=9)
    return figure


def _cells(table: Table, method: str, down: Sequence[Any], across: Sequence[Any]) -> np.ndarray:
    cells = np.full((len(down), len(across)), np.nan)
    for row, column, cell in zip(*(table.column(key) for key in table.spec.by), table.summaries(method), strict=True):
        if cell is not None:
            cells[down.index(row), across.index(column)] = cell.mean
    return cells


def training(trials: Sequence[TrialRow]) -> Figure:
    """Every value of training, and GT-Known on val, over the epochs of both stages, one panel each: a line for each
    trial; a dotted line parts the stages.
    """
    histories = [trial.evidence.history for trial in trials]
    told = [epoch["metrics"] for one in histories for epoch in one]
    learned = {key for metrics in told for key in metrics if _has_learned(metrics, key)}
    keys = [key for key in dict.fromkeys(key for metrics in told for key in metrics) if key in learned]
    names = [key for key in keys if is_training_key(key)]
    scores = [key for name in METHODS if (key := Score(name, VAL, GT_KNOWN).key) in keys]
    panels = [[name] for name in names] + ([scores] if scores else [])
    across = min(3, len(panels))
    rows = -(-len(panels) // across)
    figure = new_figure(4 * across, 2.6 * rows, layout=None)
    grid = figure.subplots(rows, across, squeeze=False, sharex=True)
    edges = {"left": 0.6 / (4 * across), "right": 1 - 0.1 / (4 * across), "bottom": 0.5 / (2.6 * rows)}
    figure.subplots_adjust(**edges, top=1 - 0.3 / (2.6 * rows), wspace=0.22, hspace=0.25)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, panels, strict=False):
        for key in panel:
            score = None if is_training_key(key) else METHODS[Score.parse(key).method]
            _lines(axes, histories, key, score.dark if score else "0.2", score.title if score else None)
        if panel == scores:
            axes.legend(fontsize=7)
        axes.set_title(
            METRICS[GT_KNOWN].title + " on val" if panel == scores else panel[0].partition("/")[2], fontsize=9
        )
        axes.grid(alpha=0.3)
        _border(axes, histories)
    for axes in grid[-1]:
        axes.set_xlabel("epoch over both stages", fontsize=8)
    grid.flat[0].xaxis.get_major_locator().set_params(integer=True)
    return figure


def _has_learned(metrics: Mapping[str, float], key: str) -> bool:
    """Whether a number of an epoch is there, and tells of what learned in it: the classifier stops, the regressor
    begins at epochs of their own, outside which their losses count 0.
    """
    stage, _, name = key.rpartition("/")
    loss = f"{stage}/{_LOSS_OF.get(name, name)}"
    return key in metrics and (name not in _LOSS_OF or metrics.get(loss) != 0)


def _lines(
    axes: Axes, histories: Sequence[Sequence[Mapping[str, Any]]], key: str, colour: str, title: str | None
) -> None:
    from matplotlib.collections import LineCollection

    series = [
        [(one["step"], one["metrics"][key]) for one in history if _has_learned(one["metrics"], key)]
        for history in histories
    ]
    known = [points for points in series if points]
    pale = min(1.0, _FEW / max(len(known), 1)) ** 0.5
    axes.add_collection(LineCollection(known, colors=colour, alpha=pale, linewidths=1, label=title))
    ends = np.concatenate([np.asarray(points, float) for points in known])
    axes.scatter(ends[:, 0], ends[:, 1], s=4, color=colour, alpha=pale, linewidths=0)
    axes.autoscale_view()


def _border(axes: Axes, histories: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """Part the stages where all trials have it at one epoch."""
    last = {max((one["step"] for one in history if one["stage"] == INITIALIZATION), default=0) for history in histories}
    if len(last) == 1 and (at := last.pop()):
        axes.axvline(at + 0.5, color="0.6", linestyle=":", linewidth=1)


def ious(trials: Sequence[TrialRow], split: str) -> Figure:
    """The share of images whose box has at least an IoU with the true one, over that IoU: a line for each method and
    seed.
    """
    figure = new_figure(6, 4, layout=None)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.11, right=0.97, bottom=0.12, top=0.96)
    least = np.linspace(0, 1, 101)
    for name, method in METHODS.items():
        title: str | None = method.title
        for trial in trials:
            values = trial.evidence.values.get(split)
            if values is None or name not in values.ious or np.isnan(values.ious[name]).all():
                continue
            known = np.sort(values.ious[name][~np.isnan(values.ious[name])])
            share = 100 - 100 * np.searchsorted(known, least) / len(known)
            axes.plot(least, share, color=method.dark, linestyle=method.dash, linewidth=1, label=title)
            title = None
    axes.axvline(HIT_IOU, color="0.6", linestyle=":", linewidth=1)
    axes.set_xlabel("least IoU")
    axes.set_ylabel(f"images on {split}, %")
    axes.set(xlim=(0, 1), ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def confidence(trials: Sequence[TrialRow]) -> Figure:
    """How good the boxes above a threshold of confidence are, and how many those are: a line for each seed, on the
    views that Eq. 6 selects from and on whole images.
    """
    figure = new_figure(8, 3.6, layout=None)
    grid = figure.subplots(1, 2, sharex=True)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.14, top=0.9, wspace=0.22)
    for views, dash in ((TRAINING, "-"), (EVALUATED, "--")):
        title: str | None = _VIEWS[views]
        for trial in trials:
            rows = [row for row in trial.selection if row.views == views and row.tau is not None]
            pure = [(row.tau, 100 * row.gt_known) for row in rows if row.gt_known is not None]
            share = [(row.tau, 100 * row.selected / row.total) for row in rows]
            for axes, points in zip(grid, (pure, share), strict=True):
                if points:
                    axes.plot(*zip(*points, strict=True), color="0.2", linestyle=dash, linewidth=1, label=title)
            title = None if rows else title
    aucs = [row.auc for trial in trials if (row := own_rule(trial.selection)) is not None and row.auc is not None]
    grid[0].set_ylabel(f"{METRICS[GT_KNOWN].title} of the selected, %")
    grid[1].set_ylabel("selected, %")
    if aucs:
        figure.suptitle(f"AUC {', '.join(f'{auc:.2f}' for auc in aucs)}; 0.5 is chance", fontsize=9)
    for axes in grid:
        axes.set_xlabel("tau")
        axes.grid(alpha=0.3)
    grid[1].set_ylim(0, 105)
    if grid[0].lines:
        grid[0].legend(fontsize=8)
    return figure
