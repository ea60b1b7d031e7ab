"""Figures of a search: what it tried and reached (Optuna's history and slices), and what mattered (its importances and
parallel coordinates), the same bytes for the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lchp.data.fingerprint import distinct
from lchp.reporting.figures import axis_title, new_figure
from lchp.reporting.importance import importances
from lchp.reporting.table import Table
from lchp.vocabulary import LCHP_R, METHODS, TRUTH_COLOUR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST = 10
"""Suggestions from which on it is asked what mattered."""


def tried(table: Table) -> Figure:
    """What a search reached by LCHP-R, or by its objective where the table shows that: over its suggestions, with the
    best until then, and over every key that it varied; the best suggestion is red.
    """
    values, title = _reached(table)
    panels: list[tuple[str, list[Any]]] = [("suggestion", list(range(len(values))))]
    panels += [(key, table.column(key)) for key in table.spec.by]
    across = min(4, len(panels))
    rows = -(-len(panels) // across)
    figure = new_figure(3 * across, 2.6 * rows)
    grid = figure.subplots(rows, across, squeeze=False, sharey=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    best = int(np.nanargmax(values)) if not np.isnan(values).all() else None
    for axes, (name, xs) in zip(grid.flat, panels, strict=False):
        places, names = _places(xs)
        axes.scatter(places, values, s=14, color=METHODS[LCHP_R].dark, alpha=0.7, linewidths=0)
        if best is not None:
            axes.scatter([places[best]], [values[best]], s=24, color=TRUTH_COLOUR)
        axes.set_xlabel(name, fontsize=8)
        axes.tick_params(axis="x", labelsize=7)
        if names:
            axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.grid(alpha=0.3)
    grid.flat[0].step(panels[0][1], np.fmax.accumulate(values), where="post", color="0.5", linewidth=1)
    for row in grid:
        row[0].set_ylabel(title, fontsize=8)
    return figure


def can_weigh(table: Table) -> bool:
    """Whether so many suggestions were finished, over two keys or more, that it says something what mattered."""
    return len(table.spec.by) > 1 and int(np.isfinite(_reached(table)[0]).sum()) >= FEWEST


def mattered(table: Table) -> Figure:
    """How much every key mattered for the best suggestions, and a line for every suggestion over all keys, the better
    the darker; the best suggestion is red.
    """
    values, title = _reached(table)
    known = np.flatnonzero(np.isfinite(values))
    columns = {key: [table.column(key)[place] for place in known] for key in table.spec.by}
    figure = new_figure(3.2 + 1.4 * len(columns), 3.4)
    bars, lines = figure.subplots(1, 2, width_ratios=(2.4, 0.8 + 1.4 * len(columns)))
    weights = importances(columns, values[known])
    bars.barh(list(weights), list(weights.values()), color=METHODS[LCHP_R].dark)
    bars.invert_yaxis()
    bars.set_xlabel("importance (PED-ANOVA)", fontsize=8)
    bars.tick_params(labelsize=8)
    _parallel(lines, columns, values[known], title)
    return figure


def _parallel(axes: Axes, columns: dict[str, list[Any]], values: np.ndarray, title: str) -> None:
    """Parallel coordinates, every axis from its least to its largest value."""
    from matplotlib import colormaps

    named = {**columns, title: list(values)}
    heights = []
    for place, column in enumerate(named.values()):
        at, names = _places(column)
        low, high = float(min(at)), float(max(at))
        heights.append([(one - low) / (high - low) if high > low else 0.5 for one in at])
        ends = [names[0], names[-1]] if names else [f"{low:.3g}", f"{high:.3g}"]
        for end, text in zip((-0.04, 1.04), ends if high > low else ["", ends[0]], strict=True):
            axes.text(place, end, text, ha="center", va="top" if end < 0 else "bottom", fontsize=7)
    order = np.argsort(values, kind="stable")
    for rank, one in enumerate(order):
        is_best = rank == len(order) - 1
        colour = TRUTH_COLOUR if is_best else colormaps["Blues"](0.2 + 0.7 * rank / len(order))
        axes.plot(range(len(named)), [column[one] for column in heights], color=colour, linewidth=2 if is_best else 1)
    for place in range(len(named)):
        axes.axvline(place, color="0.6", linewidth=0.8, zorder=0)
    axes.set_xticks(range(len(named)), list(named), rotation=20, ha="right", fontsize=8)
    axes.set(ylim=(-0.14, 1.14), yticks=[])
    axes.spines[:].set_visible(False)


def _reached(table: Table) -> tuple[np.ndarray, str]:
    """What every suggestion reached, NaN where nothing is known, and what that is."""
    assert table.is_search, "only the table of a search shows what it tried"
    if "objective" in {column.key for column in table.columns}:
        cells = table.column("objective")
        return np.array([np.nan if cell is None else float(str(cell)) for cell in cells]), "objective"
    found = table.summaries(LCHP_R)
    values = np.array([np.nan if one is None else one.mean for one in found])
    return values, axis_title(table.spec.metrics[0], table.spec.split)


def _places(column: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """Where values stand on an axis, and the names of its places: words, and None beside them, stand side by side in
    their order; numbers need no names.
    """
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in column):
        return list(column), []
    names = distinct([str(value) for value in column])
    return [names.index(str(value)) for value in column], names
