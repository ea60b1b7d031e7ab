"""The gradients of a step: computed as they are asked for, or on CUDA recorded as one graph, which is then replayed.

A step of either stage is some three thousand kernels of a few microseconds: to launch them one by one takes the host
longer than the device needs for them. A graph is one launch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from lchp.method.augmentation import StrongDraw, ViewDraw
from lchp.training.config import ComputeConfig

Input = Tensor | ViewDraw | StrongDraw | None
"""What a step's losses are a function of: tensors on the device, and nothing else that changes from step to step."""

PLAIN_STEPS = 3
"""Steps before the one that is recorded: libraries choose and load in them what they launch."""


class Gradients:
    """Gives a step's losses, and leaves their gradients at the parameters of ``networks``."""

    def __init__(self, networks: Sequence[nn.Module], compute: ComputeConfig, device: str) -> None:
        self.parameters = [parameter for network in networks for parameter in network.parameters()]
        self.records = compute.compile != "none" and torch.device(device).type == "cuda"
        self._key: object = None
        self._plain_steps = 0
        self._recorded: _Recorded | None = None

    def __call__(self, losses: Callable[..., Tensor], inputs: Sequence[Input], factor: float, kind: object) -> Tensor:
        """The vector that ``losses`` gives for these inputs, detached; its first value times ``factor`` is descended.

        Args:
            losses: without host synchronisation, if steps are recorded.
            kind: what else of ``losses`` changes between steps, by which another graph is recorded.
        """
        if not self.records:
            return self._computed(losses, inputs, factor)
        key = kind, [(tensor.shape, tensor.dtype) for tensor in _tensors(inputs)]
        if key != self._key:
            self._key, self._plain_steps, self._recorded = key, 0, None
        if self._recorded is None:
            if self._plain_steps < PLAIN_STEPS:
                self._plain_steps += 1
                return self._aside(losses, inputs, factor)
            self._recorded = _Recorded(lambda *held: self._computed(losses, held, factor), inputs)
        return self._recorded(inputs)

    def _computed(self, losses: Callable[..., Tensor], inputs: Sequence[Input], factor: float) -> Tensor:
        for parameter in self.parameters:
            parameter.grad = None
        values = losses(*inputs)
        (factor * values[0]).backward()  # type: ignore[no-untyped-call]
        return values.detach()

    def _aside(self, losses: Callable[..., Tensor], inputs: Sequence[Input], factor: float) -> Tensor:
        """As :meth:`_computed`, on another stream than the default one, as recording does."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            values = self._computed(losses, inputs, factor)
        current.wait_stream(self._stream)
        return values

    @cached_property
    def _stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream()  # type: ignore[no-untyped-call]


class _Recorded:
    """A step as a graph. Its inputs, values and gradients lie in places of their own, which every replay overwrites."""

    def __init__(self, step: Callable[..., Tensor], inputs: Sequence[Input]) -> None:
        self.inputs = [_copy(value) for value in inputs]
        self.graph = torch.cuda.CUDAGraph()
        # Threads that read images ahead go on asking for memory meanwhile.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.values = step(*self.inputs)

    def __call__(self, inputs: Sequence[Input]) -> Tensor:
        for place, value in zip(_tensors(self.inputs), _tensors(inputs), strict=True):
            place.copy_(value)
        self.graph.replay()
        return self.values.clone()


def _tensors(inputs: Sequence[Input]) -> Iterator[Tensor]:
    for value in inputs:
        if isinstance(value, Tensor):
            yield value
        elif value is not None:
            yield from _fields(value).values()


def _copy(value: Input) -> Any:
    if value is None or isinstance(value, Tensor):
        return None if value is None else value.clone()
    return replace(cast(Any, value), **{name: tensor.clone() for name, tensor in _fields(value).items()})


def _fields(draw: ViewDraw | StrongDraw) -> dict[str, Tensor]:
    """The tensors of a draw, by name."""
    values = {field.name: getattr(draw, field.name) for field in fields(draw)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
