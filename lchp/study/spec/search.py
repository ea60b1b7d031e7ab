"""What a study's file may say of an Optuna search: its space, its sampler, what it makes as large as it can."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from lchp.data.config import Config
from lchp.data.fingerprint import canonical
from lchp.vocabulary import (
    BOX_FREE,
    GT_KNOWN,
    LCHP_R,
    METHODS,
    METRICS,
    PSEUDO_LABEL,
    TOP1_CLS,
    VAL,
    Score,
    predicting,
)

if TYPE_CHECKING:
    Method: TypeAlias = str
    Judge: TypeAlias = str
else:
    # Type checkers want a Literal's words typed out; they stand in the vocabulary alone.
    Method = Literal[tuple(name for name, method in METHODS.items() if method.every_epoch)]
    # A search makes its objective as large as it can.
    Judge = Literal[(*(name for name, metric in METRICS.items() if metric.higher_is_better), *BOX_FREE)]
Choice = str | int | float | bool | tuple[str, ...]
"""A list of augmentations becomes its one word where the study is read: storage wants plain choices."""


class Range(Config):
    """Numbers from `low` to `high`, both included."""

    low: int | float = Field(description="smallest value")
    high: int | float = Field(description="largest value")
    log: bool = Field(False, description="true draws on a logarithmic scale")

    @property
    def whole(self) -> bool:
        """Whether it holds integers alone."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}: exchange or widen them")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low} has no logarithm: make it positive, or log: false")
        return self


Choices: TypeAlias = Annotated[tuple[Choice, ...], Field(min_length=1)]


def word(choice: Choice) -> str:
    """A choice as a key of YAML."""
    return choice if isinstance(choice, str) else canonical(choice)


class PerChoice(Config):
    """Values of a key that depend on the choice of another."""

    per: str = Field(description="the key of the space, with a list of choices, on which it depends")
    values: dict[str, Range | Choices] = Field(
        min_length=1,
        description="{low, high, log} or a list of choices for each choice of `per`; at one that is not named the key "
        "keeps the study's own value",
    )


def _kind_of_mapping(values: object) -> str:
    is_per = isinstance(values, PerChoice) or (isinstance(values, Mapping) and "per" in values)
    return "per-choice" if is_per else "range"


Space: TypeAlias = dict[
    str,
    Annotated[Annotated[Range, Tag("range")] | Annotated[PerChoice, Tag("per-choice")], Discriminator(_kind_of_mapping)]
    | Choices,
]
"""What a search may suggest, by dotted key."""
Values: TypeAlias = Range | tuple[Choice, ...]
"""What a key may be in some part of the space."""


class Objective(Config):
    """What the search makes as large as it can, always on the val split; of several seeds their mean."""

    method: Method = Field(LCHP_R, description="whose boxes are judged")
    metric: Judge = Field(
        GT_KNOWN,
        description=f"what judges them; without true boxes {', '.join(BOX_FREE)} and {TOP1_CLS}, which is of no method",
    )

    @property
    def key(self) -> str:
        """The objective among the metrics of an epoch: `<method>/val/<metric>`."""
        return f"{self.method}/{VAL}/{self.metric}"

    @property
    def title(self) -> str:
        """What it is, for people, and whether it takes true boxes."""
        metric = BOX_FREE.get(self.metric) or METRICS[self.metric].title
        kind = "with true boxes" if self.needs_boxes else "box-free"
        return f"{metric} of {METHODS[self.method].title} on {VAL} ({kind})"

    @property
    def needs_boxes(self) -> bool:
        """Whether it takes true boxes of val."""
        return self.metric in METRICS and METRICS[self.metric].needs_boxes

    @model_validator(mode="after")
    def _of_two(self) -> Objective:
        if self.metric in BOX_FREE and self.method == PSEUDO_LABEL:
            raise ValueError(f"{self.metric} is of predicted boxes, not of {PSEUDO_LABEL}: choose another of the two")
        return self

    def so_far(self, metrics: Mapping[str, float]) -> float | None:
        """The metric among those of an epoch, of the method or of the last one before it that the epoch measures."""
        methods = list(predicting())
        until = methods[: methods.index(self.method) + 1]
        keys = (Score(method, VAL, self.metric).key for method in reversed(until))
        return next((metrics[key] for key in keys if key in metrics), None)


class Pruner(Config):
    """When a search stops a suggestion before its end: by what the objective's metric is on val after an epoch, counted
    over both stages. Until a stage measures the objective's method, the best method before it stands for it.
    """

    kind: Literal["asha", "median"] = Field(
        "asha", description="asynchronous successive halving (Li et al. 2020), or the median of the others so far"
    )
    grace: int = Field(1, ge=1, le=200_000, description="epochs that every suggestion gets")
    reduction: int = Field(
        3, ge=2, le=1_000, description="asha: one in so many goes on at a rung; the next lies so many times as far"
    )
    startup: int = Field(5, ge=0, le=10_000, description="median: suggestions that are trained to their end before")


class Stop(Config):
    """When a search makes no further suggestion, before it has made all. What has begun is trained to its end."""

    hours: float | None = Field(
        None,
        gt=0,
        le=100_000,
        description="hours in which its trials were trained and measured, whoever was beside whom",
    )
    gpu_hours: float | None = Field(
        None, gt=0, le=10_000_000, description="hours of all its trials' training and measuring, times resources.gpus"
    )
    patience: int | None = Field(
        None, ge=1, le=10_000, description="suggestions that ended after the best one without being better"
    )


class Search(Config):
    """An Optuna search over dotted keys of the trial."""

    trials: int = Field(ge=1, le=10_000, description="number of suggestions, each trained with every seed")
    sampler: Literal["tpe", "random", "gp", "cmaes", "nsga2"] = Field(
        "tpe",
        description="tree-structured Parzen estimator, at random, Gaussian process, for few trials, CMA-ES, for many "
        "numbers and trials, or NSGA-II, for two objectives",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the sampler")
    space: Space = Field(
        min_length=1,
        description="dotted key to {low, high, log}, a list of choices, or {per: key, values: {choice: ...}} with one "
        "of these for each choice of another key",
    )
    first: tuple[dict[str, Choice], ...] = Field(
        (), description="values to try before the sampler's; keys that are not named are the sampler's"
    )
    grid: tuple[str, ...] = Field(
        (), description="keys with choices whose combinations are gone through in turn; the others are the sampler's"
    )
    warm_start: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (),
        description="earlier studies whose finished trials the sampler knows from the beginning, where they differ in "
        "keys of the space alone: names of studies in the same --output, or paths of their folders",
    )
    group: int = Field(
        1,
        ge=1,
        le=1_000,
        description="suggestions that share one initialization: what it reads is drawn once for so many, as trying "
        "another tau or augmentation on it is cheap",
    )
    objective: Objective = Objective()
    cost: Literal["gflop"] | None = Field(
        None,
        description="a second objective, as small as it can be: GFLOP of a trial's training for each training image, "
        "counted from its configuration, so that it is the same on every machine, whoever shares what",
    )
    stop: Stop = Stop()
    pruner: Pruner | None = Field(None, description="stops suggestions before their end; unset: none is")

    @property
    def size(self) -> int | None:
        """How many combinations the space holds; None where a key has any number of values."""
        parts = list(self.parts())
        if any(isinstance(values, Range) and not values.whole for part in parts for values in part.values()):
            return None
        return sum(math.prod(len(choices(values)) for values in part.values()) for part in parts)

    @property
    def directions(self) -> tuple[str, ...]:
        """Optuna's, of each objective."""
        return ("maximize",) if self.cost is None else ("maximize", "minimize")

    @property
    def deciding(self) -> tuple[str, ...]:
        """The keys on whose choice others depend."""
        return tuple(dict.fromkeys(values.per for values in self.space.values() if isinstance(values, PerChoice)))

    def parts(self) -> Iterator[dict[str, Values]]:
        """The parts of the space in which all suggestions have the same keys: one, or one for each combination of the
        choices of :attr:`deciding`.
        """
        for chosen in product(*(choices(self._values(key)) for key in self.deciding)):
            yield self.part(dict(zip(self.deciding, chosen, strict=True)))

    def part(self, decided: Mapping[str, Choice]) -> dict[str, Values]:
        """The part of the space where the keys of :attr:`deciding` are as ``decided``, which may hold others, too."""
        found: dict[str, Values] = {}
        for key, values in self.space.items():
            if key in self.deciding:
                found[key] = (decided[key],)
            elif not isinstance(values, PerChoice):
                found[key] = values
            elif (own := values.values.get(word(decided[values.per]))) is not None:
                found[key] = own
        return found

    def points(self) -> Iterator[dict[str, Choice]]:
        """All combinations that a space of finitely many holds."""
        for part in self.parts():
            yield from (dict(zip(part, values, strict=True)) for values in product(*map(choices, part.values())))

    def _values(self, key: str) -> Values:
        values = self.space[key]
        assert not isinstance(values, PerChoice), "what depends on another key decides of none"
        return values


def holds(values: Values, value: Any) -> bool:
    """Whether a key may have a value."""
    if not isinstance(values, Range):
        return value in values
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and values.low <= value <= values.high and (isinstance(value, int) or not values.whole)


def choices(values: Values) -> Sequence[Choice]:
    """The values of a key that has not any number of them."""
    return range(int(values.low), int(values.high) + 1) if isinstance(values, Range) else values
