"""Where and in which layout the networks of a trial compute: the same while they train and when their model answers."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from lchp.method.trunks import by_onednn


class Computing(Protocol):
    """What of a trial's ``compute``, or of a model's design, says so."""

    @property
    def precision(self) -> str:
        """``fp32`` or ``bf16``."""

    @property
    def channels_last(self) -> bool:
        """Whether memory is laid out so."""

    @property
    def onednn(self) -> bool:
        """Whether layers on the CPU are those of :func:`lchp.method.trunks.by_onednn`."""


def place(network: nn.Module, compute: Computing, device: str) -> None:
    """Moves a network to the device, in the configured memory layout; for bf16 on CUDA always in channels_last, for
    which its matrix units are made. Its convolutions are oneDNN's where that is configured.
    """
    if compute.onednn and torch.device(device).type == "cpu":
        by_onednn(network)
    suited = compute.precision == "bf16" and torch.device(device).type == "cuda"
    layout = torch.channels_last if compute.channels_last or suited else torch.contiguous_format
    network.to(device).to(memory_format=layout)
