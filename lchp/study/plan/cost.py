"""Roughly what a study costs: images, GFLOP a stage, hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lchp.data.config import DatasetConfig
from lchp.data.kinds import Counts
from lchp.errors import refusing
from lchp.method.backbones import NETWORKS
from lchp.method.vit import transformer_gflop
from lchp.training.config import TrialConfig
from lchp.vocabulary import OUT_OF_FOLD

TRAINING = 3.0
"""Forward and backward pass over the forward pass alone (counted: 65.5 / 21.9, 79.0 / 26.3, 97.2 / 32.7)."""

GFLOPS = {"one CPU core": 40.0, "one GPU": 50_000.0}
"""Speeds at which the hours are stated, in GFLOP a second. The core, of an AMD EPYC at fp32: measured 90 in whole
trials of small_cnn, 50 to 75 in training passes of the large networks, 27 in MobileNetV2's. The GPU: an assumption, a
twentieth of an H200's bf16 ceiling."""


@dataclass(frozen=True)
class Cost:
    """GFLOP a stage over the whole study, a stage counted once for all trials that share it or go on from its end.

    ``unshared`` is the total if every trial trained its own.
    """

    initialization: float
    refinement: float
    evaluation: float
    unshared: float
    references: float = 0.0
    out_of_fold: float = 0.0
    """The classifiers of that confidence, once for all trials that share them; judging is part of the refinement."""

    @property
    def total(self) -> float:
        """All stages together, and the references and classifiers beside them, in GFLOP."""
        return self.initialization + self.out_of_fold + self.refinement + self.evaluation + self.references

    def hours(self) -> dict[str, float]:
        """Hours by device, at the speeds of :data:`GFLOPS`."""
        return {device: self.total / speed / 3600 for device, speed in GFLOPS.items()}


def count_images(dataset: DatasetConfig, cache: Path) -> Counts | None:
    """The true counts of a dataset whose files are at hand, else the published ones; None where there are none.

    Raises:
        Refusal: the files are there and not what the dataset's kind says, or cannot be read or extracted.
    """
    path = getattr(dataset, "path", None)
    if path is None or not path.exists():
        return dataset.published
    from lchp.data.reading import open_dataset

    with refusing():
        found = open_dataset(dataset, cache)
    own = len(found.held_out) or None
    return Counts(len(found.train), len(found.test), len(found.classes), f"counted in {path}", own)


def cost_of(
    trials: Sequence[TrialConfig],
    initializations: Sequence[TrialConfig],
    refinements: Sequence[TrialConfig],
    images: Mapping[DatasetConfig, Counts],
    references: Sequence[TrialConfig] = (),
    out_of_fold: Sequence[TrialConfig] = (),
) -> Cost:
    """What trials cost that share these initializations, refinements (of several lengths only the longest), references
    and classifiers of the confidence ``out_of_fold``; ``images`` counts those of every dataset.
    """
    # What a frozen network gives is kept in the cache, for every trial that has the same data and source.
    sources = {
        (config.dataset, config.split, config.pseudo_boxes.kept): _source_gflop(config, images[config.dataset])
        for config in initializations
    }
    first = sum(_initialization_gflop(config, images[config.dataset]) for config in initializations)
    unshared = sum(
        _initialization_gflop(config, images[config.dataset])
        + _refinement_gflop(config, images[config.dataset])
        + _source_gflop(config, images[config.dataset])
        + _out_of_fold_gflop(config, images[config.dataset])
        for config in trials
    )
    judges = sum(_out_of_fold_gflop(config, images[config.dataset]) for config in out_of_fold)
    refinement = sum(_refinement_gflop(config, images[config.dataset]) for config in refinements)
    evaluation = sum(_evaluation_gflop(config, images[config.dataset]) for config in trials)
    beside = sum(_reference_gflop(config, images[config.dataset]) for config in references)
    unshared += evaluation + beside
    return Cost(first + sum(sources.values()), refinement, evaluation, unshared, beside, judges)


def gflop_an_image(config: TrialConfig) -> float:
    """What the training of a trial costs alone, in GFLOP for each training image; what is measured at its end counts
    with the part that training images have in it.
    """
    one = {config.dataset: Counts(1, 0, 0, "one image")}
    return cost_of([config], [config], [config], one, (), [config] if config.confidence.out_of_fold else ()).total


def _networks_gflop(config: TrialConfig) -> tuple[float, float]:
    """One forward pass of classifier and regressor on one image of this configuration."""
    area, backbone = (config.view.crop / 448) ** 2, NETWORKS[config.backbone]
    regressor = backbone.regressor if config.regressor.maps == "coarse" else backbone.classifier
    return NETWORKS[config.classifier].classifier.gflop * area, regressor.gflop * area


def _learning(config: TrialConfig) -> float:
    """Forward passes that a step of the regressor costs as much as; a frozen trunk has no gradient."""
    return 1 if config.regressor.frozen else TRAINING


def _splits(config: TrialConfig, images: Counts) -> tuple[int, int]:
    """Training images and val images of a trial."""
    drawn = min(config.split.val_per_class * images.classes, images.train)
    val = drawn if images.val is None else images.val
    return images.train - val, val


def _source_gflop(config: TrialConfig, images: Counts) -> float:
    """What the frozen network of a source computes, over every image once and, to fit ``ddt``, over the training images
    before.
    """
    options = config.pseudo_boxes
    if not options.frozen:
        return 0.0
    train, val = _splits(config, images)
    if options.source == "ddt":
        one = NETWORKS[options.network].classifier.gflop * sum((size / 448) ** 2 for size in options.sizes)
        return (train + (train + val + images.test) * (2 if options.mirror else 1)) * one
    return (train + val + images.test) * transformer_gflop(options.transformer, options.size)


def _initialization_gflop(config: TrialConfig, images: Counts) -> float:
    """A step trains the classifier on raw and masked images, asks the momentum network, trains the regressor. Only
    Algorithm 1 asks the momentum network a second time, about the masked images.
    """
    classifier, regressor = _networks_gflop(config)
    train, val = _splits(config, images)
    stage = config.initialization
    learning = stage.classifying * _classifier_step_gflop(config)
    boxes = (stage.epochs - stage.regressor_start) * _learning(config) * regressor
    checks = val * (stage.epochs // config.evaluation.every) * (3 * classifier + regressor)
    return train * (learning + boxes) + checks


def _classifier_step_gflop(config: TrialConfig) -> float:
    """A step of the classifier, on one image. Of a fixed source the maps that mask it have no mirror image."""
    options = config.pseudo_boxes
    asked = 1 if options.fixed else (2 if options.source == "mask" else 1) * (2 if options.mirror else 1)
    return (2 * TRAINING + asked) * _networks_gflop(config)[0]


def _out_of_fold_gflop(config: TrialConfig, images: Counts) -> float:
    """K classifiers, each trained on all folds but one as initialization trains its own, and asked about val."""
    if not config.confidence.out_of_fold:
        return 0.0
    folds, (train, val) = config.confidence.folds, _splits(config, images)
    learning = (folds - 1) * train * config.initialization.classifying * _classifier_step_gflop(config)
    return learning + folds * val * _networks_gflop(config)[0]


def _refinement_gflop(config: TrialConfig, images: Counts) -> float:
    """A step predicts weak views, scores their boxes and trains the regressor on strong views: on all, unless rejected
    ones are dropped and it is known how many those are.
    """
    classifier, regressor = _networks_gflop(config)
    train, val = _splits(config, images)
    checks = val * (config.refinement.epochs // config.evaluation.every) * (classifier + regressor)
    learned = (config.confidence.keep or 1.0) if config.refinement.rejected == "drop" else 1.0
    step = _score_gflop(config) + (1 + learned * _learning(config)) * regressor
    return train * config.refinement.epochs * step + checks


def _score_gflop(config: TrialConfig) -> float:
    """The confidence of one box."""
    classifier, regressor = _networks_gflop(config)
    return {
        "max_softmax": classifier,
        "contrast": 2 * classifier,
        "equivariance": regressor,
        OUT_OF_FOLD: config.confidence.folds * classifier,
    }[config.confidence.score]


def _reference_gflop(config: TrialConfig, images: Counts) -> float:
    """The regressor alone, in every epoch of an initialization, and on test and val at the end."""
    _, regressor = _networks_gflop(config)
    train, val = _splits(config, images)
    return (train * config.initialization.epochs * _learning(config) + images.test + val) * regressor


def _evaluation_gflop(config: TrialConfig, images: Counts) -> float:
    """At the end: all methods on test and val, and the selection on either kind of views of the training images."""
    classifier, regressor = _networks_gflop(config)
    train, val = _splits(config, images)
    return (images.test + val) * (4 * classifier + 2 * regressor) + train * 2 * (_score_gflop(config) + regressor)
