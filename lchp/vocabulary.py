"""The words of results: stages, splits, methods (the rows of a table), metrics (its columns), and their look.

Nobody else types one of these names where it is meant so; folders and keys of datasets that are called alike are their
layouts' own. Measuring, tables, figures, MLflow, a study's keys and an epoch's line look them up here. A new row of the
tables is a constant with its entry in ``METHODS``, and the code that measures it.

>>> Score.parse("lchp_r/test/gt_known").metric
'gt_known'
>>> Score(LCHP_R, TEST, GT_KNOWN).key
'lchp_r/test/gt_known'
>>> METHODS[LCHP_R].title, METRICS[GT_KNOWN].title
('LCHP-R', 'GT-Known')
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

INITIALIZATION, REFINEMENT = "initialization", "refinement"
"""The stages, in the order in which they are trained."""

OUT_OF_FOLD = "out_of_fold"
"""A confidence, and what trains its classifiers between the two stages."""

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (VAL, TEST)
"""The splits that have scores, in the order of results."""

PSEUDO_LABEL, LCHP_I, LCHP_R = "pseudo_label", "lchp_i", "lchp_r"
WHOLE_IMAGE, CENTRED_BOX = "whole_image", "centred_box"
FEW_SHOT_1, FEW_SHOT_5, SUPERVISED = "few_shot_1", "few_shot_5", "supervised"

GT_KNOWN, TOP1_LOC, TOP5_LOC = "gt_known", "top1_loc", "top5_loc"
BOX_ACC_30, BOX_ACC_70, MEAN_BOX_ACC = "box_acc_30", "box_acc_70", "mean_box_acc"
MEAN_IOU, TOP1_CLS = "mean_iou", "top1_cls"
LOG_AREA_MEAN, LOG_AREA_SPREAD = "log_area_mean", "log_area_spread"
CENTRE_OFFSET_MEAN, CENTRE_OFFSET_SPREAD = "centre_offset_mean", "centre_offset_spread"

LOSS, SELECTED = "loss", "selected"
"""Values of training that people read: the loss that is minimised, and the share of boxes that Eq. 6 takes."""


@dataclass(frozen=True)
class Method:
    """Whose boxes are judged: a row of the tables."""

    title: str
    short: str
    """In the captions of pictures."""
    colour: str | None = None
    """Of its boxes on photographs; None draws none."""
    dark: str = "0.4"
    """Of its curve on white."""
    dash: str = "-"
    constant: bool = False
    """A floor: one box for every image, which any result must beat. Other methods predict a box for each."""
    needs_boxes: bool = False
    """It is made from true boxes of training images: absent where there are none."""
    reference: bool = False
    """The regressor trained on true boxes, which a study asks for: a row that is there only where it was measured."""
    every_epoch: bool = True
    """Measured on val after epochs: on an epoch's line, and a search may be judged by it."""


def _reference(title: str, short: str, dark: str) -> Method:
    return Method(title, short, dark=dark, dash="-.", needs_boxes=True, reference=True, every_epoch=False)


METHODS = {
    PSEUDO_LABEL: Method("Pseudo Label", "PL", "#ffd400", "#c79a00"),
    LCHP_I: Method("LCHP-I", "I", "#00b140", "#00802e"),
    LCHP_R: Method("LCHP-R", "R", "#1f6bff", "#1f6bff"),
    WHOLE_IMAGE: Method("Whole image", "W", dash="--", constant=True, every_epoch=False),
    CENTRED_BOX: Method("Best centred box", "C", dash=":", constant=True, needs_boxes=True, every_epoch=False),
    FEW_SHOT_1: _reference("Few-shot (1)", "F1", "#8c5fbf"),
    FEW_SHOT_5: _reference("Few-shot (5)", "F5", "#6a2fa8"),
    SUPERVISED: _reference("Supervised", "S", "#b3123f"),
}
"""In the order of tables."""

REFERENCES = {"few_shot": (FEW_SHOT_1, FEW_SHOT_5), "supervised": (SUPERVISED,)}
"""What a study may ask for under ``references``, and the methods that it gets."""

TRUTH_COLOUR = "#e02020"
"""Of true boxes on photographs."""

STRONG_AUGMENTATIONS = ("scale", "translation", "flip")
"""What the strong augmentation is made of (paper 4.3), in the order in which a subset is written."""

PICTURED = RANDOM, BEST, WORST, CHANGED = "random", "best", "worst", "changed"
"""Which images are drawn: any, those whose box of LCHP-R fits best or worst, those of which it differs most from Pseudo
Label in its IoU.
"""

HIT_IOU = 0.5
"""The IoU from which a box is a hit (paper 4.2), inclusive."""


@dataclass(frozen=True)
class Metric:
    """By what a method's boxes are judged: a fraction in [0, 1], or how far they lie from the true ones."""

    title: str
    iou: float | None = None
    """Where the metric is the share of images whose box has this IoU with a true one, inclusive."""
    needs_boxes: bool = True
    higher_is_better: bool = True
    """Otherwise what is nearer to 0 is better, and no search is judged by it."""
    share: bool = True
    """A fraction in [0, 1], which tables show in percent; other numbers are shown as they are."""
    later: bool = False
    """Results of before version 0.3 do not have it."""


def _bias(title: str) -> Metric:
    return Metric(title, higher_is_better=False, share=False, later=True)


METRICS = {
    GT_KNOWN: Metric("GT-Known", iou=HIT_IOU),
    TOP1_LOC: Metric("Top-1 Loc"),
    TOP5_LOC: Metric("Top-5 Loc"),
    BOX_ACC_30: Metric("Box accuracy at 0.3", iou=0.3),
    BOX_ACC_70: Metric("Box accuracy at 0.7", iou=0.7),
    MEAN_BOX_ACC: Metric("Mean box accuracy"),
    MEAN_IOU: Metric("Mean IoU"),
    TOP1_CLS: Metric("Top-1 classification", needs_boxes=False),
    LOG_AREA_MEAN: _bias("Log area ratio"),
    LOG_AREA_SPREAD: _bias("Spread of log area ratio"),
    CENTRE_OFFSET_MEAN: _bias("Centre offset"),
    CENTRE_OFFSET_SPREAD: _bias("Spread of centre offset"),
}
"""In the order of results."""

AGREEMENT, CROP_CLS = "agreement", "crop_cls"
BOX_FREE = {
    AGREEMENT: "mean IoU with the pseudo boxes",
    CROP_CLS: "classification of the crop",
}
"""By what a search may judge a method on val beside ``METRICS``, without a true box; measured where it asks."""

BOX_ACCURACIES = (BOX_ACC_30, GT_KNOWN, BOX_ACC_70)
"""The metrics that ``MEAN_BOX_ACC`` averages (wsolevaluation's MaxBoxAccV2)."""


HEADLINE = (
    (LCHP_R, GT_KNOWN), (LCHP_I, GT_KNOWN), (PSEUDO_LABEL, GT_KNOWN),
    (LCHP_R, TOP1_LOC), (LCHP_R, TOP5_LOC), (LCHP_R, MEAN_IOU),
)  # fmt: skip
"""By what a trial is read first: methods with their metrics."""

TRACKED = (GT_KNOWN, TOP1_LOC, TOP5_LOC, MEAN_IOU)
"""The metrics that runs in a tracking store show of every method, of floors the first alone; results.csv has all."""


@dataclass(frozen=True)
class Score:
    """What one number of a result is: whose boxes, on which images, by which metric.

    Raises:
        ValueError: an unknown name; names the known ones.
    """

    method: str
    split: str
    metric: str

    def __post_init__(self) -> None:
        for word, name, known in (
            ("method", self.method, METHODS),
            ("split", self.split, SPLITS),
            ("metric", self.metric, METRICS),
        ):
            if name not in known:
                raise ValueError(f"{self.key}: there is no {word} {name!r}: known are {', '.join(known)}")

    @property
    def key(self) -> str:
        """``<method>/<split>/<metric>``, its name in files and in MLflow."""
        return f"{self.method}/{self.split}/{self.metric}"

    @property
    def title(self) -> str:
        """What people read in its place, ``GT-Known test/LCHP-R``: capitals come first in sorted lists."""
        return f"{METRICS[self.metric].title} {self.split}/{METHODS[self.method].title}"

    @property
    def is_tracked(self) -> bool:
        """Whether runs in a tracking store show it under its key."""
        return self.metric in (TRACKED[:1] if METHODS[self.method].constant else TRACKED)

    @classmethod
    def parse(cls, key: str) -> Score:
        """The score of that ``key``.

        Raises:
            ValueError: it has not three parts, or one is unknown.
        """
        parts = key.split("/")
        if len(parts) != 3:
            raise ValueError(f"{key}: is no score: they are named <method>/<split>/<metric>")
        return cls(*parts)

    @property
    def place(self) -> tuple[int, int, int]:
        """Where it stands in results: by method, split, metric."""
        return list(METHODS).index(self.method), SPLITS.index(self.split), list(METRICS).index(self.metric)


def headline(split: str) -> tuple[str, ...]:
    """The keys of the scores by which a trial is read first, where the split is what it is read on."""
    return tuple(Score(method, split, metric).key for method, metric in HEADLINE)


def training_key(stage: str, name: str) -> str:
    """The name of a value of training in an epoch's metrics and in MLflow: ``train/<stage>/<name>``."""
    return f"{TRAIN}/{stage}/{name}"


def is_training_key(key: str) -> bool:
    """Whether an epoch's metric is a value of training; the others are scores."""
    return key.startswith(f"{TRAIN}/")


def predicting() -> Iterator[str]:
    """The methods of a trial that predict a box for each image, in the order of tables."""
    return (name for name, method in METHODS.items() if not method.constant and not method.reference)


def epoch_scores(metrics: Mapping[str, float], metric: str) -> Iterator[tuple[Method, float]]:
    """The methods that an epoch measured on val, and what they reached by ``metric``."""
    for name, method in METHODS.items():
        key = Score(name, VAL, metric).key
        if method.every_epoch and key in metrics:
            yield method, metrics[key]


def best_on_val(epochs: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The best value that each score on val reached in an epoch: a choice never sees the test split.

    Raises:
        ValueError: an epoch has a metric that is neither a value of training nor a score.
    """
    best: dict[str, float] = {}
    for metrics in epochs:
        for key, value in metrics.items():
            if is_training_key(key) or (score := Score.parse(key)).split != VAL:
                continue
            values = float(value), best.get(key, float(value))
            best[key] = max(values) if METRICS[score.metric].higher_is_better else min(values, key=abs)
    return best
