"""What a table is made of: cells, and the columns that say what they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lchp.reporting.paper import Number
from lchp.reporting.statistics import Summary

Cell = Summary | Number | int | None


@dataclass(frozen=True)
class Column:
    """A column: its key in the CSV, the title people read, and what its cells are."""

    key: str
    title: str
    kind: Literal["label", "percent", "number", "count", "paper", "paper_count", "warnings"]
