"""The complete configuration of one trial: everything that changes its result, and nothing else.

Device, loader workers, folders and names are not here; they belong to ``lchp.training.material.Runtime``. The paths of
the data and of weight files are here for people, and are replaced by digests where a configuration is identified.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from lchp.data.config import Config, DatasetConfig, GivenPath, SplitConfig, SyntheticDataset, ViewConfig
from lchp.method.backbones import NETWORKS, check_view
from lchp.method.vit import TRANSFORMERS, check_transformer_view
from lchp.vocabulary import OUT_OF_FOLD, STRONG_AUGMENTATIONS

AUGMENTATIONS = (
    "none",
    *("+".join(names) for size in (1, 2, 3) for names in combinations(STRONG_AUGMENTATIONS, size)),
)
"""Every subset of the paper's strong augmentations, written as one word: ``none``, ``scale``, ...,
``scale+translation+flip``.
"""

if TYPE_CHECKING:  # type checkers want the names written out
    NetworkName = str
    TransformerName = str
else:
    NetworkName = Literal[*NETWORKS]
    TransformerName = Literal[*TRANSFORMERS]

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


class WeightsFile(Config):
    """A local torchvision state dict, read with ``weights_only=True``."""

    file: GivenPath = Field(description="path of the state dict (.pth)")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="what the file must hash to")


class WeightsConfig(Config):
    """Initial weights: `imagenet` (torchvision's download), a local file, `none`; the regressor also `classifier`."""

    classifier: Literal["imagenet", "none"] | WeightsFile = "imagenet"
    regressor: Literal["imagenet", "none", "classifier"] | WeightsFile = Field(
        "imagenet",
        description="`classifier` starts the blocks it shares with the classifier from those (method notes 19)",
    )


KEPT = {
    "ddt": ("source", "size", "weights", "network", "omit", "axis", "descriptors", "mirror"),
    "tokencut": ("source", "size", "weights", "transformer", "similarity"),
    "lost": ("source", "size", "weights", "transformer", "patches"),
}
"""What of PseudoBoxConfig determines that which is kept of a frozen network in the cache, by source."""


class PseudoBoxConfig(Config):
    """Where pseudo boxes come from, and what the paper leaves open of Algorithm 1 (method notes 1, 2, 4).

    ``mask``, ``single`` and ``evidence`` read them off the momentum network's maps of every view, as it learns. The
    other sources are fixed: one box for each whole image, made before training.
    """

    source: Literal["mask", "single", "evidence", "ddt", "tokencut", "lost", "file"] = Field(
        "mask",
        description="`mask`: Algorithm 1; `single`: without its mask pass; `evidence`: what every place says for the "
        "label; `ddt`: Deep Descriptor Transforming; `tokencut`, `lost`: by a self-supervised transformer; `file`: a "
        "CSV of one's own",
    )
    normalization: Literal["min_max", "max"] = Field(
        "min_max", description="scale of A before A > delta (method notes 1); `max`: delta is a share of the maximum"
    )
    maps: Literal["features", "attention", "cam"] = Field(
        "features", description="whose mean A is (method notes 2); `cam`: the label's class activation alone"
    )
    component: Literal["all", "largest"] = Field(
        "all", description="what of the foreground a box of `mask`, `single` or `evidence` holds (method notes 4)"
    )
    enlargement: Literal["tiled", "centred", "cells"] = Field(
        "tiled",
        description="how maps become as large as the view (method notes 3): bilinearly, as if their cells tiled it, or "
        "between the centres of what the cells see; or cell by cell (PSOL)",
    )
    mirror: bool = Field(False, description="whether maps are averaged with those of the mirror image")
    size: int = Field(
        448, ge=16, le=2048, description="side in pixels of the whole images that `ddt`, `tokencut` and `lost` see"
    )
    weights: Literal["pretrained", "none"] | WeightsFile = Field(
        "pretrained", description="of `network` (torchvision's ImageNet weights) or `transformer` (DINO's), or a file"
    )
    network: NetworkName = Field("mobilenet_v2", description="of `ddt`: the trunk of a classifier, frozen")
    omit: int = Field(
        0, ge=0, le=100, description="of `ddt`: last blocks of that trunk that are left out, down to its stride"
    )
    axis: Literal["class", "all"] = Field("class", description="of `ddt`: images that share a principal axis")
    descriptors: Literal["raw", "unit"] = Field("raw", description="of `ddt`: as they are, or each of norm 1")
    threshold: float = Field(
        0.0, ge=0, lt=1, description="of `ddt` and `evidence`: the share of its maximum above which h is foreground"
    )
    transformer: TransformerName = Field("dino_vits16", description="of `tokencut` and `lost`, frozen")
    similarity: float = Field(
        0.2, ge=-1, lt=1, description="of `tokencut`: the cosine above which patches are joined (paper: 0.2; CUB 0.05)"
    )
    patches: int = Field(100, ge=1, le=100_000, description="of `lost`: patches of the lowest degree that vote")
    file: GivenPath | None = Field(
        None, description="boxes of `file`: a CSV with the columns path, x1, y1, x2, y2 in pixels"
    )

    @property
    def fixed(self) -> bool:
        """Whether boxes are made before training, one for each whole image."""
        return self.source not in ("mask", "single", "evidence")

    @property
    def frozen(self) -> bool:
        """Whether they are made by a frozen network."""
        return self.source in KEPT

    @property
    def kept(self) -> str | None:
        """What configurations have in common that share what is kept of a frozen network; None of other sources."""
        return self.model_dump_json(include=set(KEPT[self.source])) if self.frozen else None


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

    momentum: float = Field(0.9, ge=0, lt=1, description="paper 4.3: 0.9")
    weight_decay: float = Field(1e-5, ge=0, le=1_000, description="paper 4.3: 1e-5")


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


class InitializationConfig(DescentConfig):
    """The initialization stage beyond delta, alpha and beta (paper 3.1, 4.3)."""

    epochs: int = Field(40, ge=1, le=100_000, description="paper 4.3: 40 (CUB, Tiny-ImageNet), 10 (ImageNet)")
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


class RefinementConfig(DescentConfig):
    """The refinement stage beyond tau and the augmentation (paper 3.2, 4.3)."""

    epochs: int = Field(40, ge=1, le=100_000, description="paper 4.3: 40 (CUB, Tiny-ImageNet), 5 (ImageNet)")
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

    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 runs the networks under autocast")
    maps_precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="of the maps that pseudo boxes are read off, where `precision` is bf16: bf16 moves boxes (IoU with "
        "those of fp32 .95 in the mean, .77 at least: MobileNetV2 on 40 birds)",
    )
    channels_last: bool = Field(False, description="memory layout of the networks")
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
        check_view(self.classifier, self.view.crop)
        check_view(self.backbone, self.view.crop)
        for role, name in (("classifier", self.classifier), ("regressor", self.backbone)):
            if NETWORKS[name].imagenet is None and getattr(self.weights, role) == "imagenet":
                raise ValueError(f"weights.{role} is imagenet, but {name} has no such weights: set it to none")
        self._consistent_source()
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

    def _consistent_source(self) -> None:
        options = self.pseudo_boxes
        if options.source == "file" and options.file is None:
            raise ValueError(
                "pseudo_boxes.source is file, but pseudo_boxes.file names none: give the CSV with the boxes"
            )
        if options.source == "ddt":
            check_view(options.network, options.size)
            if options.weights == "pretrained" and NETWORKS[options.network].imagenet is None:
                raise ValueError(
                    f"pseudo_boxes.weights is pretrained, but {options.network} has no such weights: "
                    "give pseudo_boxes.weights.file, or choose another pseudo_boxes.network"
                )
        if options.source in ("tokencut", "lost"):
            check_transformer_view(options.transformer, options.size)
