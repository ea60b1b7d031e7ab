"""What numbers over seeds and images say: mean and spread, and what the difference between two results is worth.

Two results are paired by image and seed: both saw the same seeds and the same images, and what an image or a seed does
to both falls out of their difference. Such a difference carries two statements, which are not the same:

- *New seeds*: what other seeds would give on these images. Student's t over the seeds' own differences.
- *These seeds*: what the networks of these seeds would give on other images. Images are resampled, whole classes at a
  time, since images of a class resemble each other; every seed sees the same resampled images.

Numbers are in the unit of what is given: shares in percent make differences in points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import nctdtr, nctdtrinc, stdtr, stdtrit

LEVEL = 0.95
"""Of every interval, two-sided."""

POWER = 0.8
"""The probability with which the smallest visible difference is seen."""

FEWEST_RESAMPLED = 12
"""Of fewer classes the resampled ones are too often alike, and see too little; Student's t over them does not."""

ONE_SEED = "one seed: no statement"
"""In place of what new seeds would say."""

STEADY = "the same in every seed"
"""There, too, where several seeds have one difference: what it is worth the images say alone."""

RESAMPLES = 1_999
"""Of the classes: LEVEL of so many and the sample itself is a whole number, so that p and interval agree."""

RESAMPLING_SEED = 2022
"""All differences over so many classes are judged by the same resamples: the same files give the same numbers."""

MOST_SEEDS = 1_000
"""More are asked of nobody."""


@dataclass(frozen=True)
class Summary:
    """``n`` values in two numbers: mean and sample standard deviation, None where a single value shows no spread."""

    n: int
    mean: float
    std: float | None

    @property
    def has_spread(self) -> bool:
        """Whether the values differ by more than rounding."""
        return self.std is not None and self.std > 1e-9 * max(1.0, abs(self.mean))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the mean over all seeds lies, by Student's t at LEVEL; None where the values show no spread."""
        if self.std is None or not self.has_spread:
            return None
        reach = _t(self.n - 1) * self.std / math.sqrt(self.n)
        return self.mean - reach, self.mean + reach

    def text(self, places: int) -> str:
        """``mean ± spread (n)``, or ``mean (1)``, with so many decimals."""
        spread = "" if self.std is None else f" ± {self.std:.{places}f}"
        return f"{self.mean:.{places}f}{spread} ({self.n})"


def summarize(values: Sequence[float]) -> Summary | None:
    """Mean and sample standard deviation (divisor n - 1), None for no values.

    Sums are exactly rounded, so that the order of the values does not matter.
    """
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(1, mean, None)
    return Summary(n, mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1)))


@dataclass(frozen=True)
class Interval:
    """Where a difference lies at LEVEL.

    Attributes:
        p: two-sided; below 1 - LEVEL where the interval leaves 0 out.
        smallest: the true difference that data like these show with the probability POWER: smaller ones are not seen.
    """

    low: float
    high: float
    p: float
    smallest: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves 0 out, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def new_seeds(differences: Sequence[float]) -> Interval | None:
    """Student's paired t over the seeds' differences; None of one seed, or of seeds that all have the same one."""
    found = summarize(differences)
    if found is None or found.std is None or not found.has_spread:
        return None
    return _student(found.mean, found.std / math.sqrt(found.n), found.n - 1)


def these_seeds(differences: np.ndarray, classes: np.ndarray) -> Interval | None:
    """Over other images, of what the seeds have in the mean: a bootstrap of whole classes with Student's statistic,
    symmetric; of fewer than FEWEST_RESAMPLED classes Student's t over the classes, of one class over its images.

    Args:
        differences: (seeds, images).
        classes: (images,), their labels.

    Returns:
        None where no class differs from another.

    >>> images = np.array([[1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]])
    >>> found = these_seeds(images, np.zeros(8))
    >>> round(found.low, 2), round(found.high, 2)
    (0.44, 1.06)
    """
    images = differences.mean(0)
    _, owner = np.unique(classes, return_inverse=True)
    sums, sizes = np.bincount(owner, images), np.bincount(owner).astype(float)
    clusters = len(sums)
    if clusters < 2:
        return new_seeds(images.tolist())
    means, errors = _ratio(np.ones((1, clusters)), sums, sizes)
    mean, error = float(means[0]), float(errors[0])
    if error == 0:
        return None
    if clusters < FEWEST_RESAMPLED:
        return _student(mean, error, clusters - 1)
    resampled, errors = _ratio(_resamples(clusters), sums, sizes)
    with np.errstate(divide="ignore", invalid="ignore"):
        # One class alone shows no spread: such a resample lies as far out as any.
        statistics = np.sort(np.where(errors > 0, np.abs(resampled - mean) / errors, np.inf))
    reach = float(statistics[round(LEVEL * (RESAMPLES + 1)) - 1])
    beyond = RESAMPLES - int(np.searchsorted(statistics, abs(mean) / error))
    return _interval(mean, error, reach, (1 + beyond) / (1 + RESAMPLES), clusters - 1)


def _ratio(weights: np.ndarray, sums: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over images and its standard error by classes, of every row of ``weights`` (how often a class is there)."""
    clusters = len(sums)
    images = weights @ sizes
    means = (weights @ sums) / images
    squares = weights @ sums**2 - 2 * means * (weights @ (sums * sizes)) + means**2 * (weights @ sizes**2)
    # What rounding leaves of equal classes is no spread.
    squares = np.where(squares > 1e-12 * (weights @ sums**2), squares, 0.0)
    return means, np.sqrt(squares * clusters / (clusters - 1)) / images


@lru_cache(maxsize=4)
def _resamples(clusters: int) -> np.ndarray:
    """How often each class is drawn (RESAMPLES, clusters)."""
    draws = np.random.default_rng(RESAMPLING_SEED).multinomial(clusters, [1 / clusters] * clusters, RESAMPLES)
    return draws.astype(float)


def _student(mean: float, error: float, freedom: int) -> Interval:
    return _interval(mean, error, _t(freedom), 2 * float(stdtr(freedom, -abs(mean) / error)), freedom)


def _interval(mean: float, error: float, reach: float, p: float, freedom: int) -> Interval:
    # The far tail, at most 2.5 %, is left out of the power.
    smallest = float(nctdtrinc(freedom, 1 - POWER, reach)) * error if math.isfinite(reach) else math.inf
    return Interval(mean - reach * error, mean + reach * error, p, smallest)


def _t(freedom: int) -> float:
    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def beats(differences: Sequence[float]) -> float | None:
    """The probability that a new seed has a difference above 0, by Student's t prediction; None as ``new_seeds``."""
    found = summarize(differences)
    if found is None or found.std is None or not found.has_spread:
        return None
    return float(stdtr(found.n - 1, found.mean / (found.std * math.sqrt(1 + 1 / found.n))))


def seeds_needed(differences: Sequence[float]) -> int | None:
    """How many seeds show, with the probability POWER, the mean difference that these have with their spread; None
    where they have none, or MOST_SEEDS are too few.
    """
    found = summarize(differences)
    if found is None or found.std is None or not found.has_spread:
        return None
    for seeds in range(2, MOST_SEEDS + 1):
        distance = abs(found.mean) / found.std * math.sqrt(seeds)
        if distance > 2 and 1 - nctdtr(seeds - 1, distance, _t(seeds - 1)) >= POWER:
            return seeds
    return None


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for being several (Holm 1979): the chance of any false alarm among them stays what one's was.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    order = sorted((value, at) for at, value in enumerate(values) if value is not None)
    adjusted: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (value, at) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * value))
        adjusted[at] = largest
    return adjusted


@dataclass(frozen=True)
class Comparison:
    """A difference between two results, and what it is worth.

    Attributes:
        by_seed: the difference of every seed, in the order of the seeds.
        images: how many images both have; None where single images are not known.
        these_seeds: None, too, where single images are not known.
    """

    by_seed: tuple[float, ...]
    images: int | None
    new_seeds: Interval | None
    these_seeds: Interval | None

    @property
    def difference(self) -> float:
        """The mean over seeds."""
        return math.fsum(self.by_seed) / len(self.by_seed)

    @property
    def probability(self) -> float | None:
        """That a new seed has a difference above 0."""
        return beats(self.by_seed)

    @property
    def is_steady(self) -> bool:
        """Whether several seeds have the same difference, as where none of them reaches what is compared."""
        found = summarize(self.by_seed)
        return found is not None and found.n > 1 and not found.has_spread

    @property
    def is_nothing(self) -> bool:
        """Whether neither seeds nor images show any difference."""
        return self.is_steady and self.difference == 0 and self.images is not None and self.these_seeds is None

    @property
    def _statements(self) -> list[Interval | None]:
        """What has to speak: new seeds, unless the seeds do not differ and single images are known; other images, where
        these are known.
        """
        if self.images is None:
            return [self.new_seeds]
        return [self.these_seeds] if self.is_steady else [self.new_seeds, self.these_seeds]

    @property
    def sign(self) -> int:
        """1 or -1 where new seeds and, as far as images are known, new images would say so; else 0. Seeds that all have
        the same difference leave it to the images alone.
        """
        signs = {one.sign if one else 0 for one in self._statements}
        return signs.pop() if len(signs) == 1 else 0

    @property
    def p(self) -> float:
        """The largest p of those that have to speak for a sign; 1 where one of them is silent."""
        return max(1.0 if one is None else one.p for one in self._statements)


def compare(
    by_seed: Sequence[float], images: np.ndarray | None = None, classes: np.ndarray | None = None
) -> Comparison:
    """What a difference is worth.

    Args:
        by_seed: one difference a seed.
        images: (seeds, images), the differences of single images; ``classes`` (images,) are their labels.
    """
    if images is None or classes is None or not images.shape[1]:
        return Comparison(tuple(by_seed), None, new_seeds(by_seed), None)
    return Comparison(tuple(by_seed), images.shape[1], new_seeds(by_seed), these_seeds(images, classes))
