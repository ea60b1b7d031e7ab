"""The search of a study: its validated form, and Optuna's distributions of its space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from lchp.data.config import Config

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Method = Literal["pseudo_label", "lchp_i", "lchp_r"]
Metric = Literal["gt_known", "top1_loc", "top5_loc", "box_acc_30", "box_acc_70", "mean_box_acc", "mean_iou", "top1_cls"]
Choice = str | int | float | bool | tuple[str, ...]
"""A list of augmentations becomes its one word where the study is read: storage wants plain choices."""


class Range(Config):
    """Numbers from `low` to `high`, both included."""

    low: int | float = Field(description="smallest value")
    high: int | float = Field(description="largest value")
    log: bool = Field(False, description="true draws on a logarithmic scale")

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}: exchange or widen them")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low} has no logarithm: make it positive, or log: false")
        return self


class Objective(Config):
    """What the search makes as large as it can, always on the val split."""

    method: Method = Field("lchp_r", description="whose boxes are judged")
    metric: Metric = Field("gt_known", description="the metric that judges them")

    @property
    def key(self) -> str:
        """The objective among the metrics of an epoch: `<method>/val/<metric>`."""
        return f"{self.method}/val/{self.metric}"


class Search(Config):
    """An Optuna search over dotted keys of the trial."""

    trials: int = Field(ge=1, description="number of suggestions")
    sampler: Literal["tpe", "random"] = Field("tpe", description="Optuna's sampler")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the sampler")
    space: dict[str, Range | Annotated[tuple[Choice, ...], Field(min_length=1)]] = Field(
        min_length=1, description="dotted key to {low, high, log} or a list of choices"
    )
    objective: Objective = Objective()


def distributions(space: dict[str, Range | tuple[Choice, ...]]) -> dict[str, BaseDistribution]:
    """Optuna's distribution of every key: integers where both ends of a range are integers."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for key, values in space.items():
        if not isinstance(values, Range):
            found[key] = CategoricalDistribution(values)
        elif isinstance(values.low, int) and isinstance(values.high, int):
            found[key] = IntDistribution(values.low, values.high, log=values.log)
        else:
            found[key] = FloatDistribution(float(values.low), float(values.high), log=values.log)
    return found
