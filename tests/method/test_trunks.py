from __future__ import annotations

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
