"""What a study or trial file may say beside a trial's own configuration: the models of its keys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from lchp.data.config import Config
from lchp.vocabulary import GT_KNOWN, LCHP_R, METHODS, METRICS, REFERENCES, VAL, Score, predicting

if TYPE_CHECKING:
    Method: TypeAlias = str
    Metric: TypeAlias = str
    Reference: TypeAlias = str
    Judge: TypeAlias = str
else:
    # Type checkers want a Literal's words typed out; they stand in the vocabulary alone.
    Method = Literal[tuple(name for name, method in METHODS.items() if method.every_epoch)]
    Metric = Literal[tuple(METRICS)]
    Reference = Literal[tuple(REFERENCES)]
    # A search makes its objective as large as it can.
    Judge = Literal[tuple(name for name, metric in METRICS.items() if metric.higher_is_better)]
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


class Objective(Config):
    """What the search makes as large as it can, always on the val split; of several seeds their mean."""

    method: Method = Field(LCHP_R, description="whose boxes are judged")
    metric: Judge = Field(GT_KNOWN, description="the metric that judges them")

    @property
    def key(self) -> str:
        """The objective among the metrics of an epoch: `<method>/val/<metric>`."""
        return Score(self.method, VAL, self.metric).key

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


class Search(Config):
    """An Optuna search over dotted keys of the trial."""

    trials: int = Field(ge=1, le=10_000, description="number of suggestions, each trained with every seed")
    sampler: Literal["tpe", "random", "gp"] = Field(
        "tpe", description="Optuna's: tree-structured Parzen estimator, at random, or Gaussian process, for few trials"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the sampler")
    space: dict[str, Range | Annotated[tuple[Choice, ...], Field(min_length=1)]] = Field(
        min_length=1, description="dotted key to {low, high, log} or a list of choices"
    )
    first: tuple[dict[str, Choice], ...] = Field(
        (), description="values to try before the sampler's; keys that are not named are the sampler's"
    )
    grid: tuple[str, ...] = Field(
        (), description="keys with choices whose combinations are gone through in turn; the others are the sampler's"
    )
    objective: Objective = Objective()
    pruner: Pruner | None = Field(None, description="stops suggestions before their end; unset: none is")

    @property
    def size(self) -> int | None:
        """How many combinations the space holds; None where a key has any number of values."""
        if any(isinstance(values, Range) and not values.whole for values in self.space.values()):
            return None
        return math.prod(len(self.choices(key)) for key in self.space)

    def choices(self, key: str) -> Sequence[Choice]:
        """The values of a key of the space that has not any number of them."""
        values = self.space[key]
        return range(int(values.low), int(values.high) + 1) if isinstance(values, Range) else values


class Table(Config):
    """A table that the study ends in."""

    name: str = Field("table", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="file name without its ending")
    by: tuple[str, ...] | None = Field(None, description="varied keys that make the rows; unset: all")
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)] = Field((GT_KNOWN,), description="columns")
    split: Literal["test", "val"] | None = Field(None, description="unset: test, or val in a search")
    fixed: dict[str, Any] | None = Field(
        None, description="values of varied keys outside `by` that a trial must have; unset: the study's own values"
    )
    paper: str | None = Field(None, description="name of the CSV in analysis/paper whose numbers stand beside ours")


class Resources(Config):
    """What one trial takes of the machine."""

    cpus: float | None = Field(None, gt=0, le=4096, description="CPU cores a trial; unset: compute.cpu_threads")
    gpus: float = Field(
        1, gt=0, le=4096, description="GPUs a trial where it trains on CUDA; 0.5 puts two trials on one"
    )
    concurrent: int | None = Field(
        None, ge=1, le=4096, description="most trials at once; unset: as many as the machine holds"
    )
    time_limit: float | None = Field(
        None, gt=0, le=100_000, description="hours that a trial may train before it is ended; unset: no limit"
    )

    @field_validator("gpus")
    @classmethod
    def _whole(cls, gpus: float) -> float:
        # Ray's own rule, of which it tells a study only when its first trial is to start.
        if gpus > 1 and not gpus.is_integer():
            raise ValueError("must be a share of one GPU, at most 1, or a whole number of them")
        return gpus


class Failures(Config):
    """What happens when trials end before their end."""

    retries: int = Field(
        2, ge=0, le=1000, description="how often a trial that the machine has ended goes on from its last checkpoint"
    )
    stop_after: int | None = Field(
        None, ge=1, le=100_000, description="failed trials after which no further one is started; unset: all are"
    )
    silent: float | None = Field(
        None,
        gt=0,
        le=1_000_000,
        description="minutes without a finished epoch after which a worker is ended, as a fault of the machine; "
        "unset: never",
    )


class StudyKeys(Config):
    """The keys of a study file that are not a trial's own."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="folder and experiment name")
    question: str | None = Field(None, description="what the study asks, in one line")
    preset: str | None = Field(None, description="the recipe that the file's keys are laid over")
    vary: Any = Field(None, description="a grid (dotted key to list of values), or a list of grids")
    search: Search | None = Field(None, description="an Optuna search instead of `vary`")
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)] = Field(
        (0,), description="seeds; every configuration, of a search every suggestion, is trained with each"
    )
    references: tuple[Reference, ...] = Field(
        (), description=f"what the regressor reaches on true boxes, beside the results: {', '.join(REFERENCES)}"
    )
    resources: Resources = Resources()
    failures: Failures = Failures()
    tables: Annotated[tuple[Table, ...], Field(min_length=1)] = Field(
        (Table(),), description="tables; unset: one over all that varies"
    )


class TrialKeys(Config):
    """The key of a trial file that is not the trial's configuration."""

    preset: str | None = Field(None, description="the recipe that the file's keys are laid over")
