"""What the trunks of :mod:`lchp.method.backbones` have that torchvision's networks have not."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lchp.method.augmentation import IMAGENET_MEAN, IMAGENET_STD


class HalfRange(nn.Module):
    """From ImageNet's normalisation to the (x - 0.5) / 0.5 of InceptionV3's ImageNet weights (`transform_input`).

    It is always on for InceptionV3, whatever its weights: a fixed affine map per channel, of no consequence to weights
    from scratch.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        # In double, as torchvision's Python numbers are, so that both round to the same float; on the CPU, even where
        # the weights are on no device yet.
        mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float64, device="cpu")
        deviation = torch.tensor(IMAGENET_STD, dtype=torch.float64, device="cpu")
        # Constants, not weights: out of the state dict, so that torchvision's keys stay the only ones.
        self.register_buffer("scale", (deviation / 0.5).float().view(3, 1, 1), persistent=False)
        self.register_buffer("shift", ((mean - 0.5) / 0.5).float().view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) in and out."""
        return images * self.scale + self.shift


def dilate(layers: nn.Module) -> None:
    """Takes the one stride of 2 out of ``layers``, in place; convolutions behind it see as far as before by dilation.

    The stride may be convolutions' (a block's own and its shortcut's) or an average pooling's, which then averages
    nothing.
    """
    strided = False
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            layer.stride, strided = (1, 1), True
        elif isinstance(layer, nn.AvgPool2d):
            layer.kernel_size, layer.stride, strided = 1, 1, True
        elif isinstance(layer, nn.Conv2d) and strided and layer.kernel_size != (1, 1):
            assert isinstance(layer.padding, tuple)
            layer.dilation = (2, 2)
            layer.padding = (2 * layer.padding[0], 2 * layer.padding[1])
    assert strided, "there is no stride to take out"


def by_onednn(network: nn.Module) -> None:
    """Has oneDNN compute the 1 x 1 convolutions of a network on the CPU, as it computes all others, and gradients of
    dilated depthwise ones by its fast kernels, in place.

    torch gives the former to another library where one thread computes and a batch has fewer than 16 images, unless
    they are dilated, which changes nothing of a single tap.
    """
    for layer in network.modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        if layer.kernel_size == (1, 1):
            layer.dilation = (2, 2)
        elif _is_dilated_depthwise(layer):
            layer.__class__ = DilatedDepthwise


def _is_dilated_depthwise(layer: nn.Conv2d) -> bool:
    of_one = layer.groups == layer.in_channels == layer.out_channels and layer.bias is None
    return of_one and (layer.kernel_size, layer.stride, layer.padding, layer.dilation) == (
        (3, 3),
        (1, 1),
        (2, 2),
        (2, 2),
    )


class DilatedDepthwise(nn.Conv2d):
    """A depthwise convolution of 3 x 3, stride 1 and dilation 2, with its gradients by what oneDNN is quick at; asked
    for them as they are, it takes five to twenty times as long.

    The gradient for the input is such a convolution, too. That for the weights is one without dilation: every second
    row and column of the maps is a grid of its own.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """(n, C, h, w) in and out."""
        if torch.is_autocast_enabled(maps.device.type):
            return super().forward(maps)
        found: Tensor = _DilatedDepthwise.apply(maps, self.weight)
        return found


class _DilatedDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, maps: Tensor, weight: Tensor) -> Tensor:
        context.save_for_backward(maps, weight)
        return _dilated_depthwise(maps, weight)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        maps, weight = context.saved_tensors
        wanted_maps, wanted_weight = context.needs_input_grad
        of_maps = _dilated_depthwise(gradient, weight.flip(2, 3)) if wanted_maps else None
        of_weight = None
        if wanted_weight:
            options = ([1, 1], [1, 1], [1, 1], False, [0, 0], len(weight), [False, True, False])
            of_weight = torch.ops.aten.convolution_backward(_grids(gradient), _grids(maps), weight, None, *options)[1]
        return of_maps, of_weight


def _grids(maps: Tensor) -> Tensor:
    """Maps (n, C, h, w) as four that hold every second row and column each, (4n, C, h / 2, w / 2) rounded up, with
    zeros where there is no such; in channels_last.
    """
    height, width = maps.shape[2:]
    rows = functional.pad(maps.permute(0, 2, 3, 1), (0, 0, 0, width % 2, 0, height % 2))
    count, height, width, channels = rows.shape
    grids = rows.reshape(count, height // 2, 2, width // 2, 2, channels).permute(0, 2, 4, 1, 3, 5)
    return grids.reshape(4 * count, height // 2, width // 2, channels).permute(0, 3, 1, 2)


def _dilated_depthwise(maps: Tensor, weight: Tensor) -> Tensor:
    return functional.conv2d(maps, weight, padding=2, dilation=2, groups=len(weight))


def without_last(trunk: nn.Sequential, count: int) -> nn.Sequential:
    """``trunk`` without its last ``count`` blocks, the parts of its one child or, where it has several, these.

    ValueError if it has no more than that.
    """
    (name, blocks), *others = trunk.named_children()
    if others or not isinstance(blocks, nn.Sequential):
        return _shortened(trunk, count)
    return nn.Sequential(OrderedDict([(name, _shortened(blocks, count))]))


def _shortened(blocks: nn.Sequential, count: int) -> nn.Sequential:
    if count >= len(blocks):
        raise ValueError(f"{count} of the {len(blocks)} blocks cannot be left out: leave one")
    return blocks[: len(blocks) - count]
