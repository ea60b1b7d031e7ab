"""What a step computes on CUDA could be recorded as one graph: nothing of it lies on the CPU, travels or is drawn.

Without a GPU: in a mode of torch's tensors there have shapes, types and a device, and no values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lchp.method import augmentation
from lchp.method.augmentation import StrongDraw, ViewDraw
from lchp.method.networks import BapClassifier, BoxRegressor
from lchp.training import initialization, refinement
from lchp.training.confidence import Confidence
from lchp.training.config import TrialConfig

from .drawn import CLASSES, config_of

UNRECORDED = {
    "_local_scalar_dense",
    "nonzero",
    "bernoulli",
    "uniform_",
    "normal_",
    "rand",
    "rand_like",
    "randn",
    "randint",
    "randperm",
}


class OnTheDeviceAlone(TorchDispatchMode):
    """Raises AssertionError for an operation that a graph could not record."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func._schema.name.removeprefix("aten::") not in UNRECORDED, f"{func} is not recorded"
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        assert all(tensor.device.type == "cuda" for tensor in tensors), f"{func} takes or gives what is on the CPU"
        return result


def batch_of(config: TrialConfig) -> tuple[torch.Tensor, torch.Tensor, StrongDraw]:
    """Normalised views of the images of one step, their labels and a draw of S."""
    integers, truths = torch.zeros(8, 2, dtype=torch.int64), torch.zeros(8, 2, dtype=torch.bool)
    images = torch.zeros(8, 3, config.view.resize, config.view.resize, dtype=torch.uint8)
    draw = ViewDraw(integers[:, 0], integers[:, 1], truths[:, 0])
    views = augmentation.normalise(augmentation.general_view(images, draw, config.view.crop))
    return views, integers[:, 0], StrongDraw(config.view.crop, torch.ones(8, 2), integers, integers, truths)


def networks_of(config: TrialConfig) -> initialization.Networks:
    """Networks on the device, without the generators of the CPU."""
    stage = config.initialization
    classifier, slow = (
        BapClassifier(config.classifier, CLASSES, stage.attention_maps, stage.bap_scale) for _ in range(2)
    )
    return initialization.Networks(classifier, slow, BoxRegressor(config.backbone, config.box_format), slow)


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A configuration, its networks and a batch, on the device of the mind. Weights are drawn, which no step does."""
    config = config_of(**request.param)
    with FakeTensorMode(), torch.device("cuda"):
        yield config, networks_of(config), batch_of(config)


@pytest.mark.parametrize(
    "made",
    [{}, {"box_format": "centre_size", "pseudo_boxes": {"source": "evidence", "mirror": True}}],
    ids=str,
    indirect=True,
)
def test_initialization_of_a_step_could_be_recorded(made: Any) -> None:
    config, networks, (views, labels, draw) = made
    with OnTheDeviceAlone():
        for strong in (None, draw):
            values = initialization.stage_losses(networks, views, labels, config, True, None, strong)
        batch_of(config)
    assert values.shape == (4,)
    assert values.requires_grad


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"confidence": {"score": "contrast", "keep": 0.5}},
        {"confidence": {"score": "equivariance"}},
        {"confidence": {"keep": 0.3}, "refinement": {"rejected": "drop"}},
    ],
    ids=str,
    indirect=True,
)
def test_refinement_of_a_step_could_be_recorded(made: Any) -> None:
    config, networks, (views, labels, draw) = made
    teacher, confidence = networks_of(config).regressor, Confidence(config, networks.judge)
    with OnTheDeviceAlone():
        values = refinement.stage_losses(networks.regressor, teacher, confidence, views, labels, labels, draw, config)
    assert values.shape == (4,)
    assert values.requires_grad


def test_what_no_graph_records_is_found() -> None:
    with FakeTensorMode():
        here = torch.ones(3, device="cuda")
        unfit = (lambda: here.cpu(), lambda: torch.ones(3).cuda(), lambda: torch.rand_like(here), here.nonzero)
        for operation in unfit:
            with OnTheDeviceAlone(), pytest.raises(AssertionError, match=r"recorded|on the CPU"):
                operation()
