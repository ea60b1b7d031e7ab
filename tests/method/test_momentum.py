from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lchp.method.momentum import average, update


def network(seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1, bias=False))
        made(torch.randn(2, 3, 8, 8))  # moves the batch-norm statistics off their start
    return made


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999])
def test_update_three_steps_equals_equation_7(beta: float) -> None:
    slow = network(0)
    expected = {name: value.detach().double().numpy() for name, value in slow.named_parameters()}
    for step in range(1, 4):
        fast = network(step)
        update(slow, fast, beta)
        for name, value in fast.named_parameters():
            expected[name] = beta * expected[name] + (1 - beta) * value.detach().double().numpy()
    for name, value in slow.named_parameters():
        np.testing.assert_allclose(value.detach().numpy(), expected[name], rtol=0, atol=1e-6)


def test_update_buffers_are_copied_in_value_and_type() -> None:
    slow, fast = network(0), network(1)
    fast(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2)))
    update(slow, fast, 0.9)
    for mine, other in zip(slow.buffers(), fast.buffers(), strict=True):
        assert mine.dtype == other.dtype
        assert torch.equal(mine, other)
    assert int(slow[1].num_batches_tracked) == 2


def test_update_leaves_the_network_and_its_graph_alone() -> None:
    slow, fast = network(0), network(1)
    before = copy.deepcopy(fast.state_dict())
    update(slow, fast, 0.5)
    assert all(torch.equal(value, before[name]) for name, value in fast.state_dict().items())
    assert all(value.is_leaf and value.grad_fn is None for value in slow.parameters())
    slow_weights = copy.deepcopy(slow.state_dict())
    with torch.no_grad():
        for value in fast.state_dict().values():
            value.zero_()
    assert all(torch.equal(value, slow_weights[name]) for name, value in slow.state_dict().items())


def test_update_equal_networks_changes_nothing() -> None:
    slow = network(0)
    before = copy.deepcopy(slow.state_dict())
    update(slow, copy.deepcopy(slow), 0.9)
    assert all(torch.equal(value, before[name]) for name, value in slow.state_dict().items())


def test_update_without_buffers_moves_the_parameters() -> None:
    slow, fast = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        slow.weight.fill_(1.0)
        fast.weight.fill_(3.0)
    update(slow, fast, 0.75)
    assert slow.weight.item() == 1.5


def test_average_is_the_mean_of_parameters_and_statistics_until_it_looks_back_further_than_its_momentum() -> None:
    averaged, networks = network(0), [network(seed) for seed in range(1, 6)]
    states = [{name: value.double().numpy() for name, value in made.state_dict().items()} for made in networks]
    for count, fast in enumerate(networks):
        average(averaged, fast, 0.75, count)
    for name, found in averaged.state_dict().items():
        mean = np.mean([state[name] for state in states[:4]], axis=0)
        expected = 0.75 * mean + 0.25 * states[4][name] if found.is_floating_point() else states[4][name]
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)
