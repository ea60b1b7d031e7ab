"""One trial: configuration in, both stages, scores and files out. Runs without Ray and without MLflow.

A stage's result lies in a folder of the store that is named by what made it (``lchp.training.identity``), so that
trials share an initialization, and a trial that was stopped, however it was, continues after its last finished epoch.
``scores.json`` is the last file of a folder to be written: where it lies, the stage is done.
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lchp.training import environment, initialization, refinement
from lchp.training.checkpoint import load_tensors, read_json, save_tensors, write_json, write_text
from lchp.training.config import TrialConfig
from lchp.training.evaluation import Evaluator, Measured, floors
from lchp.training.initialization import Initialization, Networks, make_networks
from lchp.training.material import Material, Runtime
from lchp.training.refinement import Refinement

CHECKPOINT, NETWORKS, DONE = "checkpoint.pt", "networks.pt", "scores.json"


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


def run_trial(config: TrialConfig, runtime: Runtime, report: Callable[[EpochReport], None]) -> TrialResult:
    """Trains and measures a trial, or continues it, or finds it done; ``report`` is called after every epoch, past
    ones included.

    Raises:
        ValueError: something that the trial reads is missing or wrong; names it and the remedy.
        FloatingPointError: a loss was not finite; names stage, epoch and batch.
    """
    for epoch in trial_epochs(config, runtime):
        report(epoch)
    result = finished_trial(config, runtime)
    assert result is not None, "a trial without further epochs is finished"
    return result


def finished_trial(config: TrialConfig, runtime: Runtime) -> TrialResult | None:
    """The result of a trial that the store holds already; None while it is not finished."""
    folder = Material.prepare(config, runtime).trial_folder(config)
    return TrialResult(folder, read_json(folder / DONE)) if (folder / DONE).exists() else None


def trial_epochs(config: TrialConfig, runtime: Runtime) -> Iterator[EpochReport]:
    """The epochs of a trial, each yielded when it is finished and on disk; the trial is done when the iterator ends.

    Past epochs are read from files and come first. An initialization that another process is training is waited for,
    then reused.
    """
    torch.set_num_threads(config.compute.cpu_threads)
    if config.compute.deterministic and runtime.device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.compute.deterministic)
    material = Material.prepare(config, runtime)
    first, folder = material.initialization_folder(config), material.trial_folder(config)
    evaluator = Evaluator(config, runtime.device, runtime.loader_workers)
    with _locked(first):
        yield from _initialize(config, material, evaluator, first)
    with _locked(folder):
        yield from _refine(config, material, evaluator, first, folder)


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
    return [EpochReport(**{**epoch, "reused": True}) for epoch in json.loads(checkpoint["history"])]


def _train(
    name: str,
    stage: Initialization | Refinement,
    epochs: int,
    before: int,
    material: Material,
    folder: Path,
    measure: Callable[[], Measured],
) -> Iterator[EpochReport]:
    """Trains a stage from wherever it stands to its last epoch, one checkpoint an epoch. Past epochs are yielded
    first.
    """
    history = _continued(stage, folder)
    yield from history
    while stage.epoch < epochs:
        started = time.monotonic()
        metrics = stage.train_epoch(material.train, material.runtime.loader_workers)
        every = stage.config.evaluation.every
        if material.val is not None and (stage.epoch % every == 0 or stage.epoch == epochs):
            metrics.update(measure().scores)
        seconds = time.monotonic() - started
        history.append(EpochReport(name, stage.epoch, before + stage.epoch, metrics, seconds))
        save_tensors(
            folder / CHECKPOINT, {"state": stage.state(), "history": json.dumps([asdict(epoch) for epoch in history])}
        )
        yield history[-1]


def _initialize(config: TrialConfig, material: Material, evaluator: Evaluator, folder: Path) -> Iterator[EpochReport]:
    """The initialization stage in its folder, trained, continued or found done."""
    if (folder / DONE).exists():
        yield from (EpochReport(**{**epoch, "reused": True}) for epoch in read_json(folder / "history.json"))
        return
    stage = Initialization(config, len(material.dataset.classes), material.runtime.device)
    networks = stage.networks

    def measure(splits: list[Any]) -> Measured:
        measured = Measured()
        for split in splits:
            logits = evaluator.logits(networks.momentum, split.source)
            measured.add(evaluator.measure("pseudo_label", evaluator.pseudo_label(networks.momentum), split, logits))
            if stage.epoch > config.initialization.regressor_start:
                measured.add(evaluator.measure("lchp_i", evaluator.regressed(networks.regressor), split, logits))
        return measured

    history = []
    for epoch in _train(
        initialization.STAGE, stage, config.initialization.epochs, 0, material, folder, lambda: measure([material.val])
    ):
        history.append(epoch)
        yield epoch
    measured = measure(material.measured)
    logits = {split.name: evaluator.logits(networks.momentum, split.source) for split in material.measured}
    measured.add(floors(material.train_split, material.measured, logits))
    selection = evaluator.select(networks.momentum, networks.regressor, material.train_split)
    if selection is not None:
        write_text(folder / "selection.csv", selection)
    save_tensors(
        folder / NETWORKS, {"momentum": networks.momentum.state_dict(), "regressor": networks.regressor.state_dict()}
    )
    _finish(folder, measured, history, config, material)


def _refine(
    config: TrialConfig, material: Material, evaluator: Evaluator, first: Path, folder: Path
) -> Iterator[EpochReport]:
    """The refinement stage in its folder, trained, continued or found done; then the files of the whole trial."""
    before = config.initialization.epochs
    if (folder / DONE).exists():
        history = [EpochReport(**{**epoch, "reused": True}) for epoch in read_json(folder / "history.json")]
        yield from history[before:]
        return
    networks = _initialized(config, material, first)
    stage = Refinement(config, networks, material.runtime.device)

    def measure(splits: list[Any]) -> Measured:
        measured = Measured()
        for split in splits:
            logits = evaluator.logits(networks.momentum, split.source)
            measured.add(evaluator.measure("lchp_r", evaluator.regressed(stage.regressor), split, logits))
        return measured

    history = [EpochReport(**epoch) for epoch in read_json(first / "history.json")]
    for epoch in _train(
        refinement.STAGE, stage, config.refinement.epochs, before, material, folder, lambda: measure([material.val])
    ):
        history.append(epoch)
        yield epoch
    with (first / "per_image.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    measured = Measured(dict(read_json(first / DONE)), [tuple(row) for row in rows])
    measured.add(measure(material.measured))
    if (first / "selection.csv").exists():
        shutil.copyfile(first / "selection.csv", folder / "selection.csv")
    save_tensors(folder / NETWORKS, {"regressor": stage.regressor.state_dict()})
    _finish(folder, measured, history, config, material)


def _initialized(config: TrialConfig, material: Material, first: Path) -> Networks:
    """The networks that a finished initialization left."""
    networks = make_networks(config, len(material.dataset.classes))
    weights = load_tensors(first / NETWORKS)
    networks.momentum.load_state_dict(weights["momentum"])
    networks.regressor.load_state_dict(weights["regressor"])
    return networks


def _finish(
    folder: Path, measured: Measured, history: list[EpochReport], config: TrialConfig, material: Material
) -> None:
    """Writes what a finished stage leaves; ``scores.json`` last."""
    write_json(folder / "config.json", config.model_dump(mode="json"))
    write_json(folder / "environment.json", environment.describe(material.runtime.device))
    write_json(folder / "history.json", [asdict(epoch) for epoch in history])
    write_text(folder / "per_image.csv", measured.per_image_csv())
    files = (f"{path},{digest}" for path, digest in material.digest.files.items())
    write_text(folder / "dataset.csv", "\n".join(("path,sha256", *files)) + "\n")
    write_json(folder / DONE, measured.scores)
    (folder / CHECKPOINT).unlink(missing_ok=True)
