"""The networks, one record each: the builders of their trunks and every fact that the package needs of them.

A trunk turns an image into feature maps. Images are float tensors (n, 3, height, width) normalised with ImageNet's mean
and standard deviation, for every network. The classifier's trunks have stride 16 (the small CNN 8), because Algorithm 1
reads boxes off their maps; the regressor's are whole networks, up to their global pooling, with their own stride
(Table 5). Parameters have torchvision's own names, and both trunks of a network share names and shapes wherever they
share layers, so that a torchvision state dict, or the classifier's weights, fit without renaming.

Configurations are checked and studies planned by this module, so it imports no torch: builders do, when called.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Trunk:
    """One of the two trunks of a network."""

    build: Callable[[], nn.Sequential]
    """Makes it with fresh weights: (n, 3, H, W) to (n, channels, h, w)."""
    channels: int
    """Channels of its maps."""
    stride: int
    """Pixels of the view per cell of its maps, along each side."""
    gflop: float
    """One forward pass of the classifier (32 attention maps, 200 classes) or the regressor on one image of 448 x 448,
    two operations per multiply-add, counted with ``torch.utils.flop_counter``."""


@dataclass(frozen=True)
class Network:
    """A network that a trial may name as `classifier` or `backbone`."""

    classifier: Trunk
    regressor: Trunk
    first_cell: float
    """Pixels from the centre of the view's first pixel to the centre of what the first cell of the classifier's maps
    sees: padding on both sides of a stride of 2 leaves it at the first pixel."""
    smallest_view: int
    """Pixels of the smallest square view: a whole cell of the regressor's maps, and as many as leaves them one."""
    imagenet: str | None
    """torchvision's name of its first ImageNet weights, the ones at hand when the paper was written; None: it has
    none."""
    cut_away: tuple[str, ...]
    """How the names begin that a state dict of the whole network may hold beyond a trunk's."""
    paper: str | None = None
    """What the paper's tables call it; None: they do not have it."""
    old_names: tuple[str, str] | None = None
    """What in the names of older files is written otherwise today: a regular expression and its replacement."""


SMALL = ((24, 2), (48, 2), (64, 2), (64, 1), (64, 1), (128, 2), (128, 2))
FINE = ((16, 2), (32, 2), (32, 1), (32, 1), (64, 2), (96, 2), (128, 1))
"""Channels and strides of the blocks of small_cnn and fine_cnn."""

NETWORKS = {
    # The classifier to Mixed_6e, as in the paper (4.3). It pads nothing, so it needs the larger view.
    "inception_v3": Network(
        classifier=Trunk(lambda: _inception_v3("Mixed_6e"), channels=768, stride=16, gflop=21.9),
        regressor=Trunk(lambda: _inception_v3("Mixed_7c"), channels=2048, stride=32, gflop=26.3),
        first_cell=21,
        smallest_view=75,
        imagenet="Inception_V3_Weights.IMAGENET1K_V1",
        paper="InceptionV3",
        cut_away=("AuxLogits.", "Mixed_7a.", "Mixed_7b.", "Mixed_7c.", "fc."),
    ),
    # The classifier whole, its last stride replaced by dilation.
    "resnet50": Network(
        classifier=Trunk(lambda: _resnet("resnet50", dilated=True), channels=2048, stride=16, gflop=49.9),
        regressor=Trunk(lambda: _resnet("resnet50", dilated=False), channels=2048, stride=32, gflop=32.7),
        first_cell=0,
        smallest_view=32,
        imagenet="ResNet50_Weights.IMAGENET1K_V1",
        paper="ResNet50",
        cut_away=("fc.",),
    ),
    # The classifier without the last pooling.
    "vgg19_bn": Network(
        classifier=Trunk(lambda: _vgg19_bn(last_pooling=False), channels=512, stride=16, gflop=156.1),
        regressor=Trunk(lambda: _vgg19_bn(last_pooling=True), channels=512, stride=32, gflop=156.1),
        first_cell=7.5,
        smallest_view=32,
        imagenet="VGG19_BN_Weights.IMAGENET1K_V1",
        paper="VGG19-BN",
        cut_away=("classifier.",),
    ),
    # The classifier whole, the last stride replaced by dilation.
    "mobilenet_v2": Network(
        classifier=Trunk(lambda: _features("mobilenet_v2", dilated_from=14), channels=1280, stride=16, gflop=4.43),
        regressor=Trunk(lambda: _features("mobilenet_v2"), channels=1280, stride=32, gflop=2.40),
        first_cell=0,
        smallest_view=32,
        imagenet="MobileNet_V2_Weights.IMAGENET1K_V1",
        cut_away=("classifier.",),
    ),
    # The classifier whole, its last stride replaced by dilation. No stochastic depth: torchvision draws it from the
    # global generator, which no trial seeds or stores.
    "efficientnet_b0": Network(
        classifier=Trunk(
            lambda: _features("efficientnet_b0", dilated_from=6, stochastic_depth_prob=0.0),
            channels=1280,
            stride=16,
            gflop=6.24,
        ),
        regressor=Trunk(
            lambda: _features("efficientnet_b0", stochastic_depth_prob=0.0), channels=1280, stride=32, gflop=3.07
        ),
        first_cell=0,
        smallest_view=32,
        imagenet="EfficientNet_B0_Weights.IMAGENET1K_V1",
        cut_away=("classifier.",),
    ),
    # PSOL's regressor. The classifier whole, its last transition without pooling and the block behind it dilated.
    "densenet161": Network(
        classifier=Trunk(lambda: _densenet161(dilated=True), channels=2208, stride=16, gflop=73.1),
        regressor=Trunk(lambda: _densenet161(dilated=False), channels=2208, stride=32, gflop=61.8),
        first_cell=6,
        smallest_view=32,
        imagenet="DenseNet161_Weights.IMAGENET1K_V1",
        cut_away=("classifier.",),
        old_names=(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2"),
    ),
    # The classifier has the first five of seven blocks.
    "small_cnn": Network(
        classifier=Trunk(lambda: _plain_cnn(SMALL[:5]), channels=64, stride=8, gflop=0.99),
        regressor=Trunk(lambda: _plain_cnn(SMALL), channels=128, stride=32, gflop=1.13),
        first_cell=0,
        smallest_view=32,
        imagenet=None,
        cut_away=("block6.", "block7."),
    ),
    # Its maps have a cell every 4 pixels, so that they show how large an object is. The classifier has the first four
    # of seven blocks.
    "fine_cnn": Network(
        classifier=Trunk(lambda: _plain_cnn(FINE[:4]), channels=32, stride=4, gflop=0.673),
        regressor=Trunk(lambda: _plain_cnn(FINE), channels=128, stride=16, gflop=0.997),
        first_cell=0,
        smallest_view=16,
        imagenet=None,
        cut_away=("block5.", "block6.", "block7."),
    ),
}


def find_network(name: str) -> Network:
    """The record of a network. Raises ValueError, with the choices, if there is none of this name."""
    if name not in NETWORKS:
        raise ValueError(f"there is no network {name!r}: choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def check_view(name: str, size: int) -> None:
    """Raises ValueError if a square view of ``size`` pixels is too small for the network, classifier or regressor."""
    smallest = find_network(name).smallest_view
    if size < smallest:
        raise ValueError(
            f"a view of {size} px is too small for {name}, which needs at least {smallest} px: "
            "enlarge view.crop and view.resize, or choose another network"
        )


def _inception_v3(last: str) -> nn.Sequential:
    from torch import nn

    from lchp.method.inception import make_inception_v3
    from lchp.method.trunks import HalfRange

    layers: OrderedDict[str, nn.Module] = OrderedDict(half_range=HalfRange())
    for name, layer in make_inception_v3().named_children():
        layers[name] = layer
        if name == last:
            break
    return nn.Sequential(layers)


def _resnet(name: str, dilated: bool) -> nn.Sequential:
    from torch import nn
    from torchvision.models import get_model

    from lchp.method.trunks import dilate

    whole = get_model(name, weights=None)
    if dilated:
        dilate(whole.layer4)
    return nn.Sequential(
        OrderedDict((part, layer) for part, layer in whole.named_children() if part not in ("avgpool", "fc"))
    )


def _vgg19_bn(last_pooling: bool) -> nn.Sequential:
    from torch import nn
    from torchvision.models import vgg

    # torchvision's vgg19_bn() would also draw the 123 million weights of the fully connected layers that are cut away.
    features = vgg.make_layers(vgg.cfgs["E"], batch_norm=True)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(OrderedDict(features=features if last_pooling else features[:-1]))


def _features(name: str, dilated_from: int | None = None, **options: Any) -> nn.Sequential:
    """A torchvision network that is its ``features`` up to the global pooling; the last stride lies in the part of
    index ``dilated_from``.
    """
    from torch import nn
    from torchvision.models import get_model

    from lchp.method.trunks import dilate

    features = get_model(name, weights=None, **options).features
    for layer in features.modules():
        # Their gradients want what they see: in place they would keep a copy of it, and make that copy first.
        if isinstance(layer, (nn.ReLU6, nn.SiLU)):
            layer.inplace = False
    if dilated_from is not None:
        dilate(features[dilated_from:])
    return nn.Sequential(OrderedDict(features=features))


def _densenet161(dilated: bool) -> nn.Sequential:
    from torch import nn

    trunk = _features("densenet161", dilated_from=9 if dilated else None)
    # What DenseNet's forward() does between its features and the pooling.
    trunk.append(nn.ReLU(inplace=True))
    return trunk


def _plain_cnn(blocks: Sequence[tuple[int, int]]) -> nn.Sequential:
    """Convolutions of 3 x 3, each with batch normalisation and ReLU, of these channels and strides."""
    from torch import nn

    before, layers = 3, OrderedDict[str, nn.Module]()
    for i, (channels, stride) in enumerate(blocks):
        convolution = nn.Conv2d(before, channels, 3, stride=stride, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        layers[f"block{i + 1}"] = nn.Sequential(
            OrderedDict(conv=convolution, bn=nn.BatchNorm2d(channels), relu=nn.ReLU(inplace=True))
        )
        before = channels
    return nn.Sequential(layers)
