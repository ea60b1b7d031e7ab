"""The two networks: the classifier with bilinear attention pooling and the box regressor."""

from __future__ import annotations

import copy
from collections.abc import Callable
from math import sqrt
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lchp.method import boxes
from lchp.method.backbones import find_network
from lchp.method.trunks import without_last

BoxFormat = Literal["corners", "centre_size"]
Head = Literal["pooled", "profiles"]
TrunkMaps = Literal["coarse", "fine"]
Maps = Literal["features", "attention"]
Made = TypeVar("Made", bound=nn.Module)

HEAD_GAIN = 3.0
"""The norm of the features that the regressor's last layer sees. Gradient descent on Eq. 2 is stable
in that layer while 2 * alpha * rate * HEAD_GAIN ** 2 stays below 2: at the paper's 20 and 2e-3 it is 0.72, and would be
about 80 with pooled features as they come (their squared norm is near 1,000 in MobileNetV2). At a norm of 1 (0.08) the
regressor follows its pseudo boxes less closely on the synthetic set."""

CENTRED_BOX = (0.25, 0.25, 0.75, 0.75)
"""What an untrained regressor answers, in corners: half the view along each side, far from the whole view and from
nothing."""

PROFILE_CHANNELS = 32
"""Channels of the rows and columns that the head ``profiles`` reads a box off."""

ROOT_EPSILON = 1e-6
"""Added under the signed square root, so that its gradient is finite where features vanish (WS-DAN)."""


class ClassifierOutput(NamedTuple):
    """Logits (n, classes), the trunk's feature maps (n, C, h, w) and the attention maps (n, M, h, w)."""

    logits: Tensor
    features: Tensor
    attention: Tensor


def bilinear_attention_pooling(features: Tensor, attention: Tensor) -> Tensor:
    """The mean over all places of every attention map times every feature map, as a unit vector (WS-DAN; paper 4.3).

    Features (n, C, h, w) and attention (n, M, h, w) give (n, M * C), float32: sign(x) * sqrt(|x|) of the means,
    L2-normalised over all M * C of them. An image whose means all vanish gives zeros.
    """
    pooled = torch.einsum("nmhw,nchw->nmc", attention, features).float() / (features.shape[2] * features.shape[3])
    rooted = pooled.sign() * (pooled.abs() + ROOT_EPSILON).sqrt()
    return functional.normalize(rooted.flatten(1), dim=1)


def class_activation(features: Tensor, attention: Tensor, weights: Tensor) -> Tensor:
    """The share of every place in a class's logit: sum over m and c of W[m, c] a_m(h, w) f_c(h, w), (n, 1, h, w).

    Class activation mapping (Zhou et al. 2016) for bilinear attention pooling: what the linear layer would make of each
    place if the pooling did not root and normalise. Features (n, C, h, w), attention (n, M, h, w) and the linear
    layer's row of each image's class (n, M * C) of any floating type; the result is float32 and may be negative.
    """
    with torch.autocast(features.device.type, enabled=False):
        rows = weights.float().reshape(-1, attention.shape[1], features.shape[1])
        weighted = torch.einsum("nmc,nchw->nmhw", rows, features.float())
        return (weighted * attention.float()).sum(1, keepdim=True)


def class_evidence(features: Tensor, attention: Tensor, weights: Tensor) -> Tensor:
    """How much more every place alone speaks for a class than for the others, (n, 1, h, w), float32, at least 0.

    The classifier's own answer if the pooling saw that place only: its bilinear features, rooted and normalised as by
    :func:`bilinear_attention_pooling`, times ``weights`` (n, M * C), the class's row of the linear layer less the mean
    over all rows. Unlike the mean of maps and class activation it does not grow with the strength of the features,
    which is the head's more than the body's. Features (n, C, h, w), attention (n, M, h, w).
    """
    with torch.autocast(features.device.type, enabled=False):
        # The root of a product is the product of the roots, and so is the norm of the root.
        return class_activation(_rooted_unit(features), _rooted_unit(attention), weights).clamp(min=0)


def _rooted_unit(maps: Tensor) -> Tensor:
    """Every place's channels as the unit vector of their signed roots; zeros stay zeros."""
    return functional.normalize(maps.float().sign() * maps.float().abs().sqrt())


class BapClassifier(nn.Module):
    """The classifier (paper 4.3, after WS-DAN): trunk, attention maps, bilinear attention pooling, linear layer.

    ``scale`` multiplies the unit vector that the pooling gives, and so sets how sharp the softmax can be (method notes
    8). The last layer computes in float32 under autocast as well: confidences are compared with tau.
    """

    def __init__(self, name: str, classes: int, attention_maps: int, scale: float) -> None:
        super().__init__()
        trunk = find_network(name).classifier
        self.name = name
        self.scale = scale
        self.trunk = trunk.build()
        self.attend = nn.Sequential(
            nn.Conv2d(trunk.channels, attention_maps, 1, bias=False),
            nn.BatchNorm2d(attention_maps),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(attention_maps * trunk.channels, classes, bias=False)

    def forward(self, images: Tensor) -> ClassifierOutput:
        """Images (n, 3, H, W), ImageNet-normalised."""
        features: Tensor = self.trunk(images)
        attention: Tensor = self.attend(features)
        pooled = bilinear_attention_pooling(features, attention)
        with torch.autocast(images.device.type, enabled=False):
            logits: Tensor = self.head(pooled * self.scale)
        return ClassifierOutput(logits, features, attention)

    def maps(self, features: Tensor, which: Maps) -> Tensor:
        """The maps that Algorithm 1 averages (method notes 2), of the trunk's ``features``: (n, C or M, h, w)."""
        if which == "features":
            return features
        attention: Tensor = self.attend(features)
        return attention

    def class_activation(self, features: Tensor, labels: Tensor) -> Tensor:
        """The class activation of each image's label (n,) in its trunk's ``features``, as maps for Algorithm 1:
        (n, 1, h, w), float32.
        """
        return class_activation(features, self.attend(features), self.head.weight[labels])

    def class_evidence(self, features: Tensor, labels: Tensor) -> Tensor:
        """The evidence for each image's label (n,) in its trunk's ``features``, as maps for Algorithm 1: (n, 1, h, w),
        float32.
        """
        rows = self.head.weight[labels] - self.head.weight.mean(0)
        return class_evidence(features, self.attend(features), rows)


class RegressorDesign(NamedTuple):
    """What may differ of the regressor from the paper's, which is the default (method notes 23)."""

    head: Head = "pooled"
    """``pooled``: of all places together; ``profiles``: of the means of rows and of columns."""
    maps: TrunkMaps = "coarse"
    """``coarse``: of the whole network's stride; ``fine``: of the classifier's trunk, where Algorithm 1 reads boxes."""
    omit: int = 0
    """Last blocks of the trunk that are left out."""
    frozen: bool = False
    """Whether the trunk keeps its first weights and statistics, so that the head alone learns."""


PAPER_REGRESSOR = RegressorDesign()


class Profiles(nn.Sequential):
    """Means of rows and of columns of a few channels made of a trunk's maps: (n, C, h, w) to (n, 32 * (h + w)).

    They say where along either axis something is; of the mean over all places only how much of it there is.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, PROFILE_CHANNELS, 1, bias=False),
            nn.BatchNorm2d(PROFILE_CHANNELS),
            nn.ReLU(inplace=True),
            nn.Conv2d(PROFILE_CHANNELS, PROFILE_CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(PROFILE_CHANNELS),
            nn.ReLU(inplace=True),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (n, C, h, w)."""
        made: Tensor = super().forward(maps)  # type: ignore[no-untyped-call]
        return torch.cat([made.mean(2), made.mean(3)], 2).flatten(1)


class BoxRegressor(nn.Module):
    """The regressor (paper 3.1): trunk, global average pooling, four numbers in ``box_format``.

    The output is linear. A sigmoid would saturate: the first, huge pseudo boxes drive it to the whole view, where its
    gradient is gone (method notes 14). So that a linear layer is stable at the paper's rates, the pooled features are
    normalised to a mean of 0 and a norm of :data:`HEAD_GAIN`; the last layer starts at 0 and its bias at
    :data:`CENTRED_BOX`. It computes in float32 under autocast as well, because bfloat16 has no more than 8 bits for a
    coordinate.

    With another ``design`` than the paper's it keeps the places of what it sees, or its trunk as it is; the head
    ``profiles`` answers views of ``view`` pixels a side alone.
    """

    def __init__(
        self, name: str, box_format: BoxFormat, design: RegressorDesign = PAPER_REGRESSOR, view: int = 224
    ) -> None:
        super().__init__()
        network = find_network(name)
        trunk = network.regressor if design.maps == "coarse" else network.classifier
        if box_format not in ("corners", "centre_size"):
            raise ValueError(f"there is no box format {box_format!r}: choose corners or centre_size")
        self.name = name
        self.box_format = box_format
        self.frozen, self.omit = design.frozen, design.omit
        self.trunk = trunk.build().requires_grad_(not design.frozen)
        channels, rows, columns = (trunk.channels, 0, 0) if design == PAPER_REGRESSOR else self._shape_of_maps(view)
        self.profiles = Profiles(channels) if design.head == "profiles" else None
        self.head = nn.Linear(channels if self.profiles is None else PROFILE_CHANNELS * (rows + columns), 4)
        centred = torch.tensor(CENTRED_BOX)
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.copy_(centred if box_format == "corners" else boxes.to_centre_size(centred))

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, 3, H, W), ImageNet-normalised; gives (n, 4) float32 in the box format, not bounded to the view."""
        maps = self.maps(images)
        # Not adaptive_avg_pool2d, whose gradient is not deterministic on CUDA.
        pooled: Tensor = maps.mean((2, 3)) if self.profiles is None else self.profiles(maps)
        with torch.autocast(images.device.type, enabled=False):
            unit = functional.layer_norm(pooled.float(), pooled.shape[1:]) / sqrt(pooled.shape[1])
            raw: Tensor = self.head(unit * HEAD_GAIN)
        return raw

    def maps(self, images: Tensor) -> Tensor:
        """What the head sees: the maps (n, C, h, w) of the trunk, or of that of it which is not left out."""
        # All of it is kept, so that weights of the whole network fit.
        trunk = without_last(self.trunk, self.omit) if self.omit else self.trunk
        maps: Tensor = trunk(images)
        return maps

    def train(self, mode: bool = True) -> BoxRegressor:
        """As every module; a frozen trunk keeps its statistics, too."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        return self

    def _shape_of_maps(self, view: int) -> tuple[int, int, int]:
        """Channels, rows and columns of :meth:`maps` of a view."""
        shown = copy.deepcopy(self).eval().to("meta")
        channels, rows, columns = shown.maps(torch.empty(1, 3, view, view, device="meta")).shape[1:]
        return channels, rows, columns


def as_corners(raw: Tensor, box_format: BoxFormat) -> Tensor:
    """A regressor's output in the one box convention, not clipped to the view. Shape (..., 4) in and out."""
    return raw if box_format == "corners" else boxes.from_centre_size(raw)


def make_classifier(name: str, classes: int, attention_maps: int, scale: float, seed: int) -> BapClassifier:
    """A classifier on the CPU whose initial weights depend on ``seed`` alone. Raises ValueError for an unknown name."""
    return seeded(lambda: BapClassifier(name, classes, attention_maps, scale), seed)


def make_regressor(
    name: str, box_format: BoxFormat, seed: int, design: RegressorDesign = PAPER_REGRESSOR, view: int = 224
) -> BoxRegressor:
    """A regressor on the CPU whose initial weights depend on ``seed`` alone. Raises ValueError for an unknown name."""
    return seeded(lambda: BoxRegressor(name, box_format, design, view), seed)


def copy_shared_blocks(classifier: BapClassifier, regressor: BoxRegressor) -> list[str]:
    """Starts the blocks that the regressor's trunk shares with the classifier's from those (method notes 19).

    Shared are all parameters and buffers of the same name and shape; their names are returned. Raises ValueError if
    there are none.
    """
    source, target = classifier.trunk.state_dict(), regressor.trunk.state_dict()
    shared = [name for name in target if name in source and source[name].shape == target[name].shape]
    if not shared:
        raise ValueError(
            f"weights.regressor is 'classifier', but the backbone {regressor.name} shares no blocks "
            f"with the classifier {classifier.name}: choose the same network for both, or other weights"
        )
    for name in shared:
        target[name].copy_(source[name])
    return shared


def seeded(make: Callable[[], Made], seed: int) -> Made:
    """What ``make`` makes on the CPU with torch's generator at ``seed``, which then goes on as if nothing was drawn."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed the generators of CUDA, and fork_rng restores the CPU's alone.
        torch.default_generator.manual_seed(seed)
        return make()
