"""One trial: configuration in, both stages, scores and files out. Runs without Ray and without MLflow.

A stage's result lies in a folder of the store that is named by what made it (``lchp.training.identity``), so that
trials share an initialization, and a trial that was stopped, however it was, continues after its last finished epoch.
``scores.json`` is the last file of a folder to be written: where it lies, the stage is done.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lchp.data.files import read_json, write_json, write_text
from lchp.training import environment
from lchp.training.checkpoint import load_tensors, save_tensors
from lchp.training.config import TrialConfig
from lchp.training.evaluation import Evaluator, Measured, floors
from lchp.training.initialization import Initialization, trained_networks
from lchp.training.material import Material, Runtime
from lchp.training.refinement import Refinement

CHECKPOINT, NETWORKS, DONE = "checkpoint.pt", "networks.pt", "scores.json"
HISTORY, PER_IMAGE, SELECTION = "history.json", "per_image.csv", "selection.csv"


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


def run_trial(
    config: TrialConfig,
    runtime: Runtime,
    report: Callable[[EpochReport], None],
    material: Material | None = None,
) -> TrialResult:
    """Trains and measures a trial, or continues it, or finds it done; ``report`` is called after every epoch, past
    ones included.

    ``material``, here and in the functions below, is what :meth:`Material.prepare` gave for these data and this runtime
    (see :meth:`Material.serving`); without it the data are prepared, which on ImageNet takes minutes.

    Raises:
        ValueError: something that the trial reads is missing or wrong; names it and the remedy.
        FloatingPointError: a loss, or an answer of the trained networks, was not finite; names stage, epoch and batch,
            or image.
    """
    material = _material(config, runtime, material)
    for epoch in trial_epochs(config, runtime, material):
        report(epoch)
    result = finished_trial(config, runtime, material)
    assert result is not None, "a trial without further epochs is finished"
    return result


def finished_trial(config: TrialConfig, runtime: Runtime, material: Material | None = None) -> TrialResult | None:
    """The result of a trial that the store holds already; None while it is not finished."""
    folder = _material(config, runtime, material).trial_folder(config)
    return TrialResult(folder, read_json(folder / DONE)) if (folder / DONE).exists() else None


def trial_epochs(config: TrialConfig, runtime: Runtime, material: Material | None = None) -> Iterator[EpochReport]:
    """The epochs of a trial, each yielded when it is finished and on disk; the trial is done when the iterator ends.

    Past epochs are read from files and come first. An initialization that another process is training is waited for,
    then reused.
    """
    torch.set_num_threads(config.compute.cpu_threads)
    if config.compute.deterministic and runtime.device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.compute.deterministic)
    material = _material(config, runtime, material)
    first, folder = material.initialization_folder(config), material.trial_folder(config)
    evaluator = Evaluator(config, runtime.device, runtime.loader_workers)
    with _locked(first):
        yield from _initialize(config, material, evaluator, first)
    with _locked(folder):
        yield from _refine(config, material, evaluator, first, folder)


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


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds a stage's folder for this process; the lock goes with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _continued(stage: Initialization | Refinement, folder: Path) -> list[EpochReport]:
    """Continues a stage from its checkpoint, if there is one; gives its past epochs."""
    if not (folder / CHECKPOINT).exists():
        return []
    checkpoint = load_tensors(folder / CHECKPOINT)
    stage.load_state(checkpoint["state"])
    return _past(json.loads(checkpoint["history"]))


def _past(history: list[dict[str, Any]]) -> list[EpochReport]:
    return [EpochReport(**{**epoch, "reused": True}) for epoch in history]


def _plain(history: list[EpochReport]) -> list[dict[str, Any]]:
    """Epochs as files hold them. Whether one was reused is a matter of the call that reads it, not of the epoch."""
    return [asdict(replace(epoch, reused=False)) for epoch in history]


def _train(
    stage: Initialization | Refinement, before: int, material: Material, evaluator: Evaluator, folder: Path
) -> Iterator[EpochReport]:
    """Trains a stage from wherever it stands to its last epoch, one checkpoint an epoch. Past epochs are yielded
    first; ``before`` epochs lie before the stage.
    """
    history = _continued(stage, folder)
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
        save_tensors(folder / CHECKPOINT, {"state": stage.state(), "history": json.dumps(_plain(history))})
        yield history[-1]


def _initialize(config: TrialConfig, material: Material, evaluator: Evaluator, folder: Path) -> Iterator[EpochReport]:
    """The initialization stage in its folder, trained, continued or found done."""
    if (folder / DONE).exists():
        yield from _past(read_json(folder / HISTORY))
        return
    material.open_images()
    stage = Initialization(config, len(material.dataset.classes), material.runtime.device)
    history = []
    for epoch in _train(stage, 0, material, evaluator, folder):
        history.append(epoch)
        yield epoch
    networks = stage.networks
    with _naming_epoch(stage):
        measured = stage.measure(evaluator, material.measured, floors(material.train_split))
        selection = evaluator.select(networks.momentum, networks.regressor, material.train_split)
    if selection is not None:
        write_text(folder / SELECTION, selection)
    save_tensors(
        folder / NETWORKS, {"momentum": networks.momentum.state_dict(), "regressor": networks.regressor.state_dict()}
    )
    _finish(folder, measured, history, config, material)


def _refine(
    config: TrialConfig, material: Material, evaluator: Evaluator, first: Path, folder: Path
) -> Iterator[EpochReport]:
    """The refinement stage in its folder, trained, continued or found done; then the files of the whole trial, those of
    the initialization in ``first`` included.
    """
    before = config.initialization.epochs
    if (folder / DONE).exists():
        yield from _past(read_json(folder / HISTORY))[before:]
        return
    material.open_images()
    networks = trained_networks(config, len(material.dataset.classes), load_tensors(first / NETWORKS))
    stage = Refinement(config, networks, material.runtime.device)
    history = _past(read_json(first / HISTORY))
    for epoch in _train(stage, before, material, evaluator, folder):
        history.append(epoch)
        yield epoch
    measured = Measured.read(read_json(first / DONE), (first / PER_IMAGE).read_text(encoding="utf-8"))
    with _naming_epoch(stage):
        measured.add(stage.measure(evaluator, material.measured))
    if (first / SELECTION).exists():
        write_text(folder / SELECTION, (first / SELECTION).read_text(encoding="utf-8"))
    save_tensors(folder / NETWORKS, {"regressor": stage.regressor.state_dict()})
    _finish(folder, measured, history, config, material)


def _finish(
    folder: Path, measured: Measured, history: list[EpochReport], config: TrialConfig, material: Material
) -> None:
    """Writes what a finished stage leaves; ``scores.json`` last."""
    write_json(folder / "config.json", config.model_dump(mode="json"))
    write_json(folder / "environment.json", environment.describe(material.runtime.device))
    write_json(folder / HISTORY, _plain(history))
    write_text(folder / PER_IMAGE, measured.per_image_csv())
    files = (f"{path},{digest}" for path, digest in material.digest.files.items())
    write_text(folder / "dataset.csv", "\n".join(("path,sha256", *files)) + "\n")
    write_json(folder / DONE, measured.scores)
    (folder / CHECKPOINT).unlink(missing_ok=True)
