"""The initialization stage (paper 3.1): classifier, momentum network and regressor learn together; its result is
LCHP-I.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from lchp.data.loader import ImageSource
from lchp.method import augmentation, boxes, losses
from lchp.method.augmentation import StrongDraw, ViewDraw
from lchp.method.boxes import to_centre_size
from lchp.method.networks import BapClassifier, BoxRegressor, copy_shared_blocks, make_classifier, make_regressor
from lchp.store.placement import place
from lchp.training.box_sources import FixedBoxes, live_boxes
from lchp.training.config import TrialConfig
from lchp.training.descent import ClassifierDescent, RegressorDescent
from lchp.training.evaluation import Evaluator, Known, Looking, Measured
from lchp.training.feeding import batches
from lchp.training.loop import autocast, compiled, epoch_order, run_epoch
from lchp.training.material import Split
from lchp.training.recording import Gradients
from lchp.training.seeds import named_generator, named_seed
from lchp.training.waiting import Watch
from lchp.training.weights import load_weights
from lchp.vocabulary import INITIALIZATION, LCHP_I, LOSS, PSEUDO_LABEL

STAGE = INITIALIZATION
LOSSES = (LOSS, "loss_cls", "loss_reg", "train_cls")

Network = TypeVar("Network", BapClassifier, BoxRegressor)


@dataclass(frozen=True)
class Networks:
    """The networks of a trial. ``momentum`` is the classifier that makes pseudo boxes, ``judge`` the one of the two
    that gives confidences and class predictions.
    """

    classifier: BapClassifier
    momentum: BapClassifier
    regressor: BoxRegressor
    judge: BapClassifier


def make_networks(config: TrialConfig, classes: int) -> Networks:
    """Fresh networks on the CPU with their configured initial weights. ValueError names weights that cannot be had."""
    classifier, slow = make_classifiers(config, classes)
    regressor = drawn_regressor(config)
    if config.weights.regressor == "classifier":
        copy_shared_blocks(classifier, regressor)
    else:
        load_weights(regressor, config.backbone, config.weights.regressor)
    return Networks(classifier, slow, regressor, judge_of(config, classifier, slow))


def make_classifiers(config: TrialConfig, classes: int) -> tuple[BapClassifier, BapClassifier]:
    """A fresh classifier on the CPU with its configured initial weights, and its momentum copy. ValueError as
    :func:`make_networks`.
    """
    classifier = drawn_classifier(config, classes)
    load_weights(classifier, config.classifier, config.weights.classifier)
    return classifier, _slow_copy(classifier)


def judge_of(config: TrialConfig, classifier: BapClassifier, momentum_network: BapClassifier) -> BapClassifier:
    """The one of the two that gives confidences and class predictions."""
    return classifier if config.classes_from == "classifier" else momentum_network


def stored_weights(config: TrialConfig, networks: Networks, reported: BoxRegressor) -> dict[str, Any]:
    """The state dicts that an initialization leaves: of the momentum network and of the regressor that is
    ``reported``, and of a classifier that judges.
    """
    weights = {"momentum": networks.momentum.state_dict(), "regressor": reported.state_dict()}
    if config.classes_from == "classifier":
        weights["classifier"] = networks.classifier.state_dict()
    return weights


def trained_networks(config: TrialConfig, classes: int, weights: dict[str, Any]) -> Networks:
    """The networks on the CPU that an initialization left, from its :func:`stored_weights`.

    Nothing trains the classifiers any more. Unless the classifier judges, it and the momentum network are one and the
    same.
    """
    momentum_network = judge = stored_classifier(config, classes, weights["momentum"])
    if config.classes_from == "classifier":
        judge = stored_classifier(config, classes, weights["classifier"])
    with torch.device("meta"):
        regressor = drawn_regressor(config)
    return Networks(judge, momentum_network, _with_weights(regressor, weights["regressor"]), judge)


def stored_classifier(config: TrialConfig, classes: int, weights: dict[str, Tensor]) -> BapClassifier:
    """A classifier on the CPU with a copy of these weights, which nothing trains any more."""
    # Weights that are overwritten at once are not drawn: those of InceptionV3 would take a second.
    with torch.device("meta"):
        classifier = drawn_classifier(config, classes)
    return _with_weights(classifier, weights).requires_grad_(False).eval()


def _with_weights(network: Network, weights: dict[str, Tensor]) -> Network:
    network.load_state_dict({name: weight.clone() for name, weight in weights.items()}, assign=True)
    return network


def drawn_classifier(config: TrialConfig, classes: int) -> BapClassifier:
    """A classifier on the CPU with weights that are drawn by the trial's seed."""
    stage = config.initialization
    return make_classifier(
        config.classifier,
        classes,
        stage.attention_maps,
        stage.bap_scale,
        named_seed(config.seed, "classifier weights"),
    )


def drawn_regressor(config: TrialConfig) -> BoxRegressor:
    """A regressor on the CPU with weights that are drawn by the trial's seed."""
    seed = named_seed(config.seed, "regressor weights")
    return make_regressor(config.backbone, config.box_format, seed, config.regressor.design, config.view.crop)


def _slow_copy(classifier: BapClassifier) -> BapClassifier:
    return copy.deepcopy(classifier).requires_grad_(False).eval()


class Initialization:
    """The stage between two epochs: networks, optimizers, schedule, generators and the number of finished epochs."""

    name: str = STAGE

    def __init__(self, config: TrialConfig, classes: int, device: str, fixed: FixedBoxes | None = None) -> None:
        self.config = config
        self.device = device
        self.fixed = fixed
        self.train_boxes = None if fixed is None else fixed.train.to(device)
        self.epoch = 0
        self.epochs = config.initialization.epochs
        self.watch = Watch(device)
        self.networks = make_networks(config, classes)
        for network in (self.networks.classifier, self.networks.momentum, self.networks.regressor):
            place(network, config.compute, device)
        stage = config.initialization
        self.classifier_descent = ClassifierDescent(self.networks.classifier, self.networks.momentum, config)
        self.regressor_descent = RegressorDescent(
            self.networks.regressor,
            stage.regressor_rate,
            stage.epochs - stage.regressor_start,
            stage.optimizer,
            stage,
        )
        self._gradients = Gradients([self.networks.classifier, self.networks.regressor], config.compute, device)
        self._losses = compiled(stage_losses, config.compute, device)
        self._regressor_losses = compiled(regressor_losses, config.compute, device)
        self.generators = {name: named_generator(config.seed, f"{STAGE} {name}") for name in ("order", "view")}
        if stage.augmentation != "none":
            self.generators["strong"] = named_generator(config.seed, f"{STAGE} strong")

    @property
    def _regressor_learns(self) -> bool:
        return self.epoch >= self.config.initialization.regressor_start

    @property
    def _classifier_learns(self) -> bool:
        return self.epoch < self.config.initialization.classifying

    def train_epoch(self, source: ImageSource, workers: int) -> dict[str, float]:
        """Trains one more epoch on ``source``; gives the mean losses of Eq. 1-3 and the running classification
        accuracy.
        """
        stage = self.config.initialization
        if self.epoch == stage.regressor_start and self.config.weights.regressor == "classifier":
            copy_shared_blocks(self.networks.classifier, self.networks.regressor)
        self.networks.classifier.train()
        self.networks.regressor.train()
        order, batch_size = epoch_order(len(source), stage.batch_size, self.generators["order"])
        fed = batches(source, order, batch_size, drop_last=True, workers=workers, device=self.device)
        metrics = run_epoch(fed, self._step, LOSSES, STAGE, self.epoch + 1, self.watch)
        if self._classifier_learns:
            self.classifier_descent.end_epoch()
        if self._regressor_learns:
            self.regressor_descent.end_epoch()
        self.epoch += 1
        return metrics

    def _step(self, images: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        """One optimization step on a batch of uint8 images; gives the values named in LOSSES."""
        view, stage = self.config.view, self.config.initialization
        draw = augmentation.draw_view(len(images), view.resize, view.crop, view.flip, self.generators["view"])
        strong = None
        if stage.augmentation != "none":
            drawn = augmentation.draw_strong(
                len(images), view.crop, stage.augmentation, self.generators["strong"], stage.augmented_share
            )
            strong = drawn.to(self.device)
        images, labels = images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
        of_images = None if self.train_boxes is None else self.train_boxes[places.to(self.device, non_blocking=True)]
        inputs = images, labels, draw.to(self.device), of_images, strong
        values = self._gradients(self._values, inputs, 1.0, (self._classifier_learns, self._regressor_learns))
        if self._classifier_learns:
            self.classifier_descent.step()
        if self._regressor_learns:
            self.regressor_descent.step()
        return values

    def _values(
        self, images: Tensor, labels: Tensor, draw: ViewDraw, of_images: Tensor | None, strong: StrongDraw | None
    ) -> Tensor:
        """The losses of a batch of uint8 images and boxes (n, 4) of a fixed source, in whole images, all on the
        device.
        """
        view = self.config.view
        views = augmentation.normalised_view(images, draw, view.crop)
        fixed = None
        if of_images is not None:
            fixed = augmentation.view_boxes(of_images, draw, view.resize, view.crop)
        with autocast(self.config.compute, self.device):
            if self._classifier_learns:
                return self._losses(self.networks, views, labels, self.config, self._regressor_learns, fixed, strong)
            return self._regressor_losses(self.networks, views, labels, self.config, fixed, strong)

    def measure(self, evaluator: Evaluator, splits: list[Split], floors: Mapping[str, Known] | None = None) -> Measured:
        """Pseudo Label, LCHP-I once the regressor has learned, and ``floors`` on every split."""
        methods: dict[str, Looking | Known] = {
            PSEUDO_LABEL: evaluator.pseudo_label(self.networks.momentum) if self.fixed is None else self.fixed.of
        }
        if self.epoch > self.config.initialization.regressor_start:
            methods[LCHP_I] = evaluator.regressed(self.regressor_descent.reported)
        return evaluator.measure({**methods, **(floors or {})}, self.networks.judge, splits)

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        return {
            "epoch": self.epoch,
            **self.classifier_descent.state(),
            "regressor": self.networks.regressor.state_dict(),
            **{f"regressor_{name}": value for name, value in self.regressor_descent.state().items()},
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continues from what :meth:`state` gave."""
        self.epoch = state["epoch"]
        self.classifier_descent.load_state(state)
        self.networks.regressor.load_state_dict(state["regressor"])
        self.regressor_descent.load_state(
            {name.removeprefix("regressor_"): value for name, value in state.items() if name.startswith("regressor_")}
        )
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])


def stage_losses(
    networks: Networks,
    views: Tensor,
    labels: Tensor,
    config: TrialConfig,
    with_regressor: bool,
    fixed: Tensor | None = None,
    strong: StrongDraw | None = None,
) -> Tensor:
    """Eq. 3 and its parts on one batch of normalised views (n, 3, s, s): a function of tensors without host
    synchronisation.

    The regressor learns the boxes of ``fixed`` (n, 4), corners in the views, where a fixed source made such, else those
    of the momentum network; with ``strong`` it sees the views so augmented, with their boxes. Returns the vector
    (Eq. 3, Eq. 1, Eq. 2, classification accuracy on the raw views). Without the regressor Eq. 2 counts 0.
    """
    with torch.no_grad():
        live = live_boxes(config, networks.momentum, views, labels)
    target = live.boxes if fixed is None else fixed
    loss_cls, accuracy = classifier_losses(networks.classifier, views, live.masked, labels)
    if with_regressor:
        loss_reg = regressor_loss(networks.regressor, views, target, config.box_format, strong)
    else:
        loss_reg = loss_cls.new_zeros(())
    total = losses.initialization_loss(loss_cls, loss_reg, config.alpha)
    return torch.stack([total, loss_cls, loss_reg, accuracy])


def regressor_losses(
    networks: Networks,
    views: Tensor,
    labels: Tensor,
    config: TrialConfig,
    fixed: Tensor | None = None,
    strong: StrongDraw | None = None,
) -> Tensor:
    """As :func:`stage_losses` where the classifier learns no more: Eq. 1 counts 0, and of a fixed source no other
    network is asked.
    """
    if fixed is None:
        with torch.no_grad():
            fixed = live_boxes(config, networks.momentum, views, labels).boxes
    loss_reg = regressor_loss(networks.regressor, views, fixed, config.box_format, strong)
    none = loss_reg.new_zeros(())
    return torch.stack([losses.initialization_loss(none, loss_reg, config.alpha), none, loss_reg, none])


def classifier_losses(
    classifier: BapClassifier, views: Tensor, masked: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Eq. 1 on normalised views and masked images (n, 3, s, s), and the classification accuracy on the views."""
    raw_logits, masked_logits = classifier(torch.cat([views, masked])).logits.chunk(2)
    loss = losses.classification_loss(raw_logits, masked_logits, labels)
    return loss, (raw_logits.argmax(1) == labels).float().mean()


def regressor_loss(
    regressor: BoxRegressor, views: Tensor, targets: Tensor, box_format: str, strong: StrongDraw | None
) -> Tensor:
    """Eq. 2 on normalised views (n, 3, s, s) and their boxes (n, 4), both augmented where ``strong`` is given; then a
    box that leaves its view altogether adds nothing, as in Eq. 6.
    """
    if strong is None:
        return losses.regression_loss(regressor(views), as_target(targets, box_format))
    views, targets = augmentation.strong(views, targets, strong)
    return losses.consistency_loss(regressor(views), as_target(targets, box_format), boxes.area(targets) > 0)


def as_target(boxes: Tensor, box_format: str) -> Tensor:
    """Corner boxes in the format that the regressor puts out."""
    return to_centre_size(boxes) if box_format == "centre_size" else boxes
