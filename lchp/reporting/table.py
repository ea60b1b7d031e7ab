"""What a table shows, and a finished one: plain values that files, figures and pages are written from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lchp.data.fingerprint import distinct
from lchp.errors import first_of
from lchp.reporting.cells import Cell, Column
from lchp.reporting.evidence import Images
from lchp.reporting.origin import Made
from lchp.reporting.statistics import Summary
from lchp.vocabulary import GT_KNOWN, METHODS, METRICS, TEST, predicting

_MOST_NAMED = 3
"""Metrics, and parameters, in a title."""


@dataclass(frozen=True)
class TableSpec:
    """What a table shows.

    Attributes:
        name: of its files, without ending.
        by: the varied parameters that make the rows; none: the methods do.
        metrics: of ``lchp.vocabulary.METRICS``.
        split: ``test`` or ``val``.
        paper: a key of ``paper.PARAMETERS``, or None.
        fixed: only trials with these values of other varied parameters count.
        own: the study's own values of ``by``, beside whose row others are judged; empty where it has none.
    """

    name: str = "table"
    by: tuple[str, ...] = ()
    metrics: tuple[str, ...] = (GT_KNOWN,)
    split: str = TEST
    paper: str | None = None
    fixed: dict[str, Any] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)

    @property
    def has_rows_of_methods(self) -> bool:
        """Whether each method has a row of its own, and each metric a column; else each method has a column."""
        return not self.by or len(self.metrics) > 1


@dataclass(frozen=True)
class Table:
    """A finished table; ``rows`` have one cell per column, ``heading``, ``notes``, ``counts`` and ``warnings`` are
    sentences.

    Attributes:
        images: of the split, as its trials counted them: one where they agree, none where no trial says.
        trials: how many finished ones its rows are made of.
        planned: of how many, where that is known.
        counts: on how many images and trials it stands.
        warnings: how training degenerated, and in which rows.
        runs: of every row, the runs that it is made of; none of a row that the paper cites.
    """

    spec: TableSpec
    heading: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    made: Made
    notes: tuple[str, ...]
    images: tuple[Images, ...]
    trials: int
    planned: int | None
    counts: tuple[str, ...]
    warnings: tuple[str, ...]
    runs: tuple[tuple[str, ...], ...]

    @property
    def title(self) -> str:
        """What stands above it: what it measures, and over what; its heading says how."""
        measured = first_of([METRICS[metric].title for metric in self.spec.metrics], _MOST_NAMED)
        return f"{measured} on {self.spec.split}" + (
            f" by {first_of(self.spec.by, _MOST_NAMED)}" if self.spec.by else ""
        )

    @property
    def is_curve(self) -> bool:
        """Whether the table is over one parameter, with at least two rows, all numbers."""
        values = distinct(self.column(self.spec.by[0])) if len(self.spec.by) == 1 else []
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        return len(values) == len(numbers) > 1

    def column(self, key: str) -> list[Cell]:
        """The cells of the column ``key``."""
        place = [column.key for column in self.columns].index(key)
        return [row[place] for row in self.rows]

    @property
    def is_search(self) -> bool:
        """Whether its rows are what a search suggested: nothing beside whose row they would be judged."""
        return bool(self.spec.by) and not self.spec.own and not self.spec.has_rows_of_methods

    @property
    def is_map(self) -> bool:
        """Whether the table is over two parameters that have two values each at least, and has numbers of a trial's own
        methods.
        """
        return (
            len(self.spec.by) == 2
            and bool(self.spec.own)
            and all(len(distinct(self.column(key))) > 1 for key in self.spec.by)
            and any(cell is not None for method in predicting() for cell in self.summaries(method))
        )

    def summaries(self, method: str) -> list[Summary | None]:
        """What a method has of the first metric in every row; None where it has nothing, or the row is another's."""
        cells = self._of(method, "")
        return [cell if isinstance(cell, Summary) else None for cell in cells]

    def points(self, method: str) -> list[tuple[Cell, Summary]]:
        """The values of the table's parameter at which a method was measured, and what it has of the first metric."""
        found = zip(self.column(self.spec.by[0]), self.summaries(method), strict=True)
        return [(x, cell) for x, cell in found if cell is not None]

    def paper_points(self, method: str) -> list[tuple[Cell, float]]:
        """The same of the paper's numbers."""
        found = zip(self.column(self.spec.by[0]), self._of(method, "paper_"), strict=True)
        return [(x, cell) for x, cell in found if isinstance(cell, float)]

    def _of(self, method: str, before: str) -> list[Cell]:
        """A method's cells of the first metric in the columns of that beginning; None in rows of others."""
        metric = self.spec.metrics[0]
        if self.spec.has_rows_of_methods:
            key, mine = f"{before}{metric}", [title == METHODS[method].title for title in self.column("method")]
        else:
            key, mine = f"{before}{method}_{metric}", [True] * len(self.rows)
        if key not in {column.key for column in self.columns}:
            return [None] * len(self.rows)
        return [cell if is_mine else None for cell, is_mine in zip(self.column(key), mine, strict=True)]
