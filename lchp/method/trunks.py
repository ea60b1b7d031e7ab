"""Trunks: what turns an image into feature maps, under torchvision's own parameter names.

Images are float tensors (n, 3, height, width) normalised with ImageNet's mean and standard deviation, for every
network. The classifier's trunks have stride 16 (the small CNN 8), because Algorithm 1 reads boxes off their maps; the
regressor's have the network's own stride. Both of one network share names and shapes wherever they share layers, so
that a torchvision state dict, or the classifier's weights, fit without renaming.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import inception_v3, mobilenet_v2, resnet50, vgg

from lchp.method.augmentation import IMAGENET_MEAN, IMAGENET_STD


class TrunkShape(NamedTuple):
    """What a trunk gives: the channels of its maps, and the pixels of the view per cell of a map along each side."""

    channels: int
    stride: int


CLASSIFIER_TRUNKS = {
    "inception_v3": TrunkShape(768, 16),
    "resnet50": TrunkShape(2048, 16),
    "vgg19_bn": TrunkShape(512, 16),
    "mobilenet_v2": TrunkShape(1280, 16),
    "small_cnn": TrunkShape(64, 8),
}
"""The classifier's trunks: InceptionV3 to Mixed_6e as in the paper (4.3); ResNet50 and MobileNetV2 whole, their last
stride replaced by dilation; VGG19-BN without its last pooling; the small CNN's first five blocks."""

REGRESSOR_TRUNKS = {
    "inception_v3": TrunkShape(2048, 32),
    "resnet50": TrunkShape(2048, 32),
    "vgg19_bn": TrunkShape(512, 32),
    "mobilenet_v2": TrunkShape(1280, 32),
    "small_cnn": TrunkShape(128, 32),
}
"""The regressor's trunks (Table 5): each network whole, up to its global pooling."""


def classifier_trunk(name: str) -> nn.Sequential:
    """A trunk of :data:`CLASSIFIER_TRUNKS` with fresh weights: (n, 3, H, W) to (n, C, h, w)."""
    if name == "inception_v3":
        return _inception_v3("Mixed_6e")
    if name == "resnet50":
        return _resnet50(dilated=True)
    if name == "vgg19_bn":
        return _vgg19_bn(last_pooling=False)
    if name == "mobilenet_v2":
        return _mobilenet_v2(dilated=True)
    return _small_cnn(blocks=5)


def regressor_trunk(name: str) -> nn.Sequential:
    """A trunk of :data:`REGRESSOR_TRUNKS` with fresh weights: (n, 3, H, W) to (n, C, h, w)."""
    if name == "inception_v3":
        return _inception_v3("Mixed_7c")
    if name == "resnet50":
        return _resnet50(dilated=False)
    if name == "vgg19_bn":
        return _vgg19_bn(last_pooling=True)
    if name == "mobilenet_v2":
        return _mobilenet_v2(dilated=False)
    return _small_cnn(blocks=7)


class HalfRange(nn.Module):
    """From ImageNet's normalisation to the (x - 0.5) / 0.5 of InceptionV3's ImageNet weights (`transform_input`).

    It is always on for InceptionV3, whatever its weights: a fixed affine map per channel, of no consequence to weights
    from scratch.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        # In double, as torchvision's Python numbers are, so that both round to the same float.
        mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float64)
        deviation = torch.tensor(IMAGENET_STD, dtype=torch.float64)
        # Constants, not weights: out of the state dict, so that torchvision's keys stay the only ones.
        self.register_buffer("scale", (deviation / 0.5).float().view(3, 1, 1), persistent=False)
        self.register_buffer("shift", ((mean - 0.5) / 0.5).float().view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) in and out."""
        return images * self.scale + self.shift


def _inception_v3(last: str) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(half_range=HalfRange())
    for name, layer in inception_v3(weights=None, aux_logits=False, init_weights=True).named_children():
        layers[name] = layer
        if name == last:
            break
    return nn.Sequential(layers)


def _resnet50(dilated: bool) -> nn.Sequential:
    whole = resnet50(weights=None, replace_stride_with_dilation=[False, False, dilated])
    return nn.Sequential(
        OrderedDict((name, layer) for name, layer in whole.named_children() if name not in ("avgpool", "fc"))
    )


def _vgg19_bn(last_pooling: bool) -> nn.Sequential:
    # torchvision's vgg19_bn() would also draw the 123 million weights of the fully connected layers that are cut away.
    features = vgg.make_layers(vgg.cfgs["E"], batch_norm=True)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(OrderedDict(features=features if last_pooling else features[:-1]))


def _mobilenet_v2(dilated: bool) -> nn.Sequential:
    features = mobilenet_v2(weights=None).features
    if dilated:
        features[14].conv[1][0].stride = (1, 1)
        for block in features[15:18]:
            block.conv[1][0].dilation = block.conv[1][0].padding = (2, 2)
    return nn.Sequential(OrderedDict(features=features))


def _small_cnn(blocks: int) -> nn.Sequential:
    channels, strides = (3, 24, 48, 64, 64, 64, 128, 128), (2, 2, 2, 1, 1, 2, 2)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(blocks):
        convolution = nn.Conv2d(channels[i], channels[i + 1], 3, stride=strides[i], padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        layers[f"block{i + 1}"] = nn.Sequential(
            OrderedDict(conv=convolution, bn=nn.BatchNorm2d(channels[i + 1]), relu=nn.ReLU(inplace=True))
        )
    return nn.Sequential(layers)
