"""What the hardware can do, measured; and what a piece of work asks of it, counted operation by operation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class Ceilings:
    """Measured on random data."""

    flops: float
    """Floating-point operations a second of a large matrix product: bf16 on CUDA, fp32 on a CPU."""
    bandwidth: float
    """Bytes a second of a large copy within the device's memory, read and written ones both counted."""


def seconds_each(work: Callable[[], object], device: str, repeats: int) -> float:
    """The least seconds of ``repeats`` runs after one that is not timed."""
    times = []
    for _ in range(repeats + 1):
        wait(device)
        started = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def ceilings(device: str) -> Ceilings:
    """Those of a device, with the threads that torch has now."""
    cuda = device == "cuda"
    side, type_ = (8192, torch.bfloat16) if cuda else (1024, torch.float32)
    a, b = (torch.randn(side, side, device=device, dtype=type_) for _ in range(2))
    out = torch.empty_like(a)
    product = seconds_each(lambda: torch.mm(a, b, out=out), device, 20)
    source = torch.randn(2**30 if cuda else 2**25, device=device)
    target = torch.empty_like(source)
    copy = seconds_each(lambda: target.copy_(source), device, 20)
    return Ceilings(2 * side**3 / product, 2 * source.numel() * source.element_size() / copy)


class Counting(TorchDispatchMode):
    """Counts operations (by torch.utils.flop_counter's formulas) and the bytes that they read and write, each input and
    output once an operation; and how long each takes at least, by the larger of its two demands.
    """

    def __init__(self, limits: Ceilings) -> None:
        super().__init__()
        self.limits = limits
        self.flop = self.products_seconds = self.seconds = 0.0
        self.bytes = self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation and counts it, unless it only looks at its input another way."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        infos = [argument.alias_info for argument in func._schema.arguments]
        if any(info is not None and not info.is_write for info in infos):
            return out
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        moved = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        flop = flop_of(func, args, kwargs, out)
        least = max(flop / self.limits.flops, moved / self.limits.bandwidth)
        self.flop, self.bytes, self.operations = self.flop + flop, self.bytes + moved, self.operations + 1
        self.seconds += least
        self.products_seconds += least if flop else 0.0
        return out


def flop_of(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Floating-point operations of one call of an operator; 0 where it is no convolution or matrix product."""
    if func._overloadpacket is torch.ops.aten.convolution_backward:
        # Either gradient takes what the forward pass took. torch 2.15's formula takes grouped ones for whole.
        gradient, weight, wanted = args[0], args[2], args[-1]
        return 2 * gradient.numel() * weight[0].numel() * sum(wanted[:2])
    count = flop_registry.get(func._overloadpacket)
    return count(*args, **kwargs, out_val=out) if count else 0


def demands(work: Callable[[], object], limits: Ceilings, images: int) -> dict[str, float]:
    """What ``work`` on so many images asks for, an image: GFLOP, GB, and the least milliseconds by layer.

    ``layers_ms`` counts every operation as torch was given it; ``products_ms`` convolutions and matrix products alone,
    as if all else were fused into them.
    """
    with Counting(limits) as counted:
        work()
    return {
        "gflop": counted.flop / images / 1e9,
        "gigabytes": counted.bytes / images / 1e9,
        "operations": counted.operations,
        "layers_ms": 1e3 * counted.seconds / images,
        "products_ms": 1e3 * counted.products_seconds / images,
    }
