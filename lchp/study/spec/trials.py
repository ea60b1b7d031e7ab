"""A resolved trial: what a study's file, validated once, comes to. Nothing of it is read from a file again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lchp.data.fingerprint import canonical
from lchp.study.spec.values import varied_values
from lchp.training.config import TrialConfig
from lchp.training.given_paths import paths_of, with_paths


@dataclass(frozen=True)
class ResolvedTrial:
    """One trial: what Ray carries, what a worker trains, what the recorder writes down."""

    name: str
    """What varies, and the seed; of a search's suggestion its number and what varies, and the seed of several."""
    config: TrialConfig
    """Final: the seed is in it, and its paths are absolute, because workers stand in other folders."""
    varied: dict[str, Any]
    """The plain values of the varied keys."""
    number: int
    """Its place in the plan, or that of its suggestion in the search."""


def resolve(grid: Iterable[TrialConfig], seeds: Sequence[int], varied: Sequence[str]) -> tuple[ResolvedTrial, ...]:
    """Every distinct configuration with every seed, in the order written."""
    trials: dict[TrialConfig, ResolvedTrial] = {}
    for config in grid:
        for seed in seeds:
            final = with_absolute_paths(config.model_copy(update={"seed": seed}))
            if final not in trials:
                values = varied_values(final, varied)
                trials[final] = ResolvedTrial(trial_name(values, seed), final, values, len(trials))
    return tuple(trials.values())


def with_absolute_paths(config: TrialConfig) -> TrialConfig:
    """The configuration with its paths counted from the working folder."""
    return with_paths(config, {key: path.absolute() for key, path in paths_of(config).items() if path is not None})


def trial_name(varied: Mapping[str, Any], seed: int) -> str:
    """What varies, and the seed: ``delta=0.5 seed=0``."""
    return " ".join(f"{key}={_word(value)}" for key, value in {**varied, "seed": seed}.items())


def suggestion_name(number: int, varied: Mapping[str, Any], seed: int | None = None) -> str:
    """A search's suggestion: its number and its values, shortened, and the seed where it is trained with several."""
    seeds = {} if seed is None else {"seed": seed}
    short = {key: float(f"{value:.3g}") if isinstance(value, float) else value for key, value in varied.items()}
    return " ".join([f"#{number}", *(f"{key}={_word(value)}" for key, value in {**short, **seeds}.items())])


def _word(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value).replace('"', "")
