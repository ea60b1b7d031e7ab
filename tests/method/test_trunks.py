from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from lchp.method import trunks


def test_half_range_of_imagenet_normalised_pixels_is_twice_the_pixel_minus_one() -> None:
    pixels = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (pixels - mean[:, None, None]) / deviation[:, None, None]
    torch.testing.assert_close(trunks.HalfRange()(normalised), 2 * pixels - 1)


def test_dilate_keeps_what_stands_before_the_stride() -> None:
    layers = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, 2, 1), nn.Conv2d(1, 1, 5, padding=2))
    trunks.dilate(layers)
    assert [layer.stride for layer in layers] == [(1, 1)] * 3
    assert [layer.dilation for layer in layers] == [(1, 1), (1, 1), (2, 2)]
    assert [layer.padding for layer in layers] == [(1, 1), (1, 1), (4, 4)]


def test_dilate_without_a_stride_asserts() -> None:
    with pytest.raises(AssertionError, match="no stride"):
        trunks.dilate(nn.Sequential(nn.Conv2d(1, 1, 3)))


def test_without_last_leaves_out_blocks_of_the_one_child_or_of_several() -> None:
    one = nn.Sequential(OrderedDict(features=nn.Sequential(nn.Identity(), nn.ReLU(), nn.Tanh())))
    shorter = trunks.without_last(one, 2)
    assert [name for name, _ in shorter.named_children()] == ["features"]
    assert list(shorter.features) == [one.features[0]]
    several = nn.Sequential(OrderedDict(stem=nn.Identity(), layer=nn.Sequential(nn.ReLU(), nn.Tanh())))
    assert [name for name, _ in trunks.without_last(several, 1).named_children()] == ["stem"]
    assert torch.equal(trunks.without_last(one, 0)(torch.ones(1)), one(torch.ones(1)))
    with pytest.raises(ValueError, match="3 of the 3 blocks cannot be left out: leave one"):
        trunks.without_last(one, 3)


@pytest.mark.parametrize(("height", "width"), [(10, 10), (7, 4), (1, 3)])
def test_dilated_depthwise_has_the_gradients_of_the_convolution(height: int, width: int) -> None:
    plain = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False).double()
    quick = copy.deepcopy(plain)
    trunks.by_onednn(quick)
    assert type(quick) is trunks.DilatedDepthwise
    maps = torch.randn(3, 8, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = [maps.clone().requires_grad_() for _ in range(2)]
    found = [layer(one) for layer, one in zip((plain, quick), given, strict=True)]
    assert torch.equal(*found)
    for answer in found:
        answer.square().sum().backward()
    torch.testing.assert_close(given[1].grad, given[0].grad)
    torch.testing.assert_close(quick.weight.grad, plain.weight.grad)


def test_by_onednn_leaves_other_convolutions_as_they_are() -> None:
    kept = [nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 3, dilation=2), nn.Conv2d(4, 4, 3, 2, 2, 2, groups=4)]
    kept.append(nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, bias=True))
    before = [(type(layer), layer.dilation) for layer in kept]
    trunks.by_onednn(nn.Sequential(*kept))
    assert [(type(layer), layer.dilation) for layer in kept] == before


def test_dilated_depthwise_learns_under_autocast() -> None:
    layer = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, bias=False)
    trunks.by_onednn(layer)
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.ones(1, 4, 5, 5)).float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.any()
