"""Eq. 7: the momentum network, a slowly moving copy of a network."""

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
    if slow_buffers:
        torch._foreach_copy_(slow_buffers, fast_buffers)
