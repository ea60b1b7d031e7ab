"""The paper's numbers (Sun & Zhu 2022, tables 1 to 6), read from CSV files and put in our terms."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lchp.method.backbones import NETWORKS
from lchp.shipped import PAPER
from lchp.vocabulary import GT_KNOWN, LCHP_R, METHODS, SELECTED, STRONG_AUGMENTATIONS, TOP1_LOC, TOP5_LOC

Number = float | str
"""Percent (a count for selected images), or the paper's word where it gives no number, such as ``failed``."""

PARAMETERS: dict[str, str | None] = {
    "table1_cub": None,
    "table1_imagenet": None,
    "table2_tiny_imagenet": None,
    "table3_delta": "delta",
    "table4_tau": "tau",
    "table5_backbone": "backbone",
    "table6_augmentation": "augmentation",
}
"""The tables, and the parameter that makes their rows; None where methods do."""

_BACKBONES = {network.paper: name for name, network in NETWORKS.items() if network.paper}
_TITLES = {method.title: name for name, method in METHODS.items()}
_METRICS = (GT_KNOWN, TOP1_LOC, TOP5_LOC)

SELECTION = "selection"
"""What stands for the method in the left half of Table 4, whose numbers are of boxes above tau."""


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper.

    Attributes:
        name: the file's name without its ending.
        values: per row's value of the parameter (None for a table of methods): (method, metric) to number. The left
            half of Table 4 has the method ``SELECTION`` and the metrics ``SELECTED`` (a count) and ``GT_KNOWN``.
        cited: other works in a table of methods: name to metric to number.
    """

    name: str
    values: dict[Any, dict[tuple[str, str], Number]]
    cited: dict[str, dict[str, Number]]

    def number(self, value: Any, method: str, metric: str) -> Number | None:
        """What the paper reports, None where it does not."""
        return self.values.get(value, {}).get((method, metric))

    def reports(self, method: str, metric: str) -> bool:
        """Whether any row has a number of that method and metric."""
        return any((method, metric) in row for row in self.values.values())

    def knows(self, metric: str) -> bool:
        """Whether any row has a number of that metric, of a method of ours or of a cited work."""
        ours = any(self.reports(method, metric) for method in METHODS)
        return ours or any(metric in numbers for numbers in self.cited.values())


def _numbers(row: Mapping[str, str], keys: Iterable[str]) -> dict[str, Number]:
    found: dict[str, Number] = {}
    for key in keys:
        text = (row.get(key) or "").strip()
        if text:
            try:
                found[key] = float(text)
            except ValueError:
                found[key] = text
    return found


def _of_methods(name: str, rows: list[dict[str, str]]) -> PaperTable:
    ours: dict[tuple[str, str], Number] = {}
    cited: dict[str, dict[str, Number]] = {}
    for row in rows:
        numbers = _numbers(row, _METRICS)
        if row["method"] in _TITLES:
            ours.update({(_TITLES[row["method"]], metric): number for metric, number in numbers.items()})
        else:
            cited[f"{row['method']} ({row['backbone']})" if row.get("backbone") else row["method"]] = numbers
    return PaperTable(name, {None: ours}, cited)


def _row(parameter: str, row: Mapping[str, str]) -> tuple[Any, dict[tuple[str, str], Number]]:
    """One row of an ablation: the parameter's value in our terms, and its numbers."""
    if parameter == "augmentation":
        used = "+".join(name for name in STRONG_AUGMENTATIONS if row[name] == "1") or "none"
        return used, {(LCHP_R, metric): number for metric, number in _numbers(row, [GT_KNOWN]).items()}
    if parameter == "tau":
        places = {
            "train_selected": (SELECTION, SELECTED),
            "train_gt_known": (SELECTION, GT_KNOWN),
            "test_gt_known": (LCHP_R, GT_KNOWN),
        }
        return float(row["tau"]), {places[key]: number for key, number in _numbers(row, places).items()}
    value = _BACKBONES[row["backbone"]] if parameter == "backbone" else float(row[parameter])
    return value, {(method, GT_KNOWN): number for method, number in _numbers(row, METHODS).items()}


def paper_beside(output: Path) -> Path | None:
    """The folder of the paper's numbers: beside the studies in ``output``, or those that come with the package."""
    return next((folder for folder in (output / "paper", PAPER) if folder.is_dir()), None)


def load_paper(name: str, folder: Path) -> PaperTable | None:
    """The paper's table ``name`` (a key of ``PARAMETERS``) from ``folder/<name>.csv``; None without that file.

    Raises:
        ValueError: the paper has no table of that name, or the file is not laid out like it.
    """
    if name not in PARAMETERS:
        raise ValueError(f"paper = {name}: the paper has no such table: choose one of {', '.join(PARAMETERS)}")
    path = folder / f"{name}.csv"
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    parameter = PARAMETERS[name]
    try:
        if parameter is None:
            return _of_methods(name, rows)
        return PaperTable(name, dict(_row(parameter, row) for row in rows), {})
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: not laid out like the paper's table ({error!r}): restore the shipped file"
        ) from error
