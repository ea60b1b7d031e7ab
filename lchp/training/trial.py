"""One trial: configuration in, both stages, scores and files out. Runs without Ray and without MLflow.

A stage's result lies in a folder of the store that is named by what made it (``lchp.training.identity``), so that
trials share an initialization, and a trial that was stopped, however it was, continues after its last finished epoch.
A longer training goes on from where a shorter one of the same course ended, to the bits that it has alone.
A folder that is damaged (``lchp.store.folder``) is set aside, and its stage made again to the same bits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lchp.store.datasets import keep_classes, keep_list
from lchp.store.exchange import keeps, leave
from lchp.store.folder import StageFolder, StageResult
from lchp.store.in_use import using
from lchp.store.milestones import Milestones
from lchp.training.box_sources import fixed_boxes
from lchp.training.config import TrialConfig
from lchp.training.evaluation import Evaluator, Measured, floors
from lchp.training.initialization import Initialization, stored_weights, trained_networks
from lchp.training.material import Material, Runtime
from lchp.training.out_of_fold import fold_judges, out_of_fold_epochs
from lchp.training.refinement import Refinement
from lchp.training.selection import measure_selection
from lchp.training.stages import (
    Checkpoint,
    EpochReport,
    Say,
    naming_epoch,
    past,
    set_up_torch,
    silent,
    stage_result,
    train_stage,
)
from lchp.vocabulary import is_training_key


@dataclass(frozen=True)
class TrialResult:
    """A finished trial: its folder in the store, and its final scores by ``<method>/<split>/<metric>``."""

    folder: Path
    scores: dict[str, float]


def run_trial(
    config: TrialConfig,
    runtime: Runtime,
    report: Callable[[EpochReport], None],
    material: Material | None = None,
    say: Say = silent,
) -> TrialResult:
    """Trains and measures a trial, or continues it, or finds it done; ``report`` is called after every epoch, past
    ones included, and ``say`` for every damaged folder that is set aside.

    ``material``, here and in the functions below, is what :meth:`Material.prepare` gave for these data and this runtime
    (see :meth:`Material.serving`); without it the data are prepared, which on ImageNet takes minutes.

    On the CPU the process keeps, from then on and not for the trial alone, memory that is freed
    (:func:`lchp.training.memory.keep_freed_memory`).

    >>> from tempfile import TemporaryDirectory
    >>> config = TrialConfig.model_validate({
    ...     "dataset": {"kind": "synthetic", "train_per_class": 4, "test_per_class": 2, "size": 40},
    ...     "classifier": "small_cnn", "backbone": "small_cnn",
    ...     "weights": {"classifier": "none", "regressor": "none"},
    ...     "split": {"val_per_class": 0}, "view": {"resize": 40, "crop": 32},
    ...     "initialization": {"epochs": 1, "batch_size": 8}, "refinement": {"epochs": 1, "batch_size": 8},
    ... })
    >>> with TemporaryDirectory() as folder:
    ...     result = run_trial(config, Runtime(Path(folder) / "store", Path(folder) / "cache"), lambda epoch: None)
    ...     images = len(StageFolder(result.folder).per_image())
    >>> 0 <= result.scores["lchp_r/test/gt_known"] <= 1
    True
    >>> images  # 8 classes of 2 test images, by three methods and two floors
    80

    Raises:
        ValueError: something that the trial reads is missing or wrong; names it and the remedy.
        FloatingPointError: a loss, or an answer of the trained networks, was not finite; names stage, epoch and batch,
            or image.
    """
    material = _material(config, runtime, material)
    with using(runtime.store):
        for epoch in trial_epochs(config, runtime, material, say):
            report(epoch)
        result = finished_trial(config, runtime, material)
    assert result is not None, "a trial without further epochs is finished"
    return result


def finished_trial(config: TrialConfig, runtime: Runtime, material: Material | None = None) -> TrialResult | None:
    """The result of a trial that the store holds already, whole; None while it is not finished."""
    material = _material(config, runtime, material)
    folder = material.stage(material.trial_folder(config))
    return TrialResult(folder.path, folder.scores()) if folder.whole else None


def trial_epochs(
    config: TrialConfig, runtime: Runtime, material: Material | None = None, say: Say = silent
) -> Iterator[EpochReport]:
    """The epochs of a trial, each yielded when it is finished and on disk; the trial is done when the iterator ends.

    Past epochs are read from files and come first. An initialization that another process is training is waited for,
    then reused. Between the stages lie those of the classifiers that its confidence may have, which count none of the
    trial's steps; a trial that is finished does not give them again.
    """
    set_up_torch(config.compute, runtime.device)
    material = _material(config, runtime, material)
    first, folder = (
        material.stage(material.initialization_folder(config)),
        material.stage(material.trial_folder(config)),
    )
    evaluator = Evaluator(config, runtime.device, runtime.loader_workers)
    with using(runtime.store), folder.lock():
        if keeps(folder, say):
            yield from past(folder.history())
            return
        material.open_images()
        keep_list(runtime.store, material.digest)
        keep_classes(runtime.store, material.digest.total, material.dataset.classes)
        with first.lock():
            if keeps(first, say):
                yield from past(first.history())
            else:
                yield from _initialize(config, material, evaluator, first, say)
        if config.confidence.out_of_fold:
            yield from out_of_fold_epochs(config, material, evaluator, say)
        yield from _refine(config, material, evaluator, first, folder, say)


def _material(config: TrialConfig, runtime: Runtime, material: Material | None) -> Material:
    return Material.prepare(config, runtime) if material is None else material.serving(config, runtime)


def _train(
    stage: Initialization | Refinement,
    before: int,
    material: Material,
    evaluator: Evaluator,
    folder: StageFolder,
    milestones: Milestones | None,
    say: Say,
) -> Iterator[EpochReport]:
    """Trains a stage to its last epoch, and measures it on val after some of them. A shorter training of the same
    course has left in ``milestones`` what need not be trained again.
    """

    def train_epoch() -> dict[str, float]:
        metrics = stage.train_epoch(material.train, material.runtime.loader_workers)
        if material.val is not None and _measured_after(stage.epoch, stage):
            with naming_epoch(stage):
                metrics.update(stage.measure(evaluator, [material.val]).scores)
        return metrics

    def begun() -> Checkpoint | None:
        found = milestones.longest(stage.epochs, say) if milestones else None
        if found is None:
            return None
        history = json.loads(found["history"])
        # The shorter one was measured after its last epoch, whichever that was.
        if not _measured_after(history[-1]["epoch"], stage):
            metrics = history[-1]["metrics"]
            history[-1]["metrics"] = {name: value for name, value in metrics.items() if is_training_key(name)}
        return {**found, "history": json.dumps(history)}

    return train_stage(stage, before, train_epoch, folder, say, begun)


def _measured_after(epoch: int, stage: Initialization | Refinement) -> bool:
    return epoch % stage.config.evaluation.every == 0 or epoch == stage.epochs


def _initialize(
    config: TrialConfig, material: Material, evaluator: Evaluator, folder: StageFolder, say: Say
) -> Iterator[EpochReport]:
    """The initialization stage in its folder, trained or continued."""
    fixed = fixed_boxes(config, material)
    stage = Initialization(config, len(material.dataset.classes), material.runtime.device, fixed)
    history = []
    milestones = material.initialization_course(config) if config.initialization.open_ended else None
    for epoch in _train(stage, 0, material, evaluator, folder, milestones, say):
        history.append(epoch)
        yield epoch
    with naming_epoch(stage):
        measured = stage.measure(evaluator, material.measured, floors(material.train_split, material.floors_file))
    weights = stored_weights(config, stage.networks, stage.regressor_descent.reported)
    result = stage_result(config, material, history, measured, None, weights)
    _finish(folder, result, milestones, stage.epoch)


def _refine(
    config: TrialConfig, material: Material, evaluator: Evaluator, first: StageFolder, folder: StageFolder, say: Say
) -> Iterator[EpochReport]:
    """The refinement stage in its folder, trained or continued; then the files of the whole trial, those of the
    initialization in ``first`` included.
    """
    classes, device = len(material.dataset.classes), material.runtime.device
    judges = fold_judges(config, material)
    stage = Refinement(config, trained_networks(config, classes, first.networks()), device, judges)
    history = past(first.history())
    milestones = material.trial_course(config) if config.refinement.open_ended else None
    for epoch in _train(stage, config.initialization.epochs, material, evaluator, folder, milestones, say):
        history.append(epoch)
        yield epoch
    measured = Measured.read(first.scores(), first.per_image_text())
    with naming_epoch(stage):
        measured.add(stage.measure(evaluator, material.measured))
    untrained = Refinement(config, trained_networks(config, classes, first.networks()), device, judges)
    with naming_epoch(untrained):
        selection = measure_selection(untrained, evaluator, material.train_split)
    weights = {"regressor": stage.descent.reported.state_dict()}
    result = stage_result(config, material, history, measured, selection, weights)
    _finish(folder, result, milestones, stage.epoch)


def _finish(folder: StageFolder, result: StageResult, milestones: Milestones | None, epochs: int) -> None:
    folder.finish(result, milestones.after(epochs) if milestones else None)
    leave(folder)
    if milestones is not None:
        milestones.leave(epochs)
