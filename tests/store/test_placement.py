from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from lchp.store.placement import place
from lchp.training.config import ComputeConfig


def test_place_sets_the_memory_layout() -> None:
    network = nn.Conv2d(3, 4, 3)
    place(network, ComputeConfig(channels_last=True), "cpu")
    assert network.weight.is_contiguous(memory_format=torch.channels_last)
    place(network, ComputeConfig(), "cpu")
    assert network.weight.is_contiguous()


class Told(nn.Conv2d):
    """Keeps what it is moved to, and stays: there need be no device."""

    def to(self, *place: object, **layout: object) -> Told:  # type: ignore[override]
        told.append((*place, *layout.values()))
        return self


told = list[tuple[object, ...]]()


@pytest.mark.parametrize(
    ("precision", "device", "layout"),
    [
        ("bf16", "cuda:1", torch.channels_last),
        ("bf16", "cpu", torch.contiguous_format),
        ("fp32", "cuda:1", torch.contiguous_format),
    ],
)
def test_place_takes_channels_last_for_bf16_on_cuda_alone(
    precision: Literal["fp32", "bf16"], device: str, layout: torch.memory_format
) -> None:
    told.clear()
    place(Told(3, 4, 3), ComputeConfig(precision=precision, onednn=False), device)
    assert told == [(device,), (layout,)]


@pytest.mark.parametrize("onednn", [False, True])
def test_place_gives_small_batches_of_one_tap_to_onednn_where_that_is_asked(onednn: bool) -> None:
    torch.set_num_threads(1)
    network, images = nn.Conv2d(8, 4, 1), torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    wanted = torch.einsum("oc,nchw->nohw", network.weight[..., 0, 0], images) + network.bias[:, None, None]
    place(network, ComputeConfig(onednn=onednn), "cpu")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        found = network(images)
        found.sum().backward()
    names = {event.key for event in seen.key_averages()}
    assert ("aten::mkldnn_convolution" in names) is onednn
    assert ("aten::_slow_conv2d_backward" in names) is not onednn
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(network.weight.grad[0, :, 0, 0], images.sum((0, 2, 3)))
