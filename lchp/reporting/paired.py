"""The results of a study, looked up by setting, method and seed, and compared pair by pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lchp.data.fingerprint import canonical
from lchp.reporting.evidence import NOTHING_SELECTED
from lchp.reporting.frame import TrialRow
from lchp.reporting.per_image import ImageValues
from lchp.reporting.sides import Side
from lchp.reporting.statistics import Comparison, compare
from lchp.vocabulary import LCHP_R, METRICS


class Results:
    """What the finished trials of a study reached on a split.

    Args:
        frame: tidy rows, as ``frame.collect`` gives them.
        trials: those of ``frame``, whose folders hold single images; None where only the rows are at hand.
    """

    def __init__(self, frame: pd.DataFrame, split: str, trials: Sequence[TrialRow] | None = None) -> None:
        part = frame[frame["split"] == split]
        columns = list(frame.columns)
        self.split = split
        self.varied = columns[columns.index("seed") + 1 : columns.index("method")]
        keys = zip(part["run_id"], part["method"], part["metric"], strict=True)
        self._values: dict[tuple[str, str, str], float] = dict(zip(keys, part["value"].astype(float), strict=True))
        self._measured = set(zip(part["method"], part["metric"], strict=True))
        self._settings: dict[str, dict[str, Any]] = {}
        self._runs: dict[str, dict[int, str]] = {}
        self._trials = {trial.run_id: trial for trial in trials or ()}
        for row in frame.drop_duplicates("run_id").to_dict("records"):
            setting = {str(key): _plain(row[key]) for key in self.varied}
            self._settings.setdefault(_key(setting), setting)
            self._runs.setdefault(_key(setting), {})[int(row["seed"])] = str(row["run_id"])

    @property
    def trials(self) -> Sequence[TrialRow]:
        """Those whose folders are at hand."""
        return tuple(self._trials.values())

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured on the split."""
        return not self._values

    def measures(self, method: str, metric: str) -> bool:
        """Whether any trial has that score."""
        return (method, metric) in self._measured

    def settings(self) -> list[dict[str, Any]]:
        """What was trained, in the order of the rows."""
        return list(self._settings.values())

    def seeds(self, setting: Mapping[str, Any]) -> list[int]:
        """The seeds with which a setting was trained."""
        return sorted(self._runs.get(_key(setting), ()))

    def trial(self, setting: Mapping[str, Any], seed: int) -> TrialRow | None:
        """The trial, where its folder is at hand."""
        return self._trials.get(self._runs[_key(setting)][seed])

    def images(self, setting: Mapping[str, Any], seed: int) -> ImageValues | None:
        """The values of single images, where the trial's folder is at hand and has kept them."""
        trial = self.trial(setting, seed)
        return trial.evidence.values.get(self.split) if trial else None

    def is_untaught(self, side: Side) -> bool:
        """Whether it is LCHP-R, and no trial of it, as far as folders are at hand, had a box to refine by."""
        trials = [self.trial(side.setting, seed) for seed in self.seeds(side.setting)]
        known = [trial.evidence.degenerations for trial in trials if trial is not None]
        return (
            side.method == LCHP_R
            and bool(known)
            and all(any(one.short == NOTHING_SELECTED for one in found) for found in known)
        )

    def value(self, side: Side, seed: int, metric: str) -> float | None:
        """A score, shares in percent; None where it was not measured."""
        run = self._runs.get(_key(side.setting), {}).get(seed)
        found = None if run is None else self._values.get((run, side.method, metric))
        return None if found is None else _unit(metric) * found

    def compare(self, left: Side, right: Side, metric: str) -> Comparison | None:
        """The difference ``left - right`` over the seeds that both have; None where they share none."""
        return self.contrast((left, right), (1, -1), metric)

    def contrast(self, sides: Sequence[Side], weights: Sequence[float], metric: str) -> Comparison | None:
        """The weighted sum of what the sides reached, over the seeds that all have; None where they share none."""
        seeds, by_seed = [], []
        for seed in self.seeds(sides[0].setting):
            values = [self.value(side, seed, metric) for side in sides]
            known = [value for value in values if value is not None]
            if len(known) == len(sides):
                seeds.append(seed)
                by_seed.append(math.fsum(weight * value for weight, value in zip(weights, known, strict=True)))
        return compare(by_seed, *self._of_images(sides, weights, seeds, metric)) if seeds else None

    def _of_images(
        self, sides: Sequence[Side], weights: Sequence[float], seeds: Sequence[int], metric: str
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The weighted sums of single images (seeds, images) and their classes; None where they are not known for all
        seeds, or are of other images.
        """
        rows, first = [], None
        for seed in seeds:
            row: Any = 0.0
            for side, weight in zip(sides, weights, strict=True):
                images = self.images(side.setting, seed)
                values = images.values(side.method, metric) if images else None
                if images is None or values is None or (first is not None and not images.same_images(first)):
                    return None, None
                first = first or images
                row = row + _unit(metric) * weight * values
            rows.append(row)
        assert first is not None, "there is a seed"
        differences = np.stack(rows)
        known = ~np.isnan(differences).any(0)
        return differences[:, known], first.classes[known]


def _unit(metric: str) -> int:
    return 100 if METRICS[metric].share else 1


def _key(setting: Mapping[str, Any]) -> str:
    """Equal for equal values, 1 and 1.0 among them, in any order of the keys."""
    return canonical({key: float(one) if _is_number(one) else one for key, one in sorted(setting.items())})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """What pandas read back: an empty cell is None."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and np.isnan(plain) else plain
