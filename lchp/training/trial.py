"""One trial: configuration in, both stages, scores and files out. Runs without Ray and without MLflow.

A stage's result lies in a folder of the store that is named by what made it (``lchp.training.identity``), so that
trials share an initialization, and a trial that was stopped, however it was, continues after its last finished epoch.
A folder that is damaged (``lchp.store.folder``) is set aside, and its stage is trained again to the same bits.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lchp.store.checks import Damaged
from lchp.store.folder import StageFolder, StageResult
from lchp.training import environment
from lchp.training.box_sources import fixed_boxes
from lchp.training.config import TrialConfig
from lchp.training.evaluation import Evaluator, Measured, floors
from lchp.training.initialization import Initialization, stored_weights, trained_networks
from lchp.training.material import Material, Runtime
from lchp.training.refinement import Refinement
from lchp.training.selection import measure_selection

Say = Callable[[str], None]
"""Takes one line for people."""


@dataclass(frozen=True)
class EpochReport:
    """One finished epoch: ``epoch`` counts from 1 in its stage, ``step`` over both stages."""

    stage: str
    epoch: int
    step: int
    metrics: dict[str, float]
    """``train/<stage>/<name>`` and, where val was measured, ``<method>/val/<metric>``."""
    seconds: float
    reused: bool = False
    """Whether the epoch was read from files rather than trained by this call."""


@dataclass(frozen=True)
class TrialResult:
    """A finished trial: its folder in the store, and its final scores by ``<method>/<split>/<metric>``."""

    folder: Path
    scores: dict[str, float]


def _silent(line: str) -> None:
    """Says nothing."""


def run_trial(
    config: TrialConfig,
    runtime: Runtime,
    report: Callable[[EpochReport], None],
    material: Material | None = None,
    say: Say = _silent,
) -> TrialResult:
    """Trains and measures a trial, or continues it, or finds it done; ``report`` is called after every epoch, past
    ones included, and ``say`` for every damaged folder that is set aside.

    ``material``, here and in the functions below, is what :meth:`Material.prepare` gave for these data and this runtime
    (see :meth:`Material.serving`); without it the data are prepared, which on ImageNet takes minutes.

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
    for epoch in trial_epochs(config, runtime, material, say):
        report(epoch)
    result = finished_trial(config, runtime, material)
    assert result is not None, "a trial without further epochs is finished"
    return result


def finished_trial(config: TrialConfig, runtime: Runtime, material: Material | None = None) -> TrialResult | None:
    """The result of a trial that the store holds already, whole; None while it is not finished."""
    folder = StageFolder(_material(config, runtime, material).trial_folder(config))
    return TrialResult(folder.path, folder.scores()) if folder.whole else None


def trial_epochs(
    config: TrialConfig, runtime: Runtime, material: Material | None = None, say: Say = _silent
) -> Iterator[EpochReport]:
    """The epochs of a trial, each yielded when it is finished and on disk; the trial is done when the iterator ends.

    Past epochs are read from files and come first. An initialization that another process is training is waited for,
    then reused.
    """
    torch.set_num_threads(config.compute.cpu_threads)
    if config.compute.deterministic and runtime.device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.compute.deterministic)
    material = _material(config, runtime, material)
    first, folder = StageFolder(material.initialization_folder(config)), StageFolder(material.trial_folder(config))
    evaluator = Evaluator(config, runtime.device, runtime.loader_workers)
    with folder.lock():
        if _keeps(folder, say):
            yield from _past(folder.history())
            return
        material.open_images()
        with first.lock():
            if _keeps(first, say):
                yield from _past(first.history())
            else:
                yield from _initialize(config, material, evaluator, first, say)
        yield from _refine(config, material, evaluator, first, folder, say)


def _material(config: TrialConfig, runtime: Runtime, material: Material | None) -> Material:
    return Material.prepare(config, runtime) if material is None else material.serving(config, runtime)


@contextmanager
def _naming_epoch(stage: Initialization | Refinement) -> Iterator[None]:
    """Says of networks whose answers are not finite after which epoch they were measured: their last step, which no
    later loss tells of, may have broken them.
    """
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"{stage.name}, after epoch {stage.epoch}: {error}") from error


def _keeps(folder: StageFolder, say: Say) -> bool:
    """Whether a folder, whose lock is held, has its stage done and whole. A damaged one is set aside."""
    fault = folder.fault()
    if fault is not None:
        say(f"{folder.path}: {fault}: set aside as {folder.set_aside().name}, trained again")
    return folder.done


def _continued(stage: Initialization | Refinement, folder: StageFolder, say: Say) -> list[EpochReport]:
    """Continues a stage from its checkpoint, if there is a whole one; gives its past epochs."""
    if not folder.has_checkpoint:
        return []
    try:
        checkpoint = folder.checkpoint()
    except Damaged as damage:
        aside = folder.set_aside().name
        say(f"{folder.path}: {damage.fault}: set aside as {aside}, the stage starts from its beginning")
        return []
    stage.load_state(checkpoint["state"])
    return _past(json.loads(checkpoint["history"]))


def _past(history: list[dict[str, Any]]) -> list[EpochReport]:
    return [EpochReport(**{**epoch, "reused": True}) for epoch in history]


def _plain(history: list[EpochReport]) -> list[dict[str, Any]]:
    """Epochs as files hold them. Whether one was reused is a matter of the call that reads it, not of the epoch."""
    return [asdict(replace(epoch, reused=False)) for epoch in history]


def _train(
    stage: Initialization | Refinement,
    before: int,
    material: Material,
    evaluator: Evaluator,
    folder: StageFolder,
    say: Say,
) -> Iterator[EpochReport]:
    """Trains a stage from wherever it stands to its last epoch, one checkpoint an epoch. Past epochs are yielded
    first; ``before`` epochs lie before the stage.
    """
    history = _continued(stage, folder, say)
    yield from history
    while stage.epoch < stage.epochs:
        started = time.monotonic()
        metrics = stage.train_epoch(material.train, material.runtime.loader_workers)
        every = stage.config.evaluation.every
        if material.val is not None and (stage.epoch % every == 0 or stage.epoch == stage.epochs):
            with _naming_epoch(stage):
                metrics.update(stage.measure(evaluator, [material.val]).scores)
        seconds = time.monotonic() - started
        history.append(EpochReport(stage.name, stage.epoch, before + stage.epoch, metrics, seconds))
        folder.save_checkpoint({"state": stage.state(), "history": json.dumps(_plain(history))})
        yield history[-1]


def _initialize(
    config: TrialConfig, material: Material, evaluator: Evaluator, folder: StageFolder, say: Say
) -> Iterator[EpochReport]:
    """The initialization stage in its folder, trained or continued."""
    fixed = fixed_boxes(config, material)
    stage = Initialization(config, len(material.dataset.classes), material.runtime.device, fixed)
    history = []
    for epoch in _train(stage, 0, material, evaluator, folder, say):
        history.append(epoch)
        yield epoch
    with _naming_epoch(stage):
        measured = stage.measure(evaluator, material.measured, floors(material.train_split))
    weights = stored_weights(config, stage.networks, stage.regressor_descent.reported)
    folder.finish(_result(config, material, history, measured, None, weights))


def _refine(
    config: TrialConfig, material: Material, evaluator: Evaluator, first: StageFolder, folder: StageFolder, say: Say
) -> Iterator[EpochReport]:
    """The refinement stage in its folder, trained or continued; then the files of the whole trial, those of the
    initialization in ``first`` included.
    """
    classes = len(material.dataset.classes)
    stage = Refinement(config, trained_networks(config, classes, first.networks()), material.runtime.device)
    history = _past(first.history())
    for epoch in _train(stage, config.initialization.epochs, material, evaluator, folder, say):
        history.append(epoch)
        yield epoch
    measured = Measured.read(first.scores(), first.per_image_text())
    with _naming_epoch(stage):
        measured.add(stage.measure(evaluator, material.measured))
    untrained = Refinement(config, trained_networks(config, classes, first.networks()), material.runtime.device)
    with _naming_epoch(untrained):
        selection = measure_selection(untrained, evaluator, material.train_split)
    weights = {"regressor": stage.descent.reported.state_dict()}
    folder.finish(_result(config, material, history, measured, selection, weights))


def _result(
    config: TrialConfig,
    material: Material,
    history: list[EpochReport],
    measured: Measured,
    selection: str | None,
    networks: dict[str, Any],
) -> StageResult:
    """What a finished stage leaves, as plain values."""
    return StageResult(
        config=config.model_dump(mode="json"),
        environment=environment.describe(material.runtime.device),
        history=_plain(history),
        scores=measured.scores,
        per_image=measured.per_image_csv(),
        selection=selection,
        dataset=material.digest.files,
        networks=networks,
    )
