from __future__ import annotations

import re
import subprocess
import sys
from contextlib import nullcontext
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model
from torchvision.ops.misc import SqueezeExcitation

from lchp.method.backbones import NETWORKS, Trunk, check_view, find_network
from lchp.method.networks import BapClassifier, BoxRegressor

TORCHVISION = tuple(name for name, known in NETWORKS.items() if known.imagenet)
ROLES = ("classifier", "regressor")


def _trunk(name: str, role: str) -> Trunk:
    return NETWORKS[name].classifier if role == "classifier" else NETWORKS[name].regressor


@cache
def _on_meta(name: str, role: str) -> nn.Sequential:
    """A trunk on no device, for its shapes and names: nothing is drawn or computed."""
    with torch.device("meta"):
        trunk = _trunk(name, role).build()
    return trunk.to("meta").eval()


def _images(size: int, seed: int = 0) -> Tensor:
    """In double, so that another order of sums is no difference."""
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _maps(trunk: nn.Sequential, size: int) -> tuple[int, ...]:
    """The shape of a trunk's maps of one square view, on no device."""
    with torch.no_grad():
        shape: tuple[int, ...] = trunk(torch.empty(1, 3, size, size, device="meta")).shape
    return shape


def _with_statistics(trunk: nn.Sequential) -> nn.Sequential:
    """The trunk in double and eval mode, its statistics measured on a batch so that values keep an ordinary size."""
    # 96 px would leave InceptionV3's last layers two values a channel.
    size = 192 if hasattr(trunk, "half_range") else 96
    trunk.double().train()
    for layer in trunk.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        trunk(_images(size, seed=1))
    return trunk.eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("role", ROLES)
def test_trunk_views_one_stride_apart_differ_by_one_cell(name: str, role: str) -> None:
    record, trunk = _trunk(name, role), _on_meta(name, role)
    small, large = _maps(trunk, 96), _maps(trunk, 96 + record.stride)
    assert small[:2] == (1, record.channels)
    assert (large[2] - small[2], large[3] - small[3]) == (1, 1)
    if name != "inception_v3":  # its convolutions pad nothing, so that it has fewer cells than strides
        assert small[2] == 96 // record.stride


@pytest.mark.parametrize("name", NETWORKS)
def test_network_gflop_are_those_that_torch_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.autocast", lambda *_, **__: nullcontext())  # it knows no meta device
    with torch.device("meta"):
        networks = {"classifier": BapClassifier(name, 200, 32, 100.0), "regressor": BoxRegressor(name, "corners")}
        image = torch.empty(1, 3, 448, 448)
    for role, network in networks.items():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network.to("meta").eval()(image)
        assert counter.get_total_flops() / 1e9 == pytest.approx(_trunk(name, role).gflop, rel=5e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_network_trunks_share_names_and_shapes_and_the_rest_is_cut_away(name: str) -> None:
    network = NETWORKS[name]
    classifier, regressor = (_on_meta(name, role).state_dict() for role in ROLES)
    with torch.device("meta"):
        options = {"init_weights": False} if name == "inception_v3" else {}
        whole = get_model(name, weights=None, **options).state_dict() if name in TORCHVISION else regressor
    assert {key: whole[key].shape for key in regressor} == {key: value.shape for key, value in regressor.items()}
    assert {key: regressor[key].shape for key in classifier} == {key: value.shape for key, value in classifier.items()}
    assert [key for key in whole if key not in classifier and not key.startswith(network.cut_away)] == []
    assert [prefix for prefix in network.cut_away if not any(key.startswith(prefix) for key in whole)] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_trunks_draw_nothing_at_random_when_they_run(name: str) -> None:
    random = [
        layer
        for role in ROLES
        for layer in _on_meta(name, role).modules()
        if getattr(layer, "p", 0) > 0 or getattr(layer, "drop_rate", 0) > 0
    ]
    assert random == []


class _Copies(TorchDispatchMode):
    """Counts what is copied."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function in (torch.ops.aten.clone.default, torch.ops.aten.copy_.default)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("role", ROLES)
def test_trunk_that_learns_copies_no_maps(name: str, role: str) -> None:
    trunk = _on_meta(name, role).train()
    with _Copies() as copies:
        trunk(torch.empty(2, 3, 96, 96, device="meta"))
    trunk.eval()
    assert copies.count == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_trunk_whose_weights_come_later_has_its_constants(name: str) -> None:
    with torch.device("meta"):
        trunk = NETWORKS[name].classifier.build()
    state = trunk.state_dict()
    assert {weight.device.type for weight in state.values()} == {"meta"}
    constants = {key: value for key, value in trunk.named_buffers() if key not in state}
    assert {value.device.type for value in constants.values()} <= {"cpu"}
    assert (name == "inception_v3") == bool(constants)


@pytest.mark.parametrize("name", TORCHVISION)
def test_regressor_trunk_with_its_weights_in_torchvision_gives_the_same_features(name: str) -> None:
    trunk = _with_statistics(NETWORKS[name].regressor.build())
    inception = {"transform_input": True, "aux_logits": False, "init_weights": False}
    with torch.device("meta"):
        whole = get_model(name, weights=None, **(inception if name == "inception_v3" else {}))
    whole = whole.to_empty(device="cpu").double().eval()
    missing = whole.load_state_dict(trunk.state_dict(), strict=False).missing_keys
    assert all(key.startswith(("fc.", "classifier.")) for key in missing)
    head = whole.classifier if hasattr(whole, "classifier") else whole.fc
    caught: list[Tensor] = []
    first = head[0] if isinstance(head, nn.Sequential) else head
    first.register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0].clone()))
    with torch.no_grad():
        whole(_images(96))
        maps = trunk(_images(96))
    pooled = torch.nn.functional.adaptive_avg_pool2d(maps, 7 if name == "vgg19_bn" else 1).flatten(1)
    assert pooled.std() > 1e-3
    torch.testing.assert_close(pooled, caught[0], rtol=1e-4, atol=1e-5)


def _local(trunk: nn.Sequential) -> nn.Sequential:
    """The trunk without what mixes neighbouring cells or all of them on the way: squeeze-and-excitation, and the
    averages of the last pooling.
    """
    for layer in trunk.modules():
        for name, part in layer.named_children():
            if isinstance(part, SqueezeExcitation):
                setattr(layer, name, nn.Identity())
    pooling = [layer for layer in trunk.modules() if isinstance(layer, nn.AvgPool2d)]
    if pooling:
        pooling[-1].kernel_size = 1
    return trunk


@pytest.mark.parametrize("name", [name for name in TORCHVISION if name not in ("inception_v3", "vgg19_bn")])
def test_dilated_trunk_every_second_cell_is_the_strided_network(name: str) -> None:
    dilated, strided = (_local(trunk.build()) for trunk in (NETWORKS[name].classifier, NETWORKS[name].regressor))
    dilated.double().load_state_dict(_with_statistics(strided).state_dict())
    with torch.no_grad():
        fine, coarse = dilated.eval()(_images(96)), strided(_images(96))
    assert coarse.std() > 1e-3
    torch.testing.assert_close(fine[:, :, ::2, ::2], coarse, rtol=1e-6, atol=1e-7)


def test_densenet161_regressor_features_are_not_negative() -> None:
    with torch.no_grad():
        maps = NETWORKS["densenet161"].regressor.build().double().eval()(_images(32))
    assert maps.min() == 0


def _linear(trunk: nn.Sequential) -> nn.Sequential:
    """``trunk`` with every convolution taking the mean of the pixels at its centre, averages for maxima, and nothing
    else: its cells then see the place at the middle of what they saw before.
    """
    for module in list(trunk.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.Conv2d):
                layer.weight.data.zero_()
                centre = [side // 2 for side in layer.kernel_size]
                layer.weight.data[:, :, centre[0], centre[1]] = 1 / layer.weight.shape[1]
            elif isinstance(layer, nn.MaxPool2d):
                pooling = nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding, count_include_pad=False)
                setattr(module, name, pooling)
            elif isinstance(layer, nn.BatchNorm2d | nn.ReLU | nn.ReLU6 | nn.SiLU | SqueezeExcitation):
                setattr(module, name, nn.Identity())
    return trunk.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_network_first_cell_and_stride_say_where_the_classifiers_cells_look(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # InceptionV3's blocks call the function.
    monkeypatch.setattr(nn.functional, "max_pool2d", nn.functional.avg_pool2d)
    known, size = NETWORKS[name], 224
    trunk = _linear(known.classifier.build()).double()
    ramp = torch.arange(size, dtype=torch.float64).expand(1, 3, size, size)
    with torch.no_grad():
        maps = trunk(ramp + 1e6) - trunk(torch.full_like(ramp, 1e6))
    row = maps[0, :, maps.shape[2] // 2].mean(0)
    # A channel may add several paths to one place. At the border the padding is seen, too.
    paths = float((row[6] - row[5]) / known.classifier.stride)
    expected = known.first_cell + known.classifier.stride * torch.arange(len(row), dtype=torch.float64)
    torch.testing.assert_close(row[5:8] / paths, expected[5:8], rtol=0, atol=1e-3)


def test_small_cnn_counts_five_and_seven_convolutions() -> None:
    def convolutions(trunk: Trunk) -> int:
        return sum(isinstance(layer, nn.Conv2d) for layer in trunk.build().modules())

    assert convolutions(NETWORKS["small_cnn"].classifier) == 5
    assert convolutions(NETWORKS["small_cnn"].regressor) == 7


@pytest.mark.parametrize("name", NETWORKS)
def test_check_view_smallest_view_passes_and_fits_both_trunks(name: str) -> None:
    network = NETWORKS[name]
    check_view(name, network.smallest_view)
    with pytest.raises(ValueError, match="too small"):
        check_view(name, network.smallest_view - 1)
    assert network.smallest_view >= network.regressor.stride
    assert _maps(_on_meta(name, "regressor"), network.smallest_view)[2:] == (1, 1)
    assert min(_maps(_on_meta(name, "classifier"), network.smallest_view)[2:]) >= 1


def test_check_view_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match=r"view of 74 px is too small for inception_v3.*at least 75 px.*view\.crop"):
        check_view("inception_v3", 74)


def test_find_network_unknown_name_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=re.escape(f"no network 'alexnet': choose one of {', '.join(NETWORKS)}")):
        find_network("alexnet")


def test_networks_are_read_without_torch() -> None:
    code = "import lchp.method.backbones, lchp.training.config, lchp.study.plan.cost, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "torchvision"} & set(done.stdout.split()) == set()
