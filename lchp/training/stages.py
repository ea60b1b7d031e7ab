"""A stage in its folder of the store, whichever it is: continued or begun, epoch after epoch, and what it leaves."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import torch

from lchp.store.checks import Damaged
from lchp.store.exchange import leave_checkpoint
from lchp.store.folder import StageFolder, StageResult
from lchp.store.shared import StoreAway
from lchp.training import environment
from lchp.training.config import ComputeConfig, TrialConfig
from lchp.training.evaluation import Measured
from lchp.training.material import Material
from lchp.training.memory import keep_freed_memory
from lchp.training.waiting import Watch, advice

Checkpoint = dict[str, Any]
"""The ``state`` of a stage after an epoch and the ``history`` until then, a JSON text."""

Say = Callable[[str], None]
"""Takes one line for people."""


@dataclass(frozen=True)
class EpochReport:
    """One finished epoch: ``epoch`` counts from 1 in its stage, ``step`` over both stages; over a reference's own."""

    stage: str
    epoch: int
    step: int
    metrics: dict[str, float]
    """``train/<stage>/<name>`` and, where val was measured, ``<method>/val/<metric>``."""
    seconds: float
    reused: bool = False
    """Whether the epoch was read from files rather than trained by this call."""
    waiting_share: float | None = None
    """The share of its steps' time that was waiting for images; None of an epoch of before that was measured."""


class Stage(Protocol):
    """What trains, between two epochs."""

    name: str
    epoch: int
    """Finished epochs."""
    epochs: int
    """Epochs at its end."""
    watch: Watch
    """Looks on at its epochs."""

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Continues from what :meth:`state` gave."""


def silent(line: str) -> None:
    """Says nothing."""


def set_up_torch(compute: ComputeConfig, device: str) -> None:
    """Gives this process what of torch's settings changes the bits of a result, and on the CPU the memory of its own
    that training wants.
    """
    torch.set_num_threads(compute.cpu_threads)
    on_cuda = device.startswith("cuda")
    if not on_cuda:
        keep_freed_memory()
    if compute.deterministic and on_cuda:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(compute.deterministic)
    # All batches of a stage have one shape, but trying every algorithm takes each trial, a process of its own, more
    # than a minute (InceptionV3 at 448 px on an H200), and gives other bits from run to run.
    torch.backends.cudnn.benchmark = False


@contextmanager
def naming_epoch(stage: Stage) -> Iterator[None]:
    """Says of networks whose answers are not finite after which epoch they were measured: their last step, which no
    later loss tells of, may have broken them.
    """
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"{stage.name}, after epoch {stage.epoch}: {error}") from error


def past(history: list[dict[str, Any]]) -> list[EpochReport]:
    """Epochs that files hold, as reports."""
    return [EpochReport(**{**epoch, "reused": True}) for epoch in history]


def train_stage(
    stage: Stage,
    before: int,
    train_epoch: Callable[[], dict[str, float]],
    folder: StageFolder,
    say: Say,
    begun: Callable[[], Checkpoint | None] = lambda: None,
) -> Iterator[EpochReport]:
    """Trains a stage from wherever it stands to its last epoch, one checkpoint an epoch; one that does not stand
    anywhere yet, from what ``begun`` gives of another that begins alike. Past epochs are yielded first; ``before``
    epochs lie before the stage. ``train_epoch`` trains one more and gives its metrics. The first one that waits too
    long for its images is told of.
    """
    history = _continued(stage, folder, say)
    if not history and (checkpoint := begun()) is not None:
        history = _from(stage, checkpoint)
        folder.save_checkpoint(checkpoint)
    yield from history
    told = False
    while stage.epoch < stage.epochs:
        started = time.monotonic()
        metrics = train_epoch()
        seconds, waited = time.monotonic() - started, stage.watch.waited
        place = stage.epoch, before + stage.epoch
        history.append(EpochReport(stage.name, *place, metrics, seconds, waiting_share=waited.share))
        if waited.is_too_long and not told:
            told = True
            say(advice(stage.name, stage.epoch, waited))
        folder.save_checkpoint({"state": stage.state(), "history": json.dumps(_plain(history))})
        try:
            leave_checkpoint(folder)
        except StoreAway as error:
            say(f"{error}: training goes on; elsewhere it would go on from an earlier epoch")
        yield history[-1]


def _continued(stage: Stage, folder: StageFolder, say: Say) -> list[EpochReport]:
    """Continues a stage from its checkpoint, if there is a whole one; gives its past epochs."""
    if not folder.has_checkpoint:
        return []
    try:
        checkpoint = folder.checkpoint()
    except Damaged as damage:
        aside = folder.set_aside().name
        say(f"{folder.path}: {damage.fault}: set aside as {aside}, the stage begins anew")
        return []
    return _from(stage, checkpoint)


def _from(stage: Stage, checkpoint: Checkpoint) -> list[EpochReport]:
    """Continues a stage from a checkpoint; gives its past epochs."""
    stage.load_state(checkpoint["state"])
    return past(json.loads(checkpoint["history"]))


def _plain(history: list[EpochReport]) -> list[dict[str, Any]]:
    """Epochs as files hold them. Whether one was reused is a matter of the call that reads it, not of the epoch."""
    return [asdict(replace(epoch, reused=False)) for epoch in history]


def stage_result(
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
        dataset=material.digest.total,
        networks=networks,
    )
