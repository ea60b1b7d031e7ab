"""Comparing a repeated trial with a stored one: every final metric and every predicted box."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lchp.data.records import PixelBoxes
from lchp.store.folder import StageFolder
from lchp.store.per_image import KEY, box_iou, box_of
from lchp.store.selection import EVALUATED
from lchp.study.reproduce.selfcheck import Rows, contradicting
from lchp.tracking.stored import StoredRun
from lchp.vocabulary import GT_KNOWN, METRICS, SELECTED, Score

METRIC_TOLERANCE = 0.05
"""Where equal bits are not promised: the largest difference of a final metric (a fraction)."""

BIAS_TOLERANCE = 0.25
"""The same of a metric that is no fraction: how far boxes lie from the true ones."""

BOX_TOLERANCE = 0.8
"""Where equal bits are not promised: the smallest mean IoU of a method's boxes with the stored ones."""

_NAMED = 20

Selection = list[dict[str, str]]
"""The rows of selection.csv."""


@dataclass(frozen=True)
class MetricLine:
    """One final metric: as scores.json holds it, as MLflow shows it, and as trained again; None where it is absent."""

    name: str
    stored: float | None
    shown: float | None
    again: float | None
    agrees: bool


@dataclass(frozen=True)
class BoxLine:
    """The boxes of one method on one split: how many, how many differ, and their mean IoU with the stored ones."""

    method: str
    split: str
    count: int
    differing: int
    mean_iou: float
    agrees: bool


@dataclass(frozen=True)
class Comparison:
    """What agrees and what does not; ``examples`` name the first boxes that differ."""

    exact: bool
    metrics: tuple[MetricLine, ...]
    boxes: tuple[BoxLine, ...]
    examples: tuple[str, ...]
    selection: tuple[str, ...] = ()
    """What differs in selection.csv, one line a threshold."""
    inconsistent: tuple[str, ...] = ()
    """Where the stored files contradict each other: boxes, their IoU, and scores.json."""

    @property
    def disagreements(self) -> list[str]:
        """One line for everything that does not agree."""
        lines = [
            f"metric {line.name}: scores.json {line.stored}, MLflow {line.shown}, again {line.again}"
            for line in self.metrics
            if not line.agrees
        ]
        wrong = [line for line in self.boxes if not line.agrees]
        lines += [f"boxes {line.method}/{line.split}: {line.differing} of {line.count} differ" for line in wrong]
        lines += [*self.selection, *self.inconsistent]
        return lines + (list(self.examples) if wrong else [])

    def text(self) -> str:
        """The comparison for people."""
        rule = (
            "exactly"
            if self.exact
            else f"metrics within {METRIC_TOLERANCE}, mean IoU of boxes at least {BOX_TOLERANCE} "
            "(other hardware, or CUDA without compute.deterministic)"
        )
        lines = [f"compared: {rule}", f"{'metric':<36} {'stored':>10} {'MLflow':>10} {'again':>10}"]
        for metric in self.metrics:
            values = " ".join(f"{_shown(value):>10}" for value in (metric.stored, metric.shown, metric.again))
            lines.append(f"{metric.name:<36} {values}  {_verdict(metric.agrees)}")
        lines.append(f"{'boxes':<36} {'all':>10} {'differing':>10} {'mean IoU':>10}")
        for box in self.boxes:
            name = f"{box.method}/{box.split}"
            lines.append(
                f"{name:<36} {box.count:>10} {box.differing:>10} {box.mean_iou:>10.4f}  {_verdict(box.agrees)}"
            )
        return "\n".join([*lines, *self.selection, *self.inconsistent, *self.examples])

    def write(self, file: Path) -> None:
        """The metrics and boxes as CSV."""
        with file.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("what", "stored", "mlflow", "again", "agrees"))
            for metric in self.metrics:
                writer.writerow((metric.name, metric.stored, metric.shown, metric.again, metric.agrees))
            for box in self.boxes:
                writer.writerow(
                    (f"boxes {box.method}/{box.split}", box.count, "", box.count - box.differing, box.agrees)
                )


def compare(stored: StoredRun, again: Path, exact: bool, true_boxes: PixelBoxes | None = None) -> Comparison:
    """Compare the folder of a repeated trial with a stored run: scores.json, MLflow's metrics, per_image.csv and
    selection.csv.

    ``exact`` asks for equal bits; otherwise the tolerances of this module count. What is stored must always agree with
    itself: scores.json with MLflow's metrics and with per_image.csv, and the IoU of every stored box with
    ``true_boxes``, where those are given.
    """
    old, new = StageFolder(stored.folder), StageFolder(again)
    scores = new.scores()
    metrics = tuple(
        _metric(name, stored.scores.get(name), stored.metrics.get(name), scores.get(name), exact)
        for name in {**stored.scores, **scores}
        # What the version that made the run did not measure is no disagreement.
        if name in stored.scores or not METRICS[Score.parse(name).metric].later
    )
    boxes, examples = _boxes(_rows(old), _rows(new), exact)
    selection = _selection(old.selection(), new.selection(), exact)
    contradictions = contradicting(_rows(old), stored.scores, true_boxes)
    return Comparison(exact, metrics, boxes, examples, selection, tuple(contradictions))


def _selection(stored: Selection | None, again: Selection | None, exact: bool) -> tuple[str, ...]:
    """The rules whose number of selected boxes, or whose GT-Known, differs; within tolerance as shares.

    What version 0.1 stored is compared as far as it goes.
    """
    if stored is None and again is None:
        return ()
    if stored is None or again is None:
        return (f"selection: {'not stored' if stored is None else 'not measured again'}",)
    old, new = ({_rule(row): row for row in rows} for rows in (stored, again))
    if stored and "views" not in stored[0]:
        new = {rule: {name: row[name] for name in stored[0]} for rule, row in new.items() if rule in old}
    return tuple(
        f"selection {rule}: {_words(old.get(rule))} -> {_words(new.get(rule))}"
        for rule in {**old, **new}
        if not (old.get(rule) == new.get(rule) or (not exact and _near(old.get(rule), new.get(rule))))
    )


def _rule(row: Mapping[str, str]) -> str:
    """What a row of selection.csv counts, as people read it."""
    by = f"keep={row['keep']}" if row.get("keep") else f"tau={row['tau']}"
    return by if row.get("views", EVALUATED) == EVALUATED else f"{by} {row['views']} views"


def _near(old: dict[str, str] | None, new: dict[str, str] | None) -> bool:
    """Whether the share of selected boxes is within tolerance; the GT-Known of few boxes says nothing."""
    if old is None or new is None:
        return False
    shares = [float(row[SELECTED]) / float(row["total"]) for row in (old, new)]
    return abs(shares[0] - shares[1]) <= METRIC_TOLERANCE


def _words(row: dict[str, str] | None) -> str:
    if row is None:
        return "absent"
    return f"{row[SELECTED]} of {row['total']} selected, {METRICS[GT_KNOWN].title} {row[GT_KNOWN] or 'unknown'}"


def _metric(name: str, stored: float | None, shown: float | None, again: float | None, exact: bool) -> MetricLine:
    close = stored == again
    if not exact and stored is not None and again is not None:
        close = abs(stored - again) <= (METRIC_TOLERANCE if _is_share(name) else BIAS_TOLERANCE)
    told = shown == stored or (shown is None and not _is_shown(name))
    return MetricLine(name, stored, shown, again, close and told and stored is not None)


def _is_shown(name: str) -> bool:
    """Whether a run shows it under its key; what is no score belongs in none."""
    try:
        return Score.parse(name).is_tracked
    except ValueError:
        return True


def _is_share(name: str) -> bool:
    return METRICS[Score.parse(name).metric].share


def _rows(folder: StageFolder) -> Rows:
    return {tuple(row[key] for key in KEY): row for row in folder.per_image()}


def _boxes(stored: Rows, again: Rows, exact: bool) -> tuple[tuple[BoxLine, ...], tuple[str, ...]]:
    groups: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for key in {**stored, **again}:
        groups.setdefault((key[2], key[1]), []).append(key)
    lines, examples = [], []
    for (method, split), keys in groups.items():
        differing = [key for key in keys if stored.get(key) != again.get(key)]
        mean = sum(_iou(stored.get(key), again.get(key)) for key in keys) / len(keys)
        close = all(key in stored and key in again for key in keys) and mean >= BOX_TOLERANCE
        lines.append(BoxLine(method, split, len(keys), len(differing), mean, not differing if exact else close))
        examples += [_example(key, stored.get(key), again.get(key)) for key in differing[:_NAMED]]
    return tuple(lines), tuple(examples[:_NAMED])


def _iou(first: dict[str, str] | None, second: dict[str, str] | None) -> float:
    """Of two rows' boxes; 0 where one is missing, 1 where they are the same, empty or not."""
    if first is None or second is None:
        return 0.0
    a, b = (box_of(row) for row in (first, second))
    return 1.0 if a == b else box_iou(a, b)


def _example(key: tuple[str, ...], stored: dict[str, str] | None, again: dict[str, str] | None) -> str:
    if stored is None or again is None:
        return f"box {' '.join(key)}: {'not stored' if stored is None else 'not predicted again'}"
    fields = [name for name in stored if stored[name] != again.get(name)]
    return f"box {' '.join(key)}: " + ", ".join(f"{name} {stored[name]} -> {again.get(name)}" for name in fields)


def _shown(value: float | None) -> str:
    return "absent" if value is None else f"{value:.6f}"


def _verdict(agrees: bool) -> str:
    return "agrees" if agrees else "DIFFERS"
