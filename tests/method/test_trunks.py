from __future__ import annotations

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
