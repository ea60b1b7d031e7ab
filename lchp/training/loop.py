"""What both stages share: the epoch over batches, and the precision of the networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar, cast

import torch
from torch import Tensor

from lchp.training.config import ComputeConfig
from lchp.training.waiting import Watch
from lchp.vocabulary import training_key

Step = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Images (uint8), labels and places in the training split of one batch to a vector of losses on the device; the first
of them is the one that is minimised.
"""

Losses = TypeVar("Losses", bound=Callable[..., Tensor])
"""A function that gives a stage's vector of losses."""


def run_epoch(
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    step: Step,
    names: tuple[str, ...],
    stage: str,
    epoch: int,
    watch: Watch,
) -> dict[str, float]:
    """One pass over ``batches``, on which ``watch`` looks; the mean of every value of ``step``, as
    ``train/<stage>/<name>``.

    The values stay on the device until the epoch ends, so that no step waits for one.

    Raises:
        FloatingPointError: a loss was not finite; names stage, epoch and batch, each counted from 1.
    """
    rows = torch.stack([step(*batch) for batch in watch.over(batches)]).double().cpu()
    broken = (~torch.isfinite(rows[:, 0])).nonzero()
    if len(broken):
        batch = int(broken[0, 0])
        raise FloatingPointError(
            f"{stage}: the loss of epoch {epoch}, batch {batch + 1} is {float(rows[batch, 0])}: lower the learning rate"
        )
    return {training_key(stage, name): float(value) for name, value in zip(names, rows.mean(0), strict=True)}


def autocast(compute: ComputeConfig, device: str) -> torch.autocast:
    """The context in which networks run: bf16 autocast, or nothing.

    Without autocast's cache of cast weights: one filled under ``no_grad`` would cut the regressor's gradient in the
    same step.
    """
    enabled = compute.precision == "bf16"
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False)


def maps_context(compute: ComputeConfig, device: str) -> torch.autocast:
    """The context in which maps that boxes are read off are computed, within that of :func:`autocast` or without."""
    enabled = compute.precision == "bf16" and compute.maps_precision == "bf16"
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False)


def compiled(losses: Losses, compute: ComputeConfig, device: str) -> Losses:
    """A stage's losses as they are, or on CUDA compiled, where that is configured, for one shape of batches.

    To be asked for before every stage: what was compiled before it is forgotten.
    """
    if compute.compile != "fused" or torch.device(device).type != "cuda":
        return losses
    torch.compiler.reset()
    return cast(Losses, torch.compile(losses, fullgraph=True, dynamic=False))


def epoch_order(count: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, int]:
    """A random order of all images, and the batch size that fits them."""
    return torch.randperm(count, generator=generator), min(batch_size, count)
