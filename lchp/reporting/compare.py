"""Runs or studies beside one another: what they were configured with, how far apart they are, and which images moved.

Everything is read from the folders of finished trials; the first group is what the others are compared with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from lchp.data.fingerprint import distinct, flatten
from lchp.errors import counted
from lchp.reporting.differences import interval_text, new_seeds_text
from lchp.reporting.frame import TrialRow, collect
from lchp.reporting.paired import Results
from lchp.reporting.predictions import Box
from lchp.reporting.settings import in_words, setting_of, varied_keys
from lchp.reporting.sides import Side
from lchp.reporting.statistics import ONE_SEED, Comparison, Interval
from lchp.store.folder import StageFolder
from lchp.store.per_image import KEY, box_of
from lchp.training.identity import results_form, stored_config
from lchp.vocabulary import GT_KNOWN, LCHP_R, MEAN_IOU, METHODS, METRICS, SPLITS, TOP1_CLS, Score, predicting

COMPARED = (GT_KNOWN, MEAN_IOU)
"""The metrics that are shown, where both groups have them; else the classifier's, which is of no method."""

MOST_CHANGED = 10
"""Images that are named."""

_GROUP, _SETTING = "group", "setting"


@dataclass(frozen=True)
class Group:
    """One run, or the finished trials of a study."""

    name: str
    trials: tuple[TrialRow, ...]

    @property
    def settings(self) -> list[dict[str, Any]]:
        """What was trained, each once."""
        return distinct([trial.varied for trial in self.trials])


@dataclass(frozen=True)
class Pair:
    """How two groups stand in one setting, by one method and metric."""

    left: str
    right: str
    at: str
    method: str
    metric: str
    values: tuple[float, float]
    found: Comparison
    """Of ``right - left``."""


@dataclass(frozen=True)
class Moved:
    """An image whose box of LCHP-R changed: its IoU with the true box in either group, the mean over shared seeds."""

    right: str
    at: str
    path: str
    before: float
    after: float


@dataclass(frozen=True, repr=False)
class Beside:
    """All of a comparison. ``configuration`` has the keys in which the groups differ, and each one's values."""

    groups: tuple[Group, ...]
    split: str
    configuration: dict[str, tuple[list[Any], ...]]
    pairs: tuple[Pair, ...]
    moved: tuple[Moved, ...]

    def __repr__(self) -> str:
        return self.text()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``lchp compare --json``."""
        return {
            "groups": [{"name": group.name, "trials": len(group.trials)} for group in self.groups],
            "split": self.split,
            "configuration": {key: list(values) for key, values in self.configuration.items()},
            "differences": [_plain(pair) for pair in self.pairs],
            "images": [vars(moved) for moved in self.moved],
        }

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{group.name}: {counted(len(group.trials), 'trial')}" for group in self.groups]
        lines += ["", "configuration:"] + [
            f"  {key}: {' | '.join(', '.join(map(in_words, some)) for some in values)}"
            for key, values in self.configuration.items()
        ]
        lines += [] if self.configuration else ["  the same, but for seeds and paths"]
        lines += ["", f"on {self.split}, paired by image and seed:"] + [f"  {_line(pair)}" for pair in self.pairs]
        if self.moved:
            lines += ["", f"images that changed most by {METHODS[LCHP_R].title} (IoU):"]
            lines += [
                f"  {one.path}: {one.before:.2f} -> {one.after:.2f}{_at(one.at, one.right)}" for one in self.moved
            ]
        return "\n".join(lines)


def _at(at: str, right: str) -> str:
    return f" ({right}{', ' + at if at else ''})"


def _line(pair: Pair) -> str:
    found, unit = pair.found, " points" if METRICS[pair.metric].share else ""
    n = f"n = {counted(len(found.by_seed), 'seed')}"
    n += ", not the same images" if found.images is None else f", {found.images} images"
    one = len(found.by_seed) < 2
    of = "" if pair.metric == TOP1_CLS else f"{METHODS[pair.method].title}, "
    new = ("new seeds " if found.new_seeds else "") + new_seeds_text(found)
    seeds = f"{ONE_SEED} on new seeds" if one else new
    return (
        f"{of}{METRICS[pair.metric].title}: {pair.values[0]:.2f} -> {pair.values[1]:.2f}, "
        f"{found.difference:+.2f}{unit}; {seeds}; these seeds {interval_text(found.these_seeds)}; {n}"
        f"{_at(pair.at, pair.right)}"
    )


def _plain(pair: Pair) -> dict[str, Any]:
    found = pair.found
    return {
        "left": pair.left,
        "right": pair.right,
        "at": pair.at,
        "method": pair.method,
        "metric": pair.metric,
        "values": list(pair.values),
        "difference": found.difference,
        "by_seed": list(found.by_seed),
        "images": found.images,
        "probability": found.probability,
        "new_seeds": _ends(found.new_seeds),
        "these_seeds": _ends(found.these_seeds),
    }


def _ends(interval: Interval | None) -> dict[str, float | None] | None:
    """Plain values; an end that is nowhere is None, since JSON knows no infinity."""
    if interval is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in vars(interval).items()}


def beside(groups: Sequence[Group], split: str) -> Beside:
    """Compare the first group with every other.

    Settings that both have are compared each, by the keys that either varies; two groups of one setting are compared
    whatever these are.

    Raises:
        ValueError: two groups have no setting in common, no seed, or no score on the split; says what they have.
    """
    first, *others = groups
    pairs: list[Pair] = []
    moved: list[Moved] = []
    for other in others:
        results, places = _joined(first, other, split)
        found = [pair for at in places for pair in _pairs(results, first, other, at, tuple(predicting()), COMPARED)]
        found = found or [pair for at in places for pair in _pairs(results, first, other, at, (LCHP_R,), (TOP1_CLS,))]
        if not found:
            _require_measured((first, other), split)
            seeds = [sorted({trial.seed for trial in group.trials}) for group in (first, other)]
            raise ValueError(
                f"{first.name} and {other.name}: have no seed in common ({seeds[0]} and {seeds[1]}): "
                "differences are paired by seed: train one with the other's seeds, or compare single runs"
            )
        pairs += found
        moved += _most_changed(results, other, places)
    return Beside(tuple(groups), split, _configuration(groups), tuple(pairs), tuple(moved))


def _require_measured(groups: Sequence[Group], split: str) -> None:
    """See that every group has a score on the split by which it can be compared."""
    measured = {group.name: _splits(group) for group in groups}
    for name, splits in measured.items():
        if split not in splits:
            titles = " and ".join(METRICS[metric].title for metric in COMPARED)
            both = [one for one in SPLITS if all(one in others for others in measured.values())]
            remedy = f"compare on --split {both[0]}" if both else "there is nothing to compare"
            raise ValueError(f"{name}: has no {titles} on {split}, which want images of it, with true boxes: {remedy}")


def _splits(group: Group) -> set[str]:
    scores = [Score.parse(key) for trial in group.trials for key in StageFolder(trial.folder).scores()]
    return {score.split for score in scores if score.metric in (*COMPARED, TOP1_CLS) and score.method in predicting()}


def _joined(first: Group, other: Group, split: str) -> tuple[Results, list[str]]:
    """The results of both, and the settings that are compared, by what people read."""
    single = len(first.settings) == len(other.settings) == 1
    one_run = len(first.trials) == len(other.trials) == 1
    keys = varied_keys((*first.trials, *other.trials))
    rows = [
        replace(
            trial,
            run_id=f"{place}:{trial.run_id}",
            # Two runs are compared whatever their seeds were.
            seed=0 if one_run else trial.seed,
            varied={_GROUP: place, _SETTING: "" if single else setting_of(trial, keys)},
        )
        for place, group in enumerate((first, other))
        for trial in group.trials
    ]
    labels = [distinct([row.varied[_SETTING] for row in rows if row.varied[_GROUP] == place]) for place in (0, 1)]
    shared = [label for label in labels[0] if label in labels[1]]
    if not shared:
        raise ValueError(
            f"{first.name} has {'; '.join(labels[0])}, and {other.name} {'; '.join(labels[1])}: they have no setting "
            "in common: compare runs of them"
        )
    return Results(pd.concat([collect("", [row]) for row in rows]), split, rows), shared


def _pairs(
    results: Results, first: Group, other: Group, at: str, methods: Sequence[str], metrics: Sequence[str]
) -> Iterator[Pair]:
    for method in methods:
        for metric in metrics:
            left, right = (Side({_GROUP: place, _SETTING: at}, method) for place in (0, 1))
            found = results.compare(right, left, metric)
            if found is None:
                continue
            seeds = [seed for seed in results.seeds(left.setting) if results.value(right, seed, metric) is not None]
            values = [
                float(np.mean([value for seed in seeds if (value := results.value(side, seed, metric)) is not None]))
                for side in (left, right)
            ]
            yield Pair(first.name, other.name, at, method, metric, (values[0], values[1]), found)


def _most_changed(results: Results, other: Group, places: Sequence[str]) -> list[Moved]:
    """The images whose IoU by LCHP-R moved furthest, over all settings."""
    moved = []
    for at in places:
        settings = [{_GROUP: place, _SETTING: at} for place in (0, 1)]
        seeds = set(results.seeds(settings[0])) & set(results.seeds(settings[1]))
        both = [[results.images(setting, seed) for seed in sorted(seeds)] for setting in settings]
        flat = [images for images in (*both[0], *both[1]) if images is not None and LCHP_R in images.ious]
        if not seeds or len(flat) < 2 * len(seeds) or not all(images.same_images(flat[0]) for images in flat):
            continue
        before, after = (np.mean([images.ious[LCHP_R] for images in some if images], axis=0) for some in both)
        order = np.argsort(-np.nan_to_num(np.abs(after - before)), kind="stable")[:MOST_CHANGED]
        moved += [Moved(other.name, at, flat[0].paths[i], float(before[i]), float(after[i])) for i in order]
    moved = [one for one in moved if one.before != one.after and one.before == one.before]
    return sorted(moved, key=lambda one: -abs(one.after - one.before))[:MOST_CHANGED]


def boxes_of(groups: Sequence[Group], split: str, one: Moved) -> tuple[Box, Box]:
    """The boxes of LCHP-R of an image that moved, in pixels: of the first group and of the other, by the first seed
    that both have.
    """
    first, other = groups[0], next(group for group in groups[1:] if group.name == one.right)
    keys = varied_keys((*first.trials, *other.trials))
    rows = [[trial for trial in group.trials if one.at in ("", setting_of(trial, keys))] for group in (first, other)]
    alone = len(first.trials) == len(other.trials) == 1
    seeds = [trial.seed for trial in rows[0] if alone or trial.seed in {row.seed for row in rows[1]}]
    left, right = (next(row for row in some if alone or row.seed == seeds[0]) for some in rows)
    return _box(left, split, one.path), _box(right, split, one.path)


def _box(trial: TrialRow, split: str, path: str) -> Box:
    wanted = (path, split, LCHP_R)
    return next(
        box_of(row) for row in StageFolder(trial.folder).per_image() if tuple(row[key] for key in KEY) == wanted
    )


def _configuration(groups: Sequence[Group]) -> dict[str, tuple[list[Any], ...]]:
    """The keys that the groups do not have the same values of, and what they were made with; seeds and paths apart."""
    forms = [[_form(trial) for trial in group.trials] for group in groups]
    keys = dict.fromkeys(key for some in forms for form in some for key in form)
    found = {key: tuple(distinct([form.get(key) for form in some]) for some in forms) for key in keys}
    return {key: values for key, values in found.items() if any(other != values[0] for other in values[1:])}


def _form(trial: TrialRow) -> dict[str, Any]:
    folder = StageFolder(trial.folder)
    try:
        form = flatten(results_form(stored_config(folder.config())))
    except ValueError:  # of another version, whose fields this one does not know
        form = flatten(folder.config())
    form.pop("seed", None)
    made = flatten(folder.environment())
    return form | {key: made[key] for key in made if key in ("commit", "device") or key.startswith("versions.")}
