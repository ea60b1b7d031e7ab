"""The complete configuration of one trial: everything that changes its result, and nothing else.

Device, loader workers, folders and names are not here; they belong to ``lchp.training.material.Runtime``. The paths of
the data and of weight files are here for people, and are replaced by digests where a configuration is identified.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lchp.data.config import Config, DatasetConfig, SplitConfig, SyntheticDataset, ViewConfig
from lchp.method.backbones import NETWORKS, check_view
from lchp.training.box_config import PseudoBoxConfig
from lchp.training.network_config import NetworkName, RegressorConfig, WeightsConfig
from lchp.training.stage_config import MOST_IMAGES, Augmentation, InitializationConfig, RefinementConfig
from lchp.vocabulary import OUT_OF_FOLD, STRONG_AUGMENTATIONS

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
        drawn = self.dataset
        if isinstance(drawn, SyntheticDataset) and self.split.val_per_class >= drawn.train_per_class:
            raise ValueError(
                f"split.val_per_class {self.split.val_per_class} leaves no training image of dataset.train_per_class "
                f"{drawn.train_per_class}: make val_per_class smaller, or train_per_class larger"
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
