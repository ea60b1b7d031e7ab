"""The differences that a table invites its reader to see, each with what it is worth: differences.csv and .md.

In every row each method beside the one before it, and LCHP-R beside the best centred box; over parameters every row of
LCHP-R beside the row with the study's own values. They are of the table's first metric, paired by image and seed. Where
that is the classifier's, which is of no method, it stands in LCHP-R's place, and none of the others is beside it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lchp.reporting.paired import Results
from lchp.reporting.sides import Side
from lchp.reporting.statistics import LEVEL, ONE_SEED, POWER, STEADY, Comparison, Interval, holm
from lchp.reporting.table import Table
from lchp.reporting.tables import CLASSIFIER
from lchp.vocabulary import CENTRED_BOX, LCHP_R, METHODS, METRICS, TOP1_CLS, predicting

NOTHING = "–"

TITLES = ("At", "Difference", "Points", "New seeds", "p", "These seeds", "p", "P(> 0)", "Seen from")
"""Of the columns that people read."""

_COLUMNS = (
    "table", "split", "metric", "at", "difference", "mean", "seeds", "images",
    "new_seeds_low", "new_seeds_high", "new_seeds_p", "new_seeds_p_holm", "new_seeds_smallest",
    "these_seeds_low", "these_seeds_high", "these_seeds_p", "these_seeds_p_holm", "these_seeds_smallest",
    "probability",
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """One line: ``at`` says in which row, ``text`` between what; p-values are adjusted by Holm over the table."""

    at: str
    text: str
    found: Comparison
    new_seeds_p: float | None = None
    these_seeds_p: float | None = None


@dataclass(frozen=True)
class Differences:
    """Those of one table."""

    table: Table
    lines: tuple[Difference, ...]

    @property
    def metric(self) -> str:
        """By which the table's results are compared: its first."""
        return self.table.spec.metrics[0]

    @property
    def heading(self) -> str:
        """What the numbers are."""
        unit = "points" if METRICS[self.metric].share else "the metric's own unit"
        return (
            f"{METRICS[self.metric].title} on {self.table.spec.split}: differences in {unit}, paired by image and seed"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """How to read them."""
        return (
            f"New seeds: the {LEVEL:.0%} interval for networks of other seeds on these images (Student's t over the "
            "seeds' differences; one seed makes no statement, and seeds that do not differ leave it to the images).",
            f"These seeds: the {LEVEL:.0%} interval for these networks on other images (classes resampled).",
            "p is adjusted by Holm over the table.",
            "P(> 0): the probability that a new seed has the difference above 0.",
            f"Seen from: with these seeds, and with these images, smaller differences are missed in more than "
            f"{1 - POWER:.0%} of studies like this one.",
        )

    def rows(self) -> list[tuple[str, ...]]:
        """As people read them, under TITLES."""
        return [_row(line) for line in self.lines]

    @property
    def counts(self) -> str:
        """On how many seeds and images they stand."""
        seeds, images = (
            sorted({number for number in numbers if number is not None})
            for numbers in (
                [len(line.found.by_seed) for line in self.lines],
                [line.found.images for line in self.lines],
            )
        )
        known = f"{_range(images)} images" if images else "single images are not known"
        return f"n: {_range(seeds)} seed{'' if seeds == [1] else 's'}, {known}."


def differences_of(table: Table, results: Results) -> Differences:
    """The differences in a table; ``results`` are those on its split."""
    metric = table.spec.metrics[0]
    lines = []
    for at, text, left, right in _pairs(table, results):
        found = results.compare(left, right, metric)
        if found is not None:
            lines.append(Difference(at, text, found))
    of_new, of_these = (
        holm([one.p if one else None for one in intervals])
        for intervals in ([one.found.new_seeds for one in lines], [one.found.these_seeds for one in lines])
    )
    adjusted = zip(lines, of_new, of_these, strict=True)
    return Differences(
        table, tuple(Difference(one.at, one.text, one.found, new, these) for one, new, these in adjusted)
    )


def _pairs(table: Table, results: Results) -> Iterator[tuple[str, str, Side, Side]]:
    spec, title = table.spec, METHODS[LCHP_R].title
    methods = [(right, left) for left, right in pairwise(predicting())] + [(LCHP_R, CENTRED_BOX)]
    if spec.metrics[0] == TOP1_CLS:
        title, methods = CLASSIFIER[LCHP_R].title, []
    settings = [setting for setting in results.settings() if _counts(setting, spec.by, spec.fixed)]
    for setting in settings:
        at = ", ".join(f"{key} = {setting[key]}" for key in spec.by)
        for left, right in methods:
            yield at, f"{METHODS[left].title} − {METHODS[right].title}", Side(setting, left), Side(setting, right)
    base = next((one for one in settings if spec.own and all(one[key] == spec.own[key] for key in spec.by)), None)
    for setting in settings:
        if base is not None and setting != base:
            changed = [key for key in spec.by if setting[key] != base[key]]
            text = ", ".join(f"{key} = {setting[key]} − {base[key]}" for key in changed)
            yield title, text, Side(setting, LCHP_R), Side(base, LCHP_R)


def _counts(setting: Mapping[str, Any], by: Sequence[str], fixed: Mapping[str, Any]) -> bool:
    return all(setting.get(key) == value for key, value in fixed.items() if key not in by)


def _row(line: Difference) -> tuple[str, ...]:
    found = line.found
    smallest = [interval.smallest for interval in (found.new_seeds, found.these_seeds) if interval]
    return (
        line.at,
        line.text,
        f"{found.difference:+.2f}",
        new_seeds_text(found),
        _p(line.new_seeds_p),
        interval_text(found.these_seeds),
        _p(line.these_seeds_p),
        NOTHING if found.probability is None else f"{found.probability:.2f}",
        " / ".join(f"{one:.2f}" for one in smallest) or NOTHING,
    )


def new_seeds_text(found: Comparison) -> str:
    """What new seeds would say, as people read it."""
    if found.is_steady:
        return STEADY
    return interval_text(found.new_seeds) if len(found.by_seed) > 1 else ONE_SEED


def interval_text(interval: Interval | None) -> str:
    """An interval as people read it."""
    return NOTHING if interval is None else f"[{interval.low:+.2f}, {interval.high:+.2f}]"


def _p(value: float | None) -> str:
    return NOTHING if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _range(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def differences_csv(made: Sequence[Differences]) -> str:
    """One line a difference of every table; numbers in full, what is not known empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for of_table in made:
        spec = of_table.table.spec
        for line in of_table.lines:
            found = line.found
            head = [spec.name, spec.split, of_table.metric, line.at, line.text, found.difference, len(found.by_seed)]
            intervals = ((found.new_seeds, line.new_seeds_p), (found.these_seeds, line.these_seeds_p))
            cells = [
                cell
                for one, adjusted in intervals
                for cell in ([one.low, one.high, one.p, adjusted, one.smallest] if one else [None] * 5)
            ]
            writer.writerow([*head, found.images, *cells, found.probability])
    return text.getvalue()


def differences_markdown(made: Sequence[Differences]) -> str:
    """One section a table that has any."""
    parts = []
    for of_table in (one for one in made if one.lines):
        lines = [f"## {of_table.table.title}", "", f"{of_table.heading} (`{of_table.table.spec.name}.csv`)."]
        lines += [of_table.counts, ""]
        lines += [f"| {' | '.join(TITLES)} |", "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
        lines += [f"| {' | '.join(row)} |" for row in of_table.rows()]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, "\n".join(made[0].notes)] if parts else ["Nothing to compare."]) + "\n"
