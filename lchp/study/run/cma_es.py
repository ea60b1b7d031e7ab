"""CMA-ES (Hansen 2016, arXiv:1604.00772) as a sampler of searches.

Optuna's own keeps its state among the suggestions as a pickle, in a file or a database that people pass on. Here it is
worked out anew for every suggestion, from what the finished ones have reached, generation after generation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, TrialState

Array = NDArray[np.float64]
_STEP = 1 / 6
"""The first standard deviation: six of them span the cube."""
_DRAWS = 100
"""How often a point outside of the cube is drawn again before it is put on the border."""
_SMALLEST = 1e-14
"""Of the covariance's eigenvalues, which rounding would let become negative."""


def population(dimensions: int) -> int:
    """Points of a generation (Table 1)."""
    return 4 + int(3 * math.log(dimensions))


@dataclass(frozen=True)
class State:
    """A normal distribution over the unit cube of d dimensions, and how its mean has moved (Algorithm of figure 6).

    Attributes:
        mean: (d,).
        step: the overall standard deviation, above 0.
        covariance: (d, d), relative to ``step``.
        path: (d,), of the mean, by which the covariance changes.
        free_path: (d,), the same in coordinates without correlation, by whose length ``step`` changes.
        generation: how many came before.
    """

    mean: Array
    step: float
    covariance: Array
    path: Array
    free_path: Array
    generation: int = 0

    @classmethod
    def begun(cls, dimensions: int) -> State:
        """The middle of the cube."""
        none = np.zeros(dimensions)
        return cls(none + 0.5, _STEP, np.eye(dimensions), none, none)

    @property
    def axes(self) -> tuple[Array, Array]:
        """The eigenvectors of the covariance, in columns (d, d), and the roots of its eigenvalues (d,)."""
        values, vectors = np.linalg.eigh(self.covariance)
        return vectors, np.sqrt(np.maximum(values, _SMALLEST))

    def drawn(self, random: np.random.Generator) -> Array:
        """A point (d,) of the cube (Eq. 38 to 40)."""
        vectors, roots = self.axes
        for _ in range(_DRAWS):
            point: Array = self.mean + self.step * vectors @ (roots * random.standard_normal(len(self.mean)))
            if ((point >= 0) & (point <= 1)).all():
                return point
        return np.clip(point, 0, 1)

    def after(self, points: Array) -> State:
        """The distribution after a generation (n, d), the best point first. It may hold points that another drew: a
        step is cut at the length beyond which it is none of this distribution's (Hansen 2011, arXiv:1110.4181).
        """
        size, dimensions = points.shape
        weights = math.log((size + 1) / 2) - np.log(np.arange(1, size // 2 + 1))
        weights /= weights.sum()
        effective = 1 / (weights**2).sum()
        share_step = (effective + 2) / (dimensions + effective + 5)
        damping = 1 + 2 * max(0.0, math.sqrt((effective - 1) / (dimensions + 1)) - 1) + share_step
        share_path = (4 + effective / dimensions) / (dimensions + 4 + 2 * effective / dimensions)
        rank_one = 2 / ((dimensions + 1.3) ** 2 + effective)
        rank_mu = min(1 - rank_one, 2 * (effective - 2 + 1 / effective) / ((dimensions + 2) ** 2 + effective))
        expected = math.sqrt(dimensions) * (1 - 1 / (4 * dimensions) + 1 / (21 * dimensions**2))

        vectors, roots = self.axes
        whitening = vectors / roots @ vectors.T
        moves = (points[: len(weights)] - self.mean) / self.step
        lengths = np.linalg.norm(moves @ whitening, axis=1)
        longest = math.sqrt(dimensions) + 2 * dimensions / (dimensions + 2)
        moves = moves * np.minimum(1, longest / np.maximum(lengths, _SMALLEST))[:, None]
        move = weights @ moves

        free_path = (1 - share_step) * self.free_path
        free_path = free_path + math.sqrt(share_step * (2 - share_step) * effective) * whitening @ move
        length = float(np.linalg.norm(free_path))
        begun = math.sqrt(1 - (1 - share_step) ** (2 * (self.generation + 1)))
        goes_on = length / begun < (1.4 + 2 / (dimensions + 1)) * expected
        path = (1 - share_path) * self.path + goes_on * math.sqrt(share_path * (2 - share_path) * effective) * move
        stalled = (not goes_on) * rank_one * share_path * (2 - share_path)
        covariance = (
            (1 - rank_one - rank_mu + stalled) * self.covariance
            + rank_one * np.outer(path, path)
            + rank_mu * (moves.T * weights) @ moves
        )
        step = self.step * math.exp(share_step / damping * (length / expected - 1))
        return State(self.mean + self.step * move, step, covariance, path, free_path, self.generation + 1)


class CmaEs(BaseSampler):  # type: ignore[misc]
    """Draws the numbers of a space together, by what complete trials have reached, and the rest at random."""

    def __init__(self, numbers: Mapping[str, BaseDistribution], seed: int) -> None:
        """``numbers`` are the floats and integers that every trial has."""
        self._numbers = dict(numbers)
        self._random, self._others = np.random.default_rng(seed), RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: OptunaStudy, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What is drawn together."""
        return self._numbers

    def sample_relative(
        self, study: OptunaStudy, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next point."""
        if not search_space:
            return {}
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        told = [one for one in ended if search_space.keys() <= one.params.keys()]
        state, size = State.begun(len(search_space)), population(len(search_space))
        for start in range(0, len(told) - size + 1, size):
            best_first = sorted(told[start : start + size], key=lambda one: -one.values[0])
            points = [[_place(space, one.params[name]) for name, space in search_space.items()] for one in best_first]
            state = state.after(np.array(points))
        point = state.drawn(self._random)
        return {name: _value(space, place) for (name, space), place in zip(search_space.items(), point, strict=True)}

    def sample_independent(
        self, study: OptunaStudy, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """At random."""
        return self._others.sample_independent(study, trial, param_name, param_distribution)


def _ends(space: BaseDistribution) -> tuple[float, float]:
    """Where a range begins and ends in the units in which it is even; an integer stands for all that rounds to it."""
    assert isinstance(space, FloatDistribution | IntDistribution), "choices are not drawn together"
    half = 0.5 if isinstance(space, IntDistribution) else 0.0
    low, high = space.low - half, space.high + half
    return (math.log(low), math.log(high)) if space.log else (low, high)


def _place(space: BaseDistribution, value: float) -> float:
    """Where in [0, 1] a value lies in its range."""
    low, high = _ends(space)
    return ((math.log(value) if space.log else value) - low) / (high - low)


def _value(space: BaseDistribution, place: float) -> float | int:
    """The value at a place in [0, 1] of a range."""
    low, high = _ends(space)
    value = low + float(place) * (high - low)
    value = math.exp(value) if space.log else value
    value = min(max(value, float(space.low)), float(space.high))
    return round(value) if isinstance(space, IntDistribution) else value
