"""Eq. 7: the momentum network, a slowly moving copy of a network; and the average of a network over its steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def update(momentum_network: nn.Module, network: nn.Module, beta: float) -> None:
    """Eq. 7, in place: theta_2 = beta * theta_2 + (1 - beta) * theta_1, from ``network`` into ``momentum_network``.

    ``beta`` in [0, 1), per iteration (paper: 0.9). Buffers, such as batch-norm statistics and their integer counts, are
    copied (method notes 7). Both modules have the same structure.
    """
    slow: list[Tensor] = list(momentum_network.parameters())
    fast: list[Tensor] = list(network.parameters())
    slow_buffers, fast_buffers = list(momentum_network.buffers()), list(network.buffers())
    assert [p.shape for p in slow] == [p.shape for p in fast], "both networks have the same parameters"
    assert [b.shape for b in slow_buffers] == [b.shape for b in fast_buffers], "both networks have the same buffers"
    torch._foreach_lerp_(slow, fast, 1 - beta)
    # On CUDA one launch for all of a type, where a list of several types would be one for each of them.
    for dtype in dict.fromkeys(buffer.dtype for buffer in slow_buffers):
        same = [place for place, buffer in enumerate(slow_buffers) if buffer.dtype == dtype]
        torch._foreach_copy_([slow_buffers[place] for place in same], [fast_buffers[place] for place in same])


@torch.no_grad()
def average(averaged: nn.Module, network: nn.Module, momentum: float, count: int) -> None:
    """The moving average of a network over its steps, in place: theta_a = m * theta_a + (1 - m) * theta, from
    ``network`` into ``averaged``, where m is the smaller of ``momentum`` in [0, 1) and count / (count + 1).

    ``count`` says how many networks it holds already: the first is copied, and the average is the plain mean until
    that looks further back than ``momentum`` does. Batch-norm statistics are averaged alike, since they belong to the
    weights that made them (Eq. 7's momentum network, whose statistics follow the newest weights, copies them); integer
    counts are copied. Both modules have the same structure.
    """
    share = 1 - min(momentum, count / (count + 1))
    slow, fast = ([*module.parameters(), *module.buffers()] for module in (averaged, network))
    assert [t.shape for t in slow] == [t.shape for t in fast], "both networks have the same tensors"
    torch._foreach_lerp_([t for t in slow if t.is_floating_point()], [t for t in fast if t.is_floating_point()], share)
    for mine, theirs in zip(slow, fast, strict=True):
        if not mine.is_floating_point():
            mine.copy_(theirs)
