from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import inception_v3

from lchp.method import inception

BLOCKS = [
    (inception.BlockA, inception.InceptionA, (24, 8)),
    (inception.BlockC, inception.InceptionC, (24, 8)),
    (inception.BlockE, inception.InceptionE, (24,)),
]


@pytest.mark.parametrize(("ours", "theirs", "sizes"), BLOCKS, ids=["A", "C", "E"])
def test_block_on_the_cpu_is_torchvisions_bit_for_bit(
    ours: type[nn.Module], theirs: type[nn.Module], sizes: tuple[int, ...]
) -> None:
    block, other = ours(*sizes), theirs(*sizes)
    other.load_state_dict(block.state_dict())
    x = torch.randn(2, 24, 7, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), other(x))


@pytest.mark.parametrize("training", [True, False])
def test_pooling_commutes_with_the_convolution_and_its_gradients(training: bool) -> None:
    branch = inception.BasicConv2d(24, 6, kernel_size=1).double().train(training)
    x = torch.randn(3, 24, 7, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    for behind in (False, True):
        branch.zero_grad()
        own = x.clone().requires_grad_(True)
        out = inception.pooled(branch, own, behind)
        out.square().sum().backward()
        assert own.grad is not None
        assert branch.conv.weight.grad is not None
        found.append((out.detach(), own.grad, branch.conv.weight.grad.clone()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    assert found[0][0].unique().numel() > 100


def test_network_draws_the_weights_of_torchvision() -> None:
    torch.manual_seed(0)
    ours = inception.make_inception_v3().state_dict()
    torch.manual_seed(0)
    theirs = inception_v3(weights=None, aux_logits=False, init_weights=True).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
