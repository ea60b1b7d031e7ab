from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lchp.training.descent import RegressorDescent, _continue, descent
from lchp.training.stage_config import DescentConfig, OptimizerConfig

RATE, MOMENTUM, DECAY = 0.1, 0.5, 0.01
OPTIMIZER = OptimizerConfig(momentum=MOMENTUM, weight_decay=DECAY)
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def test_descent_follows_the_papers_rule() -> None:
    network = nn.Linear(1, 1, bias=False)
    optimizer = descent(network, 0.1, OptimizerConfig(momentum=0.5, weight_decay=0.01))
    weight = velocity = 0.0
    with torch.no_grad():
        network.weight.fill_(weight := 2.0)
    for gradient in (3.0, -1.0):
        network.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        velocity = 0.5 * velocity + gradient + 0.01 * weight
        weight -= 0.1 * velocity
        assert network.weight.item() == pytest.approx(weight)


def network() -> Any:
    """Two weights and two biases in float64, which stand in for a regressor."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(1, 2).double()


def made(epochs: int, **options: Any) -> RegressorDescent:
    return RegressorDescent(network(), RATE, epochs, OPTIMIZER, DescentConfig(**options))


def gradients(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((2, 1), (2,))]


def run(steady: RegressorDescent, steps: range, steps_an_epoch: int = 3) -> list[float]:
    """Goes so many steps; gives the rate of each."""
    rates = []
    for step in steps:
        rates.append(steady.optimizer.param_groups[0]["lr"])
        for parameter, gradient in zip(steady.regressor.parameters(), gradients(step), strict=True):
            parameter.grad = gradient
        steady.step()
        if step % steps_an_epoch == steps_an_epoch - 1:
            steady.end_epoch()
    return rates


def flat(module: nn.Module) -> Any:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).numpy()


def by_numpy(steps: int, rate: Any, clip: float = math.inf, average: float = 0.0) -> tuple[Any, Any]:
    """The weights after so many steps, and their average, by definition."""
    weights = flat(network())
    velocity, averaged = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(steps):
        gradient = np.concatenate([part.numpy().ravel() for part in gradients(step)])
        gradient = gradient * min(1, clip / (np.sqrt((gradient**2).sum()) + 1e-6))
        velocity = MOMENTUM * velocity + gradient + DECAY * weights
        weights = weights - rate(step) * velocity
        share = max(1 - average, 1 / (step + 1))
        averaged = (1 - share) * averaged + share * weights
    return weights, averaged


def cosine(step: int) -> float:
    return RATE * (1 + math.cos(math.pi * (step // 3) / 4)) / 2


def rising(step: int) -> float:
    return min(1, (step + 1) / 6)


CALM: dict[str, tuple[dict[str, Any], Any]] = {
    "plain": ({}, lambda step: RATE),
    "cosine": ({"schedule": "cosine"}, cosine),
    "warmup": ({"warmup": 5}, lambda step: RATE * rising(step)),
    "warmup and cosine": ({"warmup": 5, "schedule": "cosine"}, lambda step: rising(step) * cosine(step)),
}


@pytest.mark.parametrize("case", CALM)
def test_rate_follows_warmup_and_schedule_by_numpy(case: str) -> None:
    options, rate = CALM[case]
    steady = made(4, **options)
    np.testing.assert_allclose(run(steady, range(12)), [rate(step) for step in range(12)], rtol=1e-12)
    np.testing.assert_allclose(flat(steady.regressor), by_numpy(12, rate)[0], rtol=1e-12)
    assert steady.reported is steady.regressor


def test_clip_shortens_long_gradients_to_its_norm_and_leaves_short_ones() -> None:
    clip, constant = 1.5, CALM["plain"][1]
    norms = [math.sqrt(sum(float((part**2).sum()) for part in gradients(step))) for step in range(12)]
    assert min(norms) < clip < max(norms)
    steady = made(4, clip=clip)
    run(steady, range(12))
    np.testing.assert_allclose(flat(steady.regressor), by_numpy(12, constant, clip)[0], rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.75, 0.99])
def test_reported_average_is_the_plain_mean_first_and_then_forgets(momentum: float) -> None:
    steady = made(4, report="average", average_momentum=momentum)
    run(steady, range(12))
    weights, averaged = by_numpy(12, CALM["plain"][1], average=momentum)
    np.testing.assert_allclose(flat(steady.regressor), weights, rtol=1e-12)
    np.testing.assert_allclose(flat(steady.reported), averaged, rtol=1e-12)
    assert not any(parameter.requires_grad for parameter in steady.reported.parameters())


def test_state_continues_to_the_same_bits_in_the_middle_of_warmup_and_schedule() -> None:
    options = {"report": "average", "schedule": "cosine", "warmup": 5, "clip": 1.0}
    through, first, second = (made(4, **options) for _ in range(3))
    rates = run(through, range(12))
    run(first, range(4))
    second.regressor.load_state_dict(copy.deepcopy(first.regressor.state_dict()))
    second.load_state(copy.deepcopy(first.state()))
    assert run(second, range(4, 12)) == rates[4:]
    assert (flat(second.regressor) == flat(through.regressor)).all()
    assert (flat(second.reported) == flat(through.reported)).all()


def test_state_of_the_papers_descent_is_the_optimizers_alone() -> None:
    assert made(4).state().keys() == {"optimizer"}, "checkpoints of before continue"


def test_state_of_another_device_leaves_how_a_step_is_carried_out_to_this_one() -> None:
    steady, state = made(4), made(4).state()
    state["optimizer"]["param_groups"][0]["fused"] = True
    steady.load_state(state)
    assert steady.optimizer.param_groups[0]["fused"] is not True


def test_state_of_another_layout_continues_in_the_layout_of_the_weights() -> None:
    plain, other = (nn.Conv2d(4, 2, 3, bias=False).to(memory_format=layout) for layout in LAYOUTS)
    kept = []
    for layer in (plain, other):
        layer.weight.grad = torch.ones_like(layer.weight)
        kept.append(descent(layer, RATE, OPTIMIZER))
        kept[-1].step()
    state = kept[0].state_dict()
    value = state["state"][0]["momentum_buffer"].clone()
    _continue(kept[1], state)
    buffer = kept[1].state[other.weight]["momentum_buffer"]
    assert buffer.stride() == other.weight.stride() != plain.weight.stride()
    assert torch.equal(buffer, value)
