"""What a trial's two stages are configured by: their length and rates, the regressor's descent, its augmented views."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from lchp.data.config import Config
from lchp.vocabulary import STRONG_AUGMENTATIONS

AUGMENTATIONS = (
    "none",
    *("+".join(names) for size in (1, 2, 3) for names in combinations(STRONG_AUGMENTATIONS, size)),
)
"""Every subset of the paper's strong augmentations, written as one word: ``none``, ``scale``, ...,
``scale+translation+flip``.
"""

MOST_IMAGES = 65_536
"""Images in one batch. Like the other upper bounds here it refuses slips of the pen before they take all memory or
overflow a number; what a machine holds is less.
"""

LARGEST_RATE = 1e38
"""A larger learning rate is infinite in fp32. Which rates diverge is for the training to tell, by epoch and batch."""


def _augmentation(value: Any) -> Any:
    """A list of names or a `+`-joined word in any order, as the one spelling of that subset."""
    if value is None:
        return "none"
    names = value.split("+") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return value
    names = [name.strip() for name in names]
    if (
        len(set(names)) != len(names)
        or not set(names) <= {*STRONG_AUGMENTATIONS, "none"}
        or ("none" in names and len(names) > 1)
    ):
        raise ValueError(f"must be a subset of {', '.join(STRONG_AUGMENTATIONS)} (joined by '+'), or none")
    return "+".join(name for name in STRONG_AUGMENTATIONS if name in names) or "none"


Augmentation = Annotated[str, BeforeValidator(_augmentation), Field(json_schema_extra={"enum": list(AUGMENTATIONS)})]


class OptimizerConfig(Config):
    """Stochastic gradient descent (paper 4.3)."""

    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of stochastic gradient descent (paper 4.3: 0.9)")
    weight_decay: float = Field(
        1e-5, ge=0, le=1_000, description="weight decay of stochastic gradient descent (paper 4.3: 1e-5)"
    )


class DescentConfig(Config):
    """What may calm the descent of a stage's regressor; the defaults are the paper's plain descent at one rate."""

    report: Literal["last", "average"] = Field(
        "last",
        description="weights of the regressor that are measured, stored and handed on: those of the last step (the "
        "paper's), or their moving average over the steps",
    )
    average_momentum: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="momentum of that average, per step; 0.99 looks back over some 100 steps, and is a plain mean "
        "until then (own choice)",
    )
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="the regressor's rate over its epochs: constant (paper 4.3), or half a cosine towards 0"
    )
    warmup: int = Field(
        0, ge=0, le=10_000_000, description="first steps of the regressor, in which its rate rises linearly (paper: 0)"
    )
    clip: float | None = Field(
        None, gt=0, le=1e6, description="longest gradient of the regressor, a 2-norm; unset: any (paper)"
    )
    augmented_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="probability with which the strong augmentation changes a view that the regressor learns; the "
        "others are learned as they are (paper: 1; method notes 24)",
    )

    @property
    def open_ended(self) -> bool:
        """Whether more epochs begin with the same bits: no rate looks ahead to the last one."""
        return self.schedule == "constant"


class InitializationConfig(DescentConfig):
    """The initialization stage beyond delta, alpha and beta (paper 3.1, 4.3)."""

    epochs: int = Field(
        40,
        ge=1,
        le=100_000,
        description="epochs of the stage (paper 4.3: 40 for CUB and Tiny-ImageNet, 10 for ImageNet)",
    )
    batch_size: int = Field(32, ge=2, le=MOST_IMAGES, description="images a step (paper 4.3: 32)")
    classifier_rate: float = Field(
        2e-3, gt=0, le=LARGEST_RATE, description="initial learning rate of the classifier (paper 4.3: 2e-3)"
    )
    classifier_decay: float = Field(
        0.9, gt=0, le=1, description="factor on the classifier's rate after every epoch (paper: 0.9)"
    )
    regressor_rate: float = Field(
        2e-3, gt=0, le=LARGEST_RATE, description="learning rate of the regressor (paper 4.3: 2e-3)"
    )
    regressor_start: int = Field(
        0, ge=0, le=100_000, description="epochs in which the classifier alone learns (paper: 0)"
    )
    classifier_epochs: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="first epochs, in which the classifier learns; in the rest the regressor alone (unset: all, paper)",
    )
    attention_maps: int = Field(
        32, ge=1, le=1_024, description="attention maps of the bilinear pooling (paper 4.3: 32)"
    )
    bap_scale: float = Field(
        100.0, gt=0, le=1e6, description="factor on the normalised bilinear features (WS-DAN: 100; method notes 8)"
    )
    augmentation: Augmentation = Field(
        "none",
        description="strong augmentations of the regressor's views, their boxes moved along: a subset as in the "
        "trial's `augmentation`, always batched (paper 3.1: none)",
    )
    optimizer: OptimizerConfig = OptimizerConfig()

    @property
    def classifying(self) -> int:
        """Epochs in which the classifier learns."""
        return self.epochs if self.classifier_epochs is None else min(self.classifier_epochs, self.epochs)


class RefinementConfig(DescentConfig):
    """The refinement stage beyond tau and the augmentation (paper 3.2, 4.3)."""

    epochs: int = Field(
        40,
        ge=1,
        le=100_000,
        description="epochs of the stage (paper 4.3: 40 for CUB and Tiny-ImageNet, 5 for ImageNet)",
    )
    batch_size: int = Field(32, ge=2, le=MOST_IMAGES, description="images a step (paper 4.3: 32)")
    rate: float = Field(2e-3, gt=0, le=LARGEST_RATE, description="learning rate (paper 4.3: 2e-3; ImageNet 2e-4)")
    alpha: float = Field(1.0, gt=0, le=1e6, description="factor on Eq. 6, which has none (method notes 11)")
    teacher: Literal["online", "frozen", "ema"] = Field(
        "online", description="who labels the weak view (method notes 9)"
    )
    weak_statistics: Literal["batch", "running"] = Field(
        "batch",
        description="batch-norm statistics of the teacher's weak view (method notes 9); `frozen` uses running ones",
    )
    teacher_momentum: float = Field(0.999, ge=0, lt=1, description="momentum of the `ema` teacher, per iteration")
    backend: Literal["batched", "imgaug"] = Field("batched", description="who carries out the strong augmentation")
    rejected: Literal["mask", "drop"] = Field(
        "mask",
        description="views whose box Eq. 6 rejects; mask: they pass the regressor and add nothing to the loss (paper); "
        "drop: they do not pass it, which saves their share of its work and leaves them out of its batch statistics",
    )
    optimizer: OptimizerConfig = OptimizerConfig()
