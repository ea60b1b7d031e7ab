"""What a table shows, and a finished one: plain values that files, figures and pages are written from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lchp.data.fingerprint import distinct
from lchp.reporting.cells import Cell, Column
from lchp.reporting.evidence import Images
from lchp.reporting.origin import Made
from lchp.reporting.statistics import Summary
from lchp.vocabulary import GT_KNOWN, METHODS, TEST


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

    def points(self, method: str) -> list[tuple[Cell, Summary]]:
        """The values of the table's parameter at which a method was measured, and what it has of the first metric."""
        parameter, metric = self.column(self.spec.by[0]), self.spec.metrics[0]
        if self.spec.has_rows_of_methods:
            mine = [title == METHODS[method].title for title in self.column("method")]
            cells = self.column(metric)
        else:
            key = f"{method}_{metric}"
            mine = [key in {column.key for column in self.columns}] * len(self.rows)
            cells = self.column(key) if all(mine) else [None] * len(self.rows)
        found = zip(parameter, mine, cells, strict=True)
        return [(x, cell) for x, is_mine, cell in found if is_mine and isinstance(cell, Summary)]
