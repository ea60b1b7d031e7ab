"""The refinement stage (paper 3.2): boxes whose crop the classifier is sure of teach the regressor consistency; its
result is LCHP-R.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lchp.data import imgaug_backend
from lchp.data.loader import ImageSource
from lchp.method import augmentation, boxes, losses, momentum
from lchp.method.augmentation import StrongDraw
from lchp.method.confidence import confidence, crop, high_quality
from lchp.method.networks import BapClassifier, BoxRegressor, as_corners
from lchp.training.config import TrialConfig
from lchp.training.descent import RegressorDescent
from lchp.training.evaluation import Evaluator, Measured
from lchp.training.initialization import Networks, as_target
from lchp.training.loop import autocast, epoch_order, place, run_epoch
from lchp.training.material import Split
from lchp.training.seeds import named_generator
from lchp.vocabulary import LCHP_R, LOSS, REFINEMENT, SELECTED

STAGE = REFINEMENT
LOSSES = (LOSS, SELECTED, "confidence", "area")

Strong = Callable[[Tensor, Tensor, StrongDraw], tuple[Tensor, Tensor]]
BACKENDS: dict[str, Strong] = {"batched": augmentation.strong, "imgaug": imgaug_backend.strong}


class Refinement:
    """The stage between two epochs. It owns the regressor it is given; the classifier stays as initialization left
    it.
    """

    name = STAGE

    def __init__(self, config: TrialConfig, networks: Networks, device: str) -> None:
        self.config = config
        self.device = device
        self.epoch = 0
        self.epochs = config.refinement.epochs
        self.classifier = networks.momentum
        self.regressor = networks.regressor
        self.teacher = copy.deepcopy(networks.regressor).requires_grad_(False).eval()
        for network in (self.classifier, self.regressor, self.teacher):
            place(network, config.compute, device)
        stage = config.refinement
        self.descent = RegressorDescent(self.regressor, stage.rate, stage.epochs, stage.optimizer, stage)
        self.generators = {
            name: named_generator(config.seed, f"{STAGE} {name}") for name in ("order", "view", "strong")
        }

    def train_epoch(self, source: ImageSource, workers: int) -> dict[str, float]:
        """Trains one more epoch on ``source``; gives the mean of Eq. 6, the share above tau, the confidence and the
        weak boxes' area.
        """
        stage = self.config.refinement
        self.classifier.eval()
        self.regressor.train()
        order, batch_size = epoch_order(len(source), stage.batch_size, self.generators["order"])
        batches = source.batches(order, batch_size, drop_last=True, workers=workers)
        metrics = run_epoch(batches, self._step, LOSSES, STAGE, self.epoch + 1)
        self.descent.end_epoch()
        self.epoch += 1
        return metrics

    def _step(self, images: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        """One optimization step on a batch of uint8 images; gives the values named in LOSSES. Labels and places are not
        used.
        """
        view, stage = self.config.view, self.config.refinement
        draw = augmentation.draw_view(len(images), view.resize, view.crop, view.flip, self.generators["view"])
        strong = augmentation.draw_strong(len(images), view.crop, self.config.augmentation, self.generators["strong"])
        images = images.to(self.device, non_blocking=True)
        views = augmentation.normalise(augmentation.general_view(images, draw.to(self.device), view.crop))
        with autocast(self.config.compute, self.device):
            values = stage_losses(
                self.regressor, self.teacher, self.classifier, views, strong.to(self.device), self.config
            )
        self.descent.optimizer.zero_grad(set_to_none=True)
        (stage.alpha * values[0]).backward()  # type: ignore[no-untyped-call]
        self.descent.step()
        if stage.teacher == "ema":
            momentum.update(self.teacher, self.regressor, stage.teacher_momentum)
        return values.detach()

    def measure(self, evaluator: Evaluator, splits: list[Split]) -> Measured:
        """LCHP-R on every split."""
        return evaluator.measure({LCHP_R: evaluator.regressed(self.descent.reported)}, self.classifier, splits)

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, the classifier apart."""
        return {
            "epoch": self.epoch,
            "regressor": self.regressor.state_dict(),
            "teacher": self.teacher.state_dict(),
            **self.descent.state(),
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continues from what :meth:`state` gave."""
        self.epoch = state["epoch"]
        self.regressor.load_state_dict(state["regressor"])
        self.teacher.load_state_dict(state["teacher"])
        self.descent.load_state(state)
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])


def weak_boxes(regressor: BoxRegressor, teacher: BoxRegressor, views: Tensor, config: TrialConfig) -> Tensor:
    """Loc(I_r) of Eq. 4 by the configured teacher, clipped corners (n, 4); the regressor is left in training mode.

    With ``weak_statistics: batch`` batch normalisation takes its statistics from the weak views themselves (method
    notes 9).
    """
    network = regressor if config.refinement.teacher == "online" else teacher
    network.train(config.refinement.weak_statistics == "batch" and config.refinement.teacher != "frozen")
    raw = network(views).float()
    regressor.train()
    return boxes.clip(as_corners(raw, config.box_format))


def stage_losses(
    regressor: BoxRegressor,
    teacher: BoxRegressor,
    classifier: BapClassifier,
    views: Tensor,
    draw: StrongDraw,
    config: TrialConfig,
) -> Tensor:
    """Eq. 6 on one batch of normalised views (n, 3, s, s): a function of tensors without host synchronisation.

    A box that the strong augmentation moves out of the view altogether is rejected like one below tau. Returns the
    vector (Eq. 6, share of selected boxes, mean confidence, mean area of the weak boxes).
    """
    with torch.no_grad():
        weak = weak_boxes(regressor, teacher, views, config)
        sure = confidence(classifier(crop(views, weak)).logits)
        images, targets = BACKENDS[config.refinement.backend](views, weak, draw)
        selected = high_quality(sure, config.tau) & (boxes.area(targets) > 0)
    loss = losses.consistency_loss(regressor(images), as_target(targets, config.box_format), selected)
    return torch.stack([loss, selected.float().mean(), sure.mean(), boxes.area(weak).mean()])
