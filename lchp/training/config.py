"""The complete configuration of one trial: everything that changes its result, and nothing else.

Device, loader workers, folders and names are not here; they belong to ``lchp.training.material.Runtime``. The paths of
the data and of weight files are here for people, and are replaced by digests where a configuration is identified.
"""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from lchp.data.config import Config, DatasetConfig, SplitConfig, SyntheticDataset, ViewConfig
from lchp.method.backbones import NETWORKS, check_view
from lchp.training.box_config import PseudoBoxConfig
from lchp.training.network_config import NetworkName, RegressorConfig, WeightsConfig
from lchp.vocabulary import OUT_OF_FOLD, STRONG_AUGMENTATIONS

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


Precision = Literal["fp32", "bf16"]


class ConfidenceConfig(Config):
    """How sure one is of a weak box, and which boxes Eq. 6 takes (paper 3.2; method notes 21)."""

    score: Literal["max_softmax", "contrast", "equivariance", "out_of_fold"] = Field(
        "max_softmax",
        description="max_softmax: of the crop (paper 3.2); contrast: the label's probability in the crop less that in "
        "its middle; equivariance: IoU with the mirrored view's box; out_of_fold: max_softmax by a classifier that has "
        "not seen the image",
    )
    keep: float | None = Field(
        None, gt=0, le=1, description="the share of every batch with the highest scores, in place of tau; none: tau"
    )
    shrink: float = Field(0.7, gt=0, lt=1, description="sides of contrast's middle as a share of the box's")
    folds: int = Field(
        3,
        ge=2,
        le=100,
        description="classifiers of out_of_fold; each is trained on all folds of the images but its own",
    )

    @property
    def out_of_fold(self) -> bool:
        """Whether the score has classifiers of its own."""
        return self.score == OUT_OF_FOLD


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


class EvaluationConfig(Config):
    """How results are measured; the paper's metrics are fixed."""

    batch_size: int = Field(64, ge=1, le=MOST_IMAGES, description="images a forward pass of the evaluation")
    every: int = Field(
        1,
        ge=1,
        le=100_000,
        description="epochs between two evaluations on val; the last epoch of a stage always counts",
    )


class ComputeConfig(Config):
    """What of the machine changes the bits of a result."""

    precision: Precision = Field(
        "fp32",
        description="bf16 runs the networks under autocast; `auto`, in a file or --set, is bf16 on CUDA and "
        "on processors with AVX512-BF16 or AMX, else fp32: settled where the study starts, and part of what its "
        "trials are",
        json_schema_extra={"enum": ["fp32", "bf16", "auto"]},
    )
    maps_precision: Precision = Field(
        "fp32",
        description="of the maps that pseudo boxes are read off, where `precision` is bf16: bf16 moves boxes (IoU with "
        "those of fp32 .95 in the mean, .77 at least: MobileNetV2 on 40 birds)",
    )
    channels_last: bool = Field(False, description="memory layout of the networks; on CUDA in bf16 always")
    compile: Literal["none", "graphs", "fused"] = Field(
        "none",
        description="on CUDA alone; graphs: a step's losses and gradients are recorded as one CUDA graph and replayed, "
        "whose memory nothing else can use meanwhile; fused: they are compiled first, which takes minutes",
    )
    onednn: bool = Field(
        False,
        description="1x1 convolutions by oneDNN on a CPU thread in batches below 16, too, which torch gives to another "
        "library, and gradients of dilated depthwise ones by its fast kernels: two to twenty times as fast, with other "
        "last bits",
    )
    cpu_threads: int = Field(1, ge=1, le=256, description="threads of CPU sums: their order changes the last bits")
    deterministic: bool = Field(False, description="deterministic algorithms on CUDA (the CPU always is)")


class TrialConfig(Config):
    """One trial. The six dimensions of the studies are top-level keys."""

    dataset: DatasetConfig = SyntheticDataset()
    seed: int = Field(0, ge=0, lt=2**31, description="seed of initial weights, order and augmentation")
    delta: float = Field(0.7, ge=0, le=1, description="threshold of Algorithm 1 (paper: 0.7; Tiny-ImageNet 0.8)")
    tau: float = Field(
        0.9, ge=0, le=1, description="threshold of the confidence, Eq. 6 (paper: 0.9); not read with confidence.keep"
    )
    alpha: float = Field(20.0, gt=0, le=1e6, description="weight of the regression loss, Eq. 3 (paper: 20)")
    beta: float = Field(0.9, ge=0, lt=1, description="momentum of the pseudo-box network, Eq. 7 (paper: 0.9)")
    augmentation: Augmentation = Field(
        "+".join(STRONG_AUGMENTATIONS), description="strong augmentations, a subset joined by '+'"
    )
    backbone: NetworkName = Field("inception_v3", description="network of the regressor (Table 5)")
    classifier: NetworkName = Field("inception_v3", description="trunk of the classifier (paper 4.3: InceptionV3)")
    box_format: Literal["corners", "centre_size"] = Field(
        "corners", description="what the regressor puts out (method notes 13)"
    )
    regressor: RegressorConfig = RegressorConfig()
    classes_from: Literal["momentum", "classifier"] = Field(
        "momentum",
        description="who gives class predictions and confidences: theta_2 of Eq. 7, or theta_1 (method notes 22)",
    )
    weights: WeightsConfig = WeightsConfig()
    split: SplitConfig = SplitConfig()
    view: ViewConfig = ViewConfig()
    pseudo_boxes: PseudoBoxConfig = PseudoBoxConfig()
    confidence: ConfidenceConfig = ConfidenceConfig()
    initialization: InitializationConfig = InitializationConfig()
    refinement: RefinementConfig = RefinementConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _consistent(self) -> TrialConfig:
        if self.view.crop > self.view.resize:
            raise ValueError(
                f"view.crop {self.view.crop} is larger than view.resize {self.view.resize}: make it smaller"
            )
        if self.initialization.regressor_start >= self.initialization.epochs:
            raise ValueError(
                f"initialization.regressor_start {self.initialization.regressor_start} leaves the regressor no epoch "
                f"of initialization.epochs {self.initialization.epochs}: make regressor_start smaller, or epochs larger"
            )
        if self.initialization.regressor_start > self.initialization.classifying:
            raise ValueError(
                f"initialization.regressor_start {self.initialization.regressor_start} is after the last of "
                f"initialization.classifier_epochs {self.initialization.classifier_epochs}; nothing learns between: "
                "make regressor_start smaller, or classifier_epochs larger"
            )
        check_view(self.classifier, self.view.crop)
        check_view(self.backbone, self.view.crop)
        for role, name in (("classifier", self.classifier), ("regressor", self.backbone)):
            if NETWORKS[name].imagenet is None and getattr(self.weights, role) == "imagenet":
                raise ValueError(f"weights.{role} is imagenet, but {name} has no such weights: set it to none")
        boxes, read = self.pseudo_boxes, "component" not in self.pseudo_boxes.unread
        for what, on_cpu in (
            ("pseudo_boxes.component is largest", read and boxes.component == "largest"),
            ("refinement.backend is imgaug", self.refinement.backend == "imgaug"),
        ):
            if self.compute.compile != "none" and on_cpu:
                raise ValueError(
                    f"compute.compile is {self.compute.compile}, but {what}, which the CPU does in the middle of a "
                    "step: set compute.compile to none, or the other to its default"
                )
        if self.compute.compile != "none" and self.refinement.rejected == "drop" and self.confidence.keep is None:
            raise ValueError(
                f"compute.compile is {self.compute.compile}, but refinement.rejected is drop, and how many of a batch "
                "tau rejects changes from step to step: set confidence.keep, by which every batch keeps as many, "
                "compute.compile to none or refinement.rejected to mask"
            )
        self.pseudo_boxes.check()
        if self.confidence.out_of_fold and self.split.val_per_class == 0:
            raise ValueError(
                "confidence.score is out_of_fold, whose temperature is fitted on val, but split.val_per_class is 0: "
                "hold images out by split.val_per_class, or choose another confidence.score"
            )
        if self.weights.regressor == "classifier" and self.backbone != self.classifier:
            raise ValueError(
                f"weights.regressor is classifier, but backbone {self.backbone} is not the classifier's network "
                f"{self.classifier}: make them the same, or choose other weights.regressor"
            )
        return self
