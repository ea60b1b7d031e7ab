"""The tables that a study ends in, as a person writes them, checked against what varies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from lchp.study.spec.complaints import unknown_key
from lchp.study.spec.schema import Table
from lchp.study.spec.source import Source
from lchp.study.spec.values import config_value
from lchp.training.config import TrialConfig

RESERVED = (
    "best", "claims", "confidence", "differences", "importance", "ious", "losses", "predictions", "report", "results",
    "search", "stopped", "study", "training", "trials",
)  # fmt: skip
"""Files of a study's folder that no table may replace, nor the picture of one."""
_SHOWN = 10


def fixed_values(table: Table, base: TrialConfig, varied: Sequence[str]) -> dict[str, Any]:
    """What the varied keys that make no rows of a table must be: its ``fixed`` over the study's own values."""
    by = varied if table.by is None else table.by
    return {key: config_value(base, key) for key in varied if key not in by} | (table.fixed or {})


def check_tables(
    tables: Sequence[Table],
    base: TrialConfig,
    varied: tuple[str, ...],
    grid: tuple[TrialConfig, ...],
    source: Source,
    expanded: bool,
) -> list[str]:
    """What is wrong with the tables, one line each; ``expanded`` says that ``varied`` and ``grid`` are sound."""
    mistakes = []
    names = [table.name for table in tables]
    if len(set(names)) != len(names):
        mistakes.append(f"{source.place(('tables',))}: tables: two have one name: give each its own `name`")
    for index, table in enumerate(tables):
        place = source.place(("tables", index, "name"))
        if table.name.lower() in RESERVED:
            mistakes.append(
                f"{place}: tables.{index}.name = {table.name}: is the name of another file of the study: choose another"
            )
        twice = next((metric for metric in table.metrics if table.metrics.count(metric) > 1), None)
        if twice is not None:
            where = source.place(("tables", index, "metrics"))
            mistakes.append(f"{where}: tables.{index}.metrics: {twice} is there twice: name each once")
        of_keys = _unknown_keys(index, table, varied, source) + _repeated_keys(index, table, varied, source)
        mistakes += of_keys + _check_paper(index, table, varied, source)
        if expanded and not of_keys:
            mistakes += _without_trials(index, table, base, varied, grid, source)
    return mistakes


def _unknown_keys(index: int, table: Table, varied: tuple[str, ...], source: Source) -> list[str]:
    """The keys of ``by`` and ``fixed`` that do not vary."""
    known = ", ".join(varied) or "nothing"
    return [
        f"{source.place(('tables', index, name))}: tables.{index}.{name}: `{key}` does not vary: what varies is {known}"
        for name, used in (("by", table.by or ()), ("fixed", table.fixed or {}))
        for key in used
        if key not in varied
    ]


def _repeated_keys(index: int, table: Table, varied: tuple[str, ...], source: Source) -> list[str]:
    """The keys that a table names twice: in ``by``, or in ``by`` and ``fixed``, where ``by`` would win unsaid."""
    by = varied if table.by is None else table.by
    place = source.place(("tables", index, "by"))
    return [
        *(
            f"{place}: tables.{index}.by: `{key}` is there {by.count(key)} times: name it once"
            for key in dict.fromkeys(by)
            if by.count(key) > 1
        ),
        *(
            f"{source.place(('tables', index, 'fixed', key))}: tables.{index}.fixed.{key}: `{key}` makes the rows: "
            + (
                "leave it out of `by`, or out here"
                if table.by is not None
                else "leave it out here, or give `by` without it"
            )
            for key in table.fixed or {}
            if key in by
        ),
    ]


def _check_paper(index: int, table: Table, varied: tuple[str, ...], source: Source) -> list[str]:
    """A table of the paper that does not exist, or has other rows."""
    if table.paper is None:
        return []
    from lchp.reporting.paper import PARAMETERS

    place = f"{source.place(('tables', index, 'paper'))}: tables.{index}.paper = {table.paper}"
    if table.paper not in PARAMETERS:
        return [f"{place}: {unknown_key(table.paper, tuple(PARAMETERS)).replace('unknown key', 'unknown table')}"]
    by = varied if table.by is None else table.by
    rows = PARAMETERS[table.paper]
    if by == ((rows,) if rows else ()):
        return []
    return [
        f"{place}: {table.paper} has rows by {rows or 'method'}, the table by {', '.join(by) or 'method'}: "
        f"write by: [{rows or ''}], or leave `paper` out"
    ]


def _without_trials(
    index: int,
    table: Table,
    base: TrialConfig,
    varied: tuple[str, ...],
    grid: tuple[TrialConfig, ...],
    source: Source,
) -> list[str]:
    """A table that no trial of the grid would fill."""
    fixed = fixed_values(table, base, varied)
    if not grid or any(all(config_value(config, key) == fixed[key] for key in fixed) for config in grid):
        return []
    shown = ", ".join(f"{key} = {json.dumps(value)}" for key, value in fixed.items())
    there = "; ".join(f"{key} is {', '.join(map(json.dumps, values))}" for key, values in _values(fixed, grid).items())
    place = source.place(("tables", index))
    return [
        f"{place}: tables.{index}: no trial has {shown}: say under `fixed` which ones the rows show"
        + (f" ({there})" if there else "")
    ]


def _values(keys: Iterable[str], grid: Sequence[TrialConfig]) -> dict[str, list[Any]]:
    """What the trials have at each key, every value once and in their order; keys of many values are left out."""
    found = {key: [config_value(config, key) for config in grid] for key in keys}
    once = {
        key: [value for at, value in enumerate(values) if value not in values[:at]] for key, values in found.items()
    }
    return {key: values for key, values in once.items() if len(values) <= _SHOWN}
