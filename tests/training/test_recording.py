"""Recorded steps give what plain ones give. What is CUDA's own of it is tested where there is a device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from lchp.method import augmentation
from lchp.method.augmentation import StrongDraw
from lchp.training import recording
from lchp.training.config import ComputeConfig
from lchp.training.initialization import Initialization, make_networks
from lchp.training.recording import PLAIN_STEPS, Gradients, Input
from lchp.training.refinement import Refinement

from .drawn import CLASSES, batch, config_of


class Replayed:
    """In place of a graph: the step of the recording, again on the places that it recorded."""

    made: ClassVar[list[Replayed]] = []

    def __init__(self, step: Callable[..., Tensor], inputs: Sequence[Input]) -> None:
        self.step, self.inputs = step, [recording._copy(value) for value in inputs]
        self.made.append(self)

    def __call__(self, inputs: Sequence[Input]) -> Tensor:
        for place, value in zip(recording._tensors(self.inputs), recording._tensors(inputs), strict=True):
            place.copy_(value)
        return self.step(*self.inputs)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module], Gradients]:
    """Makes gradients that are recorded, without a device."""
    monkeypatch.setattr(recording, "_Recorded", Replayed)
    monkeypatch.setattr(Gradients, "_aside", Gradients._computed)
    monkeypatch.setattr(Replayed, "made", [])

    def make(network: nn.Module) -> Gradients:
        return Gradients([network], ComputeConfig(compile="graphs"), "cuda")

    return make


def losses(network: nn.Module) -> Callable[..., Tensor]:
    def values(views: Tensor, none: None, draw: StrongDraw) -> Tensor:
        assert none is None
        seen = network(views * draw.scale[:, :1]).square().mean()
        return torch.stack([seen, draw.flipped.float().mean()])

    return values


def inputs(seed: int, count: int = 6) -> tuple[Tensor, None, StrongDraw]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, 3, generator=generator),
        None,
        augmentation.draw_strong(count, 8, "scale+flip", generator),
    )


def test_gradients_of_recorded_steps_are_those_of_plain_ones(recorded: Callable[[nn.Module], Gradients]) -> None:
    network = nn.Linear(3, 2)
    replayed, plain = recorded(network), Gradients([network], ComputeConfig(), "cpu")
    steps = [(seed, 6, "a") for seed in range(6)] + [(seed, 6, "b") for seed in range(6, 11)] + [(11, 4, "b")]
    for seed, count, kind in steps:
        found = replayed(losses(network), inputs(seed, count), 0.5, kind)
        gradient = network.weight.grad
        assert gradient is not None
        expected = plain(losses(network), inputs(seed, count), 0.5, kind)
        assert torch.equal(found, expected)
        assert not found.requires_grad
        assert torch.equal(gradient, network.weight.grad)
    # Another kind of losses is recorded anew, and another shape, whose steps are too few here.
    assert len(Replayed.made) == 2
    assert PLAIN_STEPS == 3


def test_gradients_are_recorded_on_cuda_alone_and_where_that_is_asked() -> None:
    network = nn.Linear(3, 2)
    for how, device, records in (("none", "cuda", False), ("graphs", "cpu", False), ("fused", "cuda:1", True)):
        assert Gradients([network], ComputeConfig.model_validate({"compile": how}), device).records is records


def stages(**compute: Any) -> tuple[Initialization, Refinement]:
    """Both stages on a GPU; the regressor of the first begins in its second epoch."""
    config = config_of(
        compute=compute,
        initialization={"attention_maps": 4, "bap_scale": 10.0, "epochs": 2, "regressor_start": 1},
        tau=0.0,
    )
    return Initialization(config, CLASSES, "cuda"), Refinement(config, make_networks(config, CLASSES), "cuda")


def learners(stage: Initialization | Refinement) -> list[nn.Module]:
    """The networks that a stage trains, in the modes of an epoch."""
    if isinstance(stage, Refinement):
        stage.classifier.eval()
        return [stage.regressor.train()]
    return [stage.networks.classifier.train(), stage.networks.regressor.train()]


def gradients(networks: Iterable[nn.Module]) -> Tensor:
    found = [value.grad for network in networks for value in network.parameters() if value.grad is not None]
    return torch.cat([value.flatten() for value in found])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: only there steps are recorded")
@pytest.mark.parametrize("how", ["graphs", "fused"])
def test_stages_of_recorded_steps_train_as_those_of_plain_ones(how: str) -> None:
    for plain, replayed in zip(stages(), stages(compile=how), strict=True):
        for step in range(12):
            # Kernels add up in another order from run to run, and twelve steps would let that grow: each begins alike.
            plain.load_state(copy.deepcopy(replayed.state()))
            plain.epoch = replayed.epoch = step // 6
            networks, others = learners(plain), learners(replayed)
            expected, found = plain._step(*batch(step)), replayed._step(*batch(step))
            torch.testing.assert_close(found, expected, rtol=5e-3, atol=5e-3)
            wanted = gradients(networks)
            torch.testing.assert_close(gradients(others), wanted, rtol=5e-3, atol=5e-3 * wanted.abs().max().item())
        assert replayed._gradients._recorded is not None
