"""What the trunks of :mod:`lchp.method.backbones` have that torchvision's networks have not."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

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
    """Has oneDNN compute the 1 x 1 convolutions of a network on the CPU, as it computes all others, in place.

    torch gives them to another library where one thread computes and a batch has fewer than 16 images, unless they are
    dilated, which changes nothing of a single tap.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            layer.dilation = (2, 2)


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
