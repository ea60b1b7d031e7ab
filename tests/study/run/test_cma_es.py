"""The sampler that draws numbers together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from lchp.study.run.cma_es import Array, CmaEs, State, population

SPACE = {
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "delta": FloatDistribution(0.2, 0.8),
    "batch": IntDistribution(8, 64, log=True),
}


def ellipsoid(dimensions: int) -> Callable[[Array], float]:
    """A narrow valley across the axes, whose floor is at 0.7 of each: the squared lengths differ by 1e4."""
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((dimensions, dimensions)))
    scales = np.logspace(0, 2, dimensions)
    return lambda point: float(((scales * (turn @ (point - 0.7))) ** 2).sum())


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_state_comes_to_the_floor_of_a_narrow_valley_that_points_at_random_miss(dimensions: int) -> None:
    value, random, state = ellipsoid(dimensions), np.random.default_rng(0), State.begun(dimensions)
    for _ in range(400):
        points = np.array([state.drawn(random) for _ in range(population(dimensions))])
        assert ((points >= 0) & (points <= 1)).all()
        state = state.after(points[np.argsort([value(point) for point in points])])
    assert value(state.mean) < 1e-8
    assert min(value(point) for point in random.random((400 * population(dimensions), dimensions))) > 1e-8


def test_state_does_not_depend_on_the_scale_of_what_is_reached_nor_on_the_worse_half() -> None:
    points = np.random.default_rng(0).random((population(3), 3))
    state = State.begun(3).after(points)
    other = points.copy()
    other[len(points) // 2 :] = other[len(points) // 2 :][::-1]
    for name in ("mean", "step", "covariance", "path", "free_path", "generation"):
        np.testing.assert_array_equal(getattr(state, name), getattr(State.begun(3).after(other), name))
    assert state.generation == 1


def test_state_that_is_given_far_points_keeps_its_mean_near() -> None:
    near = State(np.full(2, 0.5), 1e-3, np.eye(2), np.zeros(2), np.zeros(2))
    after = near.after(np.ones((population(2), 2)))
    assert np.linalg.norm(after.mean - near.mean) == pytest.approx(1e-3 * (np.sqrt(2) + 1))
    assert after.step < 3e-3


def test_state_after_a_generation_of_one_dimension_is_that_of_the_paper_by_hand() -> None:
    # d = 1: 4 points, of which 2 count, by ln 2.5 and ln 1.25 over their sum.
    state = State.begun(1).after(np.array([[0.6], [0.55], [0.1], [0.2]]))
    first = np.log(2.5) / np.log(3.125)
    assert state.mean[0] == pytest.approx(0.5 + first * 0.1 + (1 - first) * 0.05)
    effective = 1 / (first**2 + (1 - first) ** 2)
    share = (effective + 2) / (effective + 6)
    move = 6 * (first * 0.1 + (1 - first) * 0.05)
    path = np.sqrt(share * (2 - share) * effective) * move
    expected = 1 - 1 / 4 + 1 / 21
    assert state.free_path[0] == pytest.approx(path)
    assert state.step == pytest.approx(np.exp(share / (1 + share) * (path / expected - 1)) / 6)


def test_cma_es_comes_nearer_than_random_to_the_best_values_of_ranges_and_integers() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def reached(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
        delta, batch = trial.suggest_float("delta", 0.2, 0.8), trial.suggest_int("batch", 8, 64, log=True)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        return -((np.log10(rate) + 2.3) ** 2 + (delta - 0.35) ** 2 + (np.log2(batch / 20)) ** 2 + (kind == "b"))

    best = []
    for sampled in (lambda seed: CmaEs(SPACE, seed), optuna.samplers.RandomSampler):
        study = optuna.create_study(direction="maximize")
        for number in range(80):
            study.sampler = sampled(number)
            study.optimize(reached, n_trials=1)
        values = [trial.params for trial in study.trials]
        assert all(8 <= one["batch"] <= 64 and 1e-4 <= one["rate"] <= 1e-1 for one in values)
        assert {one["kind"] for one in values} == {"a", "b"}
        best.append(study.best_value)
    assert best[0] > best[1] / 4
