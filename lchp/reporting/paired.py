"""The results of a study, looked up by setting, method and seed, and compared pair by pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lchp.data.fingerprint import canonical
from lchp.reporting.frame import TrialRow
from lchp.reporting.per_image import ImageValues
from lchp.reporting.statistics import Comparison, compare
from lchp.vocabulary import METRICS


@dataclass(frozen=True)
class Side:
    """One of two results that are compared: a method in a setting, the values of all that varies."""

    setting: Mapping[str, Any]
    method: str


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

    def settings(self) -> list[dict[str, Any]]:
        """What was trained, in the order of the rows."""
        return list(self._settings.values())

    def seeds(self, setting: Mapping[str, Any]) -> list[int]:
        """The seeds with which a setting was trained."""
        return sorted(self._runs.get(_key(setting), ()))

    def trial(self, setting: Mapping[str, Any], seed: int) -> TrialRow | None:
        """The trial, where its folder is at hand."""
        return self._trials.get(self._runs[_key(setting)][seed])

    def value(self, side: Side, seed: int, metric: str) -> float | None:
        """A score, shares in percent; None where it was not measured."""
        run = self._runs.get(_key(side.setting), {}).get(seed)
        found = None if run is None else self._values.get((run, side.method, metric))
        return None if found is None else _unit(metric) * found

    def compare(self, left: Side, right: Side, metric: str) -> Comparison | None:
        """The difference ``left - right`` over the seeds that both have; None where they share none."""
        seeds, by_seed = [], []
        for seed in self.seeds(left.setting):
            values = self.value(left, seed, metric), self.value(right, seed, metric)
            if values[0] is not None and values[1] is not None:
                seeds.append(seed)
                by_seed.append(values[0] - values[1])
        if not seeds:
            return None
        return compare(by_seed, *self._of_images(left, right, seeds, metric))

    def _of_images(
        self, left: Side, right: Side, seeds: Sequence[int], metric: str
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The differences of single images (seeds, images) and their classes; None where they are not known for all
        seeds, or are of other images.
        """
        rows, first = [], None
        for seed in seeds:
            both = [self._image_values(side, seed) for side in (left, right)]
            if both[0] is None or both[1] is None:
                return None, None
            first = first or both[0]
            if not first.paths == both[0].paths == both[1].paths:
                return None, None
            mine, other = both[0].values(left.method, metric), both[1].values(right.method, metric)
            if mine is None or other is None:
                return None, None
            rows.append(_unit(metric) * (mine - other))
        assert first is not None, "there is a seed"
        differences = np.stack(rows)
        known = ~np.isnan(differences).any(0)
        return differences[:, known], first.classes[known]

    def _image_values(self, side: Side, seed: int) -> ImageValues | None:
        trial = self.trial(side.setting, seed)
        return trial.evidence.values.get(self.split) if trial else None


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
