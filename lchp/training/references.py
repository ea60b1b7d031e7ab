"""References around every result: what the regressor of a configuration reaches when it learns from true boxes.

``supervised`` learns from all true boxes of the training images: the ceiling. ``few_shot_<k>`` learns from those of k
images a class, the comparison that weak supervision must stand (Choe et al. 2020). Network, initial weights, views,
loss, optimizer and the number of steps are those of the regressor in initialization; few images are shown as often as
it takes.

No other module learns from true boxes. Nothing here is part of a trial, and no search is judged by it: a study asks for
references, which lie in folders of their own, shared by all trials that would make the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lchp.method import augmentation
from lchp.method.boxes import area
from lchp.store.datasets import keep_list
from lchp.store.exchange import keeps, leave
from lchp.store.in_use import using
from lchp.store.placement import place
from lchp.training.config import TrialConfig
from lchp.training.descent import RegressorDescent
from lchp.training.evaluation import Evaluator, Measured, true_boxes_of
from lchp.training.feeding import batches
from lchp.training.identity import first_weights
from lchp.training.initialization import drawn_regressor, regressor_loss
from lchp.training.loop import autocast, run_epoch
from lchp.training.material import Material, Runtime, Split
from lchp.training.seeds import named_generator
from lchp.training.stages import (
    EpochReport,
    Say,
    naming_epoch,
    past,
    set_up_torch,
    silent,
    stage_result,
    train_stage,
)
from lchp.training.waiting import Watch
from lchp.training.weights import load_trunk_weights
from lchp.vocabulary import FEW_SHOT_1, FEW_SHOT_5, LOSS

SHOTS = {FEW_SHOT_1: 1, FEW_SHOT_5: 5}
"""Images a class, of the methods that do not learn from all."""


def reference_epochs(
    method: str, config: TrialConfig, runtime: Runtime, material: Material, say: Say = silent
) -> Iterator[EpochReport]:
    """The epochs of a reference for trials of this configuration, each yielded when it is finished and on disk; its
    folder (:meth:`Material.reference_folder`) is done when the iterator ends.

    Past epochs are read from files and come first; a reference that another process is training is waited for.

    Raises:
        FloatingPointError: a loss or an answer was not finite; names reference, epoch and batch, or image.
    """
    set_up_torch(config.compute, runtime.device)
    material = material.serving(config, runtime)
    folder = material.stage(material.reference_folder(config, method))
    with using(runtime.store), folder.lock():
        if keeps(folder, say):
            yield from past(folder.history())
            return
        material.open_images()
        keep_list(runtime.store, material.digest)
        stage = Reference(method, config, material)
        history = []
        for epoch in train_stage(stage, 0, stage.train_epoch, folder, say):
            history.append(epoch)
            yield epoch
        with naming_epoch(stage):
            measured = stage.measure(Evaluator(config, runtime.device, runtime.loader_workers))
        weights = {"regressor": stage.descent.reported.state_dict()}
        folder.finish(stage_result(config, material, history, measured, None, weights))
        leave(folder)


class Reference:
    """A regressor that learns from true boxes, between two epochs."""

    def __init__(self, method: str, config: TrialConfig, material: Material) -> None:
        self.name, self.config, self.material = method, config, material
        self.device = material.runtime.device
        self.split, self.places = shown_images(method, config, material)
        self.boxes = largest_boxes(self.split).to(self.device)
        stage, role = config.initialization, first_weights(config)
        self.epoch, self.epochs = 0, stage.epochs
        self.watch = Watch(self.device)
        self.regressor = drawn_regressor(config)
        load_trunk_weights(self.regressor.trunk, config.backbone, getattr(config.weights, role), f"weights.{role}")
        place(self.regressor, config.compute, self.device)
        self.descent = RegressorDescent(self.regressor, stage.regressor_rate, stage.epochs, stage.optimizer, stage)
        self.generators = {
            name: named_generator(config.seed, f"{method} {name}") for name in ("order", "view", "strong")
        }

    def train_epoch(self) -> dict[str, float]:
        """Trains as many steps as an epoch of initialization has; gives the mean of Eq. 2."""
        self.regressor.train()
        count = len(self.material.train)
        order = repeated_order(self.places, count, self.generators["order"])
        batch_size = min(self.config.initialization.batch_size, count)
        workers = self.material.runtime.loader_workers
        fed = batches(self.split.source, order, batch_size, drop_last=True, workers=workers, device=self.device)
        metrics = run_epoch(fed, self._step, (LOSS,), self.name, self.epoch + 1, self.watch)
        self.descent.end_epoch()
        self.epoch += 1
        return metrics

    def _step(self, images: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        """One optimization step on a batch of uint8 images; gives Eq. 2. Labels are not used."""
        view, stage = self.config.view, self.config.initialization
        draw = augmentation.draw_view(len(images), view.resize, view.crop, view.flip, self.generators["view"])
        strong = None
        if stage.augmentation != "none":
            drawn = augmentation.draw_strong(
                len(images), view.crop, stage.augmentation, self.generators["strong"], stage.augmented_share
            )
            strong = drawn.to(self.device)
        draw = draw.to(self.device)
        images = images.to(self.device, non_blocking=True)
        views = augmentation.normalised_view(images, draw, view.crop)
        targets = self.boxes[places.to(self.device, non_blocking=True)]
        targets = augmentation.view_boxes(targets, draw, view.resize, view.crop)
        with autocast(self.config.compute, self.device):
            loss = regressor_loss(self.regressor, views, targets, self.config.box_format, strong)
        self.descent.optimizer.zero_grad(set_to_none=True)
        (self.config.alpha * loss).backward()  # type: ignore[no-untyped-call]
        self.descent.step()
        return loss.detach()[None]

    def measure(self, evaluator: Evaluator) -> Measured:
        """Its boxes on every split from which it did not learn; of classes it knows nothing."""
        splits = [split for split in self.material.measured if split.name != self.split.name]
        return evaluator.measure({self.name: evaluator.regressed(self.descent.reported)}, None, splits)

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        return {
            "epoch": self.epoch,
            "regressor": self.regressor.state_dict(),
            **self.descent.state(),
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continues from what :meth:`state` gave."""
        self.epoch = state["epoch"]
        self.regressor.load_state_dict(state["regressor"])
        self.descent.load_state(state)
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])


def shown_images(method: str, config: TrialConfig, material: Material) -> tuple[Split, Tensor]:
    """The split whose true boxes a reference learns from, and the places (n,) int64, ascending, of its images there.

    ``supervised`` takes every training image that has true boxes. ``few_shot_<k>`` draws k images a class by the
    trial's seed: from val where each class has that many with true boxes, so that no training image gives a box away,
    else from train (there fewer, of a class that has fewer).
    """
    train = material.train_split
    if method not in SHOTS:
        return train, true_boxes_of(train)[0]
    found = None if material.val is None else _few(SHOTS[method], config.seed, material.val)
    if material.val is not None and found is not None and len(found) == SHOTS[method] * len(material.dataset.classes):
        return material.val, found
    return train, _few(SHOTS[method], config.seed, train)


def _few(count: int, seed: int, split: Split) -> Tensor:
    """The places of ``count`` images of each class that have true boxes, ascending; of fewer where there are fewer.

    One image a class is among the five.
    """
    places, _ = true_boxes_of(split)
    drawn = places[torch.randperm(len(places), generator=named_generator(seed, "few-shot images"))]
    labels = split.source.labels[drawn]
    chosen = [drawn[labels == label][:count] for label in sorted(set(labels.tolist()))]
    return torch.cat(chosen).sort().values if chosen else places


def largest_boxes(split: Split) -> Tensor:
    """The largest true box of every image of a split: (n, 4) float32, corners in [0, 1]; zeros where it has none."""
    boxes = torch.zeros(len(split.source), 4)
    places, truth = true_boxes_of(split)
    for index, several in zip(places.tolist(), truth, strict=True):
        boxes[index] = several[area(several).argmax()].float()
    return boxes


def repeated_order(places: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` places: all of ``places`` (n,) in a random order, and again in another one, as often as it takes."""
    rounds = -(-count // len(places))
    return torch.cat([places[torch.randperm(len(places), generator=generator)] for _ in range(rounds)])[:count]
