"""Classifiers that judge what they have not seen, for the confidence ``out_of_fold`` (method notes 21).

The training images fall into K folds. Each of K classifiers is trained on all folds but its own, one after the other,
by the recipe of initialization's classifier: the same network, initial weights, rates, decay, number of epochs, views
and Eq. 1, the images masked by its own momentum copy; no regressor learns beside it. All K are calibrated by one
temperature on the labels of val, which none of them has seen. They lie in a folder of their own, shared by all trials
that would make the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lchp.method import augmentation
from lchp.method.confidence import cross_entropy, fit_temperature
from lchp.method.networks import BapClassifier
from lchp.store.exchange import keeps, leave
from lchp.store.folder import StageFolder
from lchp.store.placement import place
from lchp.training.box_sources import live_boxes
from lchp.training.confidence import FoldJudges
from lchp.training.config import TrialConfig
from lchp.training.descent import ClassifierDescent
from lchp.training.evaluation import Evaluator, Measured
from lchp.training.feeding import batches
from lchp.training.initialization import classifier_losses, judge_of, make_classifiers, stored_classifier
from lchp.training.loop import autocast, epoch_order, run_epoch
from lchp.training.material import Material
from lchp.training.seeds import named_generator
from lchp.training.stages import EpochReport, Say, naming_epoch, past, stage_result, train_stage
from lchp.training.waiting import Watch
from lchp.vocabulary import LOSS, OUT_OF_FOLD

LOSSES = (LOSS, "train_cls")


def out_of_fold_epochs(
    config: TrialConfig, material: Material, evaluator: Evaluator, say: Say
) -> Iterator[EpochReport]:
    """The epochs of the classifiers for trials of this configuration, over all folds, each yielded when it is finished
    and on disk; their folder (:meth:`Material.out_of_fold_folder`) is done when the iterator ends.

    Past epochs are read from files and come first; classifiers that another process is training are waited for. Of the
    folder's scores ``temperature`` is T, ``cross_entropy`` that of the answers to val at T, ``cross_entropy_at_1``
    before.

    Raises:
        FloatingPointError: a loss or an answer was not finite; names epoch and batch, or image.
    """
    folder = material.stage(material.out_of_fold_folder(config))
    with folder.lock():
        if keeps(folder, say):
            yield from past(folder.history())
            return
        stage = OutOfFold(config, material)
        history = []
        for epoch in train_stage(stage, 0, stage.train_epoch, folder, say):
            history.append(epoch)
            yield epoch
        with naming_epoch(stage):
            logits, labels = _answers_to_val(stage.classifiers(), material, evaluator)
        temperature = fit_temperature(logits, labels)
        scores = {
            "temperature": temperature,
            "cross_entropy": cross_entropy(logits, labels, temperature),
            "cross_entropy_at_1": cross_entropy(logits, labels, 1.0),
        }
        weights = {
            "judges": stage.judges,
            "folds": stage.folds,
            "temperature": torch.tensor(temperature, dtype=torch.float64),
        }
        folder.finish(stage_result(config, material, history, Measured(scores), None, weights))
        leave(folder)


def fold_judges(config: TrialConfig, material: Material) -> FoldJudges | None:
    """The finished classifiers on the device; None of another confidence. ``Damaged`` as :class:`StageFolder`."""
    if not config.confidence.out_of_fold:
        return None
    weights = StageFolder(material.out_of_fold_folder(config)).networks()
    classifiers = _classifiers(config, material, weights["judges"])
    return FoldJudges(classifiers, weights["folds"].to(material.runtime.device), float(weights["temperature"]))


def fold_of(labels: Tensor, folds: int, seed: int) -> Tensor:
    """The fold, from 0 to ``folds`` - 1, of every training image with these ``labels`` (n,): (n,) int64.

    The images of each class are dealt out in a random order, where the class before ended: every fold has every class
    that has at least ``folds`` images, and all folds are equally large but for one image.
    """
    generator = named_generator(seed, f"{OUT_OF_FOLD} folds")
    drawn = torch.randperm(len(labels), generator=generator)
    by_class = drawn[labels[drawn].argsort(stable=True)]
    return torch.empty_like(labels).scatter(0, by_class, torch.arange(len(labels)) % folds)


class OutOfFold:
    """The classifiers between two epochs: one that learns, and those before it that are done."""

    name: str = OUT_OF_FOLD

    def __init__(self, config: TrialConfig, material: Material) -> None:
        self.config, self.material, self.device = config, material, material.runtime.device
        self.folds = fold_of(material.train.labels, config.confidence.folds, config.seed)
        self.epoch, self.epochs = 0, config.confidence.folds * config.initialization.classifying
        self.watch = Watch(self.device)
        self.judges: dict[str, dict[str, Tensor]] = {}
        """State dicts of those that are done, on the CPU, by the fold that they have not seen."""
        self._begin()

    @property
    def fold(self) -> int:
        """The one that the next epoch leaves out."""
        return self.epoch // self.config.initialization.classifying

    def _begin(self) -> None:
        """A fresh classifier for the fold whose turn it is."""
        classifier, slow = make_classifiers(self.config, len(self.material.dataset.classes))
        for network in (classifier, slow):
            place(network, self.config.compute, self.device)
        self.descent = ClassifierDescent(classifier, slow, self.config)
        self.generators = {
            name: named_generator(self.config.seed, f"{OUT_OF_FOLD} {self.fold} {name}") for name in ("order", "view")
        }

    def train_epoch(self) -> dict[str, float]:
        """Trains one more epoch, of the next fold's classifier where one is done; gives the means of Eq. 1 and of the
        running classification accuracy.
        """
        stage, fold = self.config.initialization, self.fold
        if self.epoch and self.epoch % stage.classifying == 0:
            self._begin()
        self.descent.classifier.train()
        seen = (self.folds != fold).nonzero()[:, 0]
        order, batch_size = epoch_order(len(seen), stage.batch_size, self.generators["order"])
        workers = self.material.runtime.loader_workers
        fed = batches(self.material.train, seen[order], batch_size, drop_last=True, workers=workers, device=self.device)
        metrics = run_epoch(fed, self._step, LOSSES, self.name, self.epoch + 1, self.watch)
        self.descent.end_epoch()
        self.epoch += 1
        if self.epoch % stage.classifying == 0:
            judge = judge_of(self.config, self.descent.classifier, self.descent.momentum_network)
            self.judges[str(fold)] = {name: value.cpu() for name, value in judge.state_dict().items()}
        return metrics

    def _step(self, images: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        """One optimization step on a batch of uint8 images; gives the values named in LOSSES. Places are not used."""
        view = self.config.view
        draw = augmentation.draw_view(len(images), view.resize, view.crop, view.flip, self.generators["view"])
        images, labels = images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
        views = augmentation.normalised_view(images, draw.to(self.device), view.crop)
        with autocast(self.config.compute, self.device):
            with torch.no_grad():
                masked = live_boxes(self.config, self.descent.momentum_network, views, labels).masked
            loss, accuracy = classifier_losses(self.descent.classifier, views, masked, labels)
        self.descent.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.descent.step()
        return torch.stack([loss, accuracy]).detach()

    def classifiers(self) -> list[BapClassifier]:
        """All that are done, on the device, by the fold that they have not seen."""
        return _classifiers(self.config, self.material, self.judges)

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        return {
            "epoch": self.epoch,
            "folds": self.folds,
            "judges": self.judges,
            **self.descent.state(),
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continues from what :meth:`state` gave."""
        self.epoch, self.folds, self.judges = state["epoch"], state["folds"], state["judges"]
        self.descent.load_state(state)
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])


def _classifiers(config: TrialConfig, material: Material, judges: dict[str, dict[str, Tensor]]) -> list[BapClassifier]:
    """Frozen classifiers on the device with these weights, by fold."""
    found = []
    for fold in range(len(judges)):
        classifier = stored_classifier(config, len(material.dataset.classes), judges[str(fold)])
        place(classifier, config.compute, material.runtime.device)
        found.append(classifier)
    return found


def _answers_to_val(
    classifiers: list[BapClassifier], material: Material, evaluator: Evaluator
) -> tuple[Tensor, Tensor]:
    """The logits (k m, classes) of k classifiers on the m whole views of val, and the labels (k m,)."""
    assert material.val is not None, "a configuration with this confidence has val images"
    source = material.val.source
    logits = torch.cat([evaluator.logits(classifier, source) for classifier in classifiers])
    return logits, source.labels.repeat(len(classifiers))
