"""The refinement stage (paper 3.2): boxes whose crop the classifier is sure of teach the regressor consistency; its
result is LCHP-R.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lchp.data import imgaug_backend
from lchp.data.loader import ImageSource
from lchp.method import augmentation, boxes, losses, momentum
from lchp.method.augmentation import StrongDraw, ViewDraw
from lchp.method.confidence import share_count
from lchp.method.networks import BoxRegressor, as_corners
from lchp.store.placement import place
from lchp.training.confidence import Confidence, FoldJudges
from lchp.training.config import TrialConfig
from lchp.training.descent import RegressorDescent
from lchp.training.evaluation import Evaluator, Measured
from lchp.training.feeding import batches
from lchp.training.initialization import Networks, as_target
from lchp.training.loop import autocast, compiled, epoch_order, run_epoch
from lchp.training.material import Split
from lchp.training.recording import Gradients, Input
from lchp.training.seeds import named_generator
from lchp.training.waiting import Watch
from lchp.vocabulary import LCHP_R, LOSS, REFINEMENT, SELECTED

STAGE = REFINEMENT
LOSSES = (LOSS, SELECTED, "confidence", "area")

LEAST_PASSING = 2
"""Views of a batch that pass the regressor whatever is dropped: batch normalisation wants two where maps are one cell.
"""

Strong = Callable[[Tensor, Tensor, StrongDraw], tuple[Tensor, Tensor]]
BACKENDS: dict[str, Strong] = {"batched": augmentation.strong, "imgaug": imgaug_backend.strong}


class Refinement:
    """The stage between two epochs. It owns the regressor it is given; the classifier stays as initialization left
    it.
    """

    name: str = STAGE

    def __init__(self, config: TrialConfig, networks: Networks, device: str, judges: FoldJudges | None = None) -> None:
        """``judges`` are those of the confidence ``out_of_fold``, which alone has such."""
        self.config = config
        self.device = device
        self.epoch = 0
        self.epochs = config.refinement.epochs
        self.watch = Watch(device)
        self.classifier = networks.judge
        self.regressor = networks.regressor
        self.teacher = copy.deepcopy(networks.regressor).requires_grad_(False).eval()
        for network in (self.classifier, self.regressor, self.teacher):
            place(network, config.compute, device)
        self.confidence = Confidence(config, self.classifier, judges)
        self._logits: dict[str, Tensor] = {}
        self._gradients = Gradients([self.regressor], config.compute, device)
        self._losses = compiled(stage_losses, config.compute, device)
        stage = config.refinement
        self.descent = RegressorDescent(self.regressor, stage.rate, stage.epochs, stage.optimizer, stage)
        self.generators = {
            name: named_generator(config.seed, f"{STAGE} {name}") for name in ("order", "view", "strong")
        }

    def train_epoch(self, source: ImageSource, workers: int) -> dict[str, float]:
        """Trains one more epoch on ``source``; gives the mean of Eq. 6, the share of selected boxes, the confidence
        and the weak boxes' area.
        """
        self.classifier.eval()
        self.regressor.train()
        fed = self.batches(source, workers)
        metrics = run_epoch(fed, self._step, LOSSES, STAGE, self.epoch + 1, self.watch)
        self.descent.end_epoch()
        self.epoch += 1
        return metrics

    def batches(self, source: ImageSource, workers: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Images (uint8), labels and places of the next epoch, on the device, in an order that is drawn now."""
        order, batch_size = epoch_order(len(source), self.config.refinement.batch_size, self.generators["order"])
        return batches(source, order, batch_size, drop_last=True, workers=workers, device=self.device)

    def views(self, images: Tensor) -> tuple[Tensor, ViewDraw]:
        """The next general views of a batch of uint8 images, normalised, and what was drawn; both on the device."""
        view = self.config.view
        draw = augmentation.draw_view(len(images), view.resize, view.crop, view.flip, self.generators["view"])
        draw, images = draw.to(self.device), images.to(self.device, non_blocking=True)
        return augmentation.normalised_view(images, draw, view.crop), draw

    def _step(self, images: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        """One optimization step on a batch of uint8 images; gives the values named in LOSSES."""
        view, stage = self.config.view, self.config.refinement
        draw = augmentation.draw_view(len(images), view.resize, view.crop, view.flip, self.generators["view"])
        strong = augmentation.draw_strong(
            len(images), view.crop, self.config.augmentation, self.generators["strong"], stage.augmented_share
        )
        here = (part.to(self.device, non_blocking=True) for part in (images, labels, places))
        inputs: tuple[Input, ...] = *here, draw.to(self.device), strong.to(self.device)
        values = self._gradients(self._values, inputs, stage.alpha, None)
        self.descent.step()
        if stage.teacher == "ema":
            momentum.update(self.teacher, self.regressor, stage.teacher_momentum)
        return values

    def _values(self, images: Tensor, labels: Tensor, places: Tensor, draw: ViewDraw, strong: StrongDraw) -> Tensor:
        """The losses of a batch of uint8 images, all on the device."""
        views = augmentation.normalised_view(images, draw, self.config.view.crop)
        with autocast(self.config.compute, self.device):
            return self._losses(
                self.regressor, self.teacher, self.confidence, views, labels, places, strong, self.config
            )

    def measure(self, evaluator: Evaluator, splits: list[Split]) -> Measured:
        """LCHP-R on every split."""
        methods = {LCHP_R: evaluator.regressed(self.descent.reported)}
        return evaluator.measure(methods, self.classifier, splits, self._logits)

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
    network = _teaching(regressor, teacher, config)
    network.train(config.refinement.weak_statistics == "batch" and config.refinement.teacher != "frozen")
    raw = network(views).float()
    regressor.train()
    return boxes.clip(as_corners(raw, config.box_format))


def _teaching(regressor: BoxRegressor, teacher: BoxRegressor, config: TrialConfig) -> BoxRegressor:
    return regressor if config.refinement.teacher == "online" else teacher


@contextmanager
def _statistics_kept(network: BoxRegressor) -> Iterator[None]:
    """Within the block batch normalisation may update its running statistics; afterwards they are as before."""
    kept = [buffer.clone() for buffer in network.buffers()]
    yield
    for buffer, value in zip(network.buffers(), kept, strict=True):
        buffer.copy_(value)


def stage_losses(
    regressor: BoxRegressor,
    teacher: BoxRegressor,
    confidence: Confidence,
    views: Tensor,
    labels: Tensor,
    places: Tensor,
    draw: StrongDraw,
    config: TrialConfig,
) -> Tensor:
    """Eq. 6 on one batch of normalised views (n, 3, s, s), their labels (n,) and places (n,) in the training split: a
    function of tensors without host synchronisation.

    A box that the strong augmentation moves out of the view altogether is rejected like one below tau. Returns the
    vector (Eq. 6, share of selected boxes, mean confidence, mean area of the weak boxes). Where rejected views are
    dropped and tau selects, the host waits for the selection.
    """
    with torch.no_grad():
        weak, sure = judged(regressor, teacher, confidence, views, labels, places, config)
        images, targets = BACKENDS[config.refinement.backend](views, weak, draw)
        selected = confidence.selected(sure) & (boxes.area(targets) > 0)
    loss = _loss(regressor, images, as_target(targets, config.box_format), selected, config)
    return torch.stack([loss, selected.float().mean(), sure.mean(), boxes.area(weak).mean()])


def _loss(regressor: BoxRegressor, images: Tensor, targets: Tensor, selected: Tensor, config: TrialConfig) -> Tensor:
    """Eq. 6 on strong views (n, 3, s, s) and their boxes (n, 4), of which the mask ``selected`` (n,) are learned.

    Where rejected views are dropped only :func:`passing` ones pass the regressor. The sum is divided by n all the same,
    as the paper writes it: a network without batch normalisation gets the gradient that it would get from all views.
    """
    if config.refinement.rejected == "mask":
        return losses.consistency_loss(regressor(images), targets, selected)
    rows = passing(selected, config.confidence.keep)
    loss = losses.consistency_loss(regressor(images[rows]), targets[rows], selected[rows])
    return loss * (len(rows) / len(selected))


def passing(selected: Tensor, keep: float | None) -> Tensor:
    """The rows (m,) int64 of a batch that pass the regressor where rejected views are dropped: those of the mask
    ``selected`` (n,), in their order.

    At least LEAST_PASSING, so that one or two may be rejected ones, which add nothing to the loss still. With ``keep``
    it is that share of every batch, with those in it that the strong augmentation moved out: one shape, and no host
    synchronisation.
    """
    count = int(selected.sum()) if keep is None else share_count(keep, len(selected))
    return (~selected).byte().argsort(stable=True)[: max(LEAST_PASSING, count)]


def judged(
    regressor: BoxRegressor,
    teacher: BoxRegressor,
    confidence: Confidence,
    views: Tensor,
    labels: Tensor,
    places: Tensor,
    config: TrialConfig,
) -> tuple[Tensor, Tensor]:
    """The weak boxes (n, 4) of a batch of views, as :func:`weak_boxes`, and their confidences (n,)."""

    def again(others: Tensor) -> Tensor:
        # A score that looks twice must not leave other running statistics than one that looks once.
        with _statistics_kept(_teaching(regressor, teacher, config)):
            return weak_boxes(regressor, teacher, others, config)

    weak = weak_boxes(regressor, teacher, views, config)
    return weak, confidence.score(views, weak, labels, places, again)
