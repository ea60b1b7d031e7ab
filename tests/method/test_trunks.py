from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from lchp.method import backbones, trunks

NETWORKS = tuple(backbones.MINIMUM_VIEW)
TORCHVISION = tuple(name for name in NETWORKS if name != "small_cnn")


def _images(size: int, seed: int = 0) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


def _with_statistics(trunk: nn.Sequential) -> nn.Sequential:
    """The trunk in eval mode, its running statistics measured on a batch so that values keep an ordinary size."""
    trunk.train()
    for layer in trunk.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        trunk(_images(192, seed=1))  # 96 px would leave InceptionV3's last layers two values a channel
    return trunk.eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("role", ["classifier", "regressor"])
def test_trunk_views_one_stride_apart_differ_by_one_cell(name: str, role: str) -> None:
    shapes = trunks.CLASSIFIER_TRUNKS if role == "classifier" else trunks.REGRESSOR_TRUNKS
    trunk = (trunks.classifier_trunk if role == "classifier" else trunks.regressor_trunk)(name).eval()
    channels, stride = shapes[name]
    with torch.no_grad():
        small, large = trunk(_images(96)[:1]), trunk(_images(96 + stride)[:1])
    assert small.shape[:2] == (1, channels)
    assert (large.shape[2] - small.shape[2], large.shape[3] - small.shape[3]) == (1, 1)
    if name != "inception_v3":  # its convolutions pad nothing, so that it has fewer cells than strides
        assert small.shape[2] == 96 // stride


@pytest.mark.parametrize("name", TORCHVISION)
def test_regressor_trunk_with_its_weights_in_torchvision_gives_the_same_features(name: str) -> None:
    trunk = _with_statistics(trunks.regressor_trunk(name))
    inception = {"transform_input": True, "aux_logits": False, "init_weights": False}
    with torch.device("meta"):
        whole = get_model(name, weights=None, **(inception if name == "inception_v3" else {}))
    whole = whole.to_empty(device="cpu").eval()
    missing = whole.load_state_dict(trunk.state_dict(), strict=False).missing_keys
    assert all(key.startswith(("fc.", "classifier.")) for key in missing)
    head = whole.classifier if hasattr(whole, "classifier") else whole.fc
    caught: list[Tensor] = []
    first = head[0] if isinstance(head, nn.Sequential) else head
    first.register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0]))
    with torch.no_grad():
        whole(_images(96))
        maps = trunk(_images(96))
    pooled = torch.nn.functional.adaptive_avg_pool2d(maps, 7 if name == "vgg19_bn" else 1).flatten(1)
    assert pooled.std() > 1e-3
    torch.testing.assert_close(pooled, caught[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2"])
def test_dilated_trunk_every_second_cell_is_the_strided_network(name: str) -> None:
    dilated, strided = trunks.classifier_trunk(name), _with_statistics(trunks.regressor_trunk(name))
    dilated.load_state_dict(strided.state_dict())
    with torch.no_grad():
        fine, coarse = dilated.eval()(_images(96)), strided(_images(96))
    torch.testing.assert_close(fine[:, :, ::2, ::2], coarse, rtol=1e-4, atol=1e-5)


def test_half_range_of_imagenet_normalised_pixels_is_twice_the_pixel_minus_one() -> None:
    pixels = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (pixels - mean[:, None, None]) / deviation[:, None, None]
    torch.testing.assert_close(trunks.HalfRange()(normalised), 2 * pixels - 1)


def test_small_cnn_counts_five_and_seven_convolutions() -> None:
    def convolutions(trunk: nn.Sequential) -> int:
        return sum(isinstance(layer, nn.Conv2d) for layer in trunk.modules())

    assert convolutions(trunks.classifier_trunk("small_cnn")) == 5
    assert convolutions(trunks.regressor_trunk("small_cnn")) == 7


@pytest.mark.parametrize("name", NETWORKS)
def test_check_view_smallest_view_passes_and_fits_the_regressor(name: str) -> None:
    size = backbones.MINIMUM_VIEW[name]
    backbones.check_view(name, size)
    with torch.no_grad():
        assert trunks.regressor_trunk(name).eval()(_images(size)[:1]).shape[2:] == (1, 1)


def test_check_view_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match=r"view of 74 px is too small for inception_v3.*at least 75 px.*view\.crop"):
        backbones.check_view("inception_v3", 74)


def test_check_view_unknown_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no network 'alexnet': choose one of inception_v3, resnet50"):
        backbones.check_view("alexnet", 224)
