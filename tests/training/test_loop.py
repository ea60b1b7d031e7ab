from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lchp.training.config import ComputeConfig
from lchp.training.loop import autocast, compiled, epoch_order, run_epoch
from lchp.training.waiting import Watch

Batches = list[tuple[Tensor, Tensor, Tensor]]


def batches(values: list[float]) -> Batches:
    """One batch a value, which its images hold."""
    return [(torch.tensor([value]), torch.zeros(1), torch.zeros(1)) for value in values]


def losses(images: Tensor, labels: Tensor, places: Tensor) -> Tensor:
    return torch.stack([images[0], 2 * images[0]])


def test_run_epoch_gives_the_means_by_stage_and_name() -> None:
    found = run_epoch(batches([1.0, 2.0, 6.0]), losses, ("loss", "twice"), "refinement", 4, Watch("cpu"))
    assert found == {"train/refinement/loss": 3.0, "train/refinement/twice": 6.0}


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_run_epoch_with_a_loss_that_is_not_finite_names_the_first_place(broken: float) -> None:
    message = f"^refinement: the loss of epoch 4, batch 2 is {broken}: lower the learning rate$"
    with pytest.raises(FloatingPointError, match=message):
        run_epoch(batches([1.0, broken, 6.0, float("nan")]), losses, ("loss", "twice"), "refinement", 4, Watch("cpu"))


def test_epoch_order_is_a_permutation_of_the_generator_and_shrinks_the_batch_to_the_set() -> None:
    order, size = epoch_order(10, 32, torch.Generator().manual_seed(1))
    again, _ = epoch_order(10, 32, torch.Generator().manual_seed(1))
    assert sorted(order.tolist()) == list(range(10))
    assert torch.equal(order, again)
    assert size == 10
    assert epoch_order(10, 4, torch.Generator())[1] == 4


def test_autocast_of_fp32_changes_nothing_and_of_bf16_keeps_gradients_after_no_grad() -> None:
    network, values = nn.Linear(3, 3), torch.randn(2, 3)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        network.zero_grad()
        with autocast(ComputeConfig(precision=precision), "cpu"):
            with torch.no_grad():
                network(values)
            found = network(values)
            assert found.dtype == dtype
        found.float().sum().backward()
        assert network.weight.grad is not None


def test_compiled_leaves_the_losses_as_they_are_on_the_cpu_and_where_nothing_is_asked() -> None:
    def losses(values: torch.Tensor) -> torch.Tensor:
        return values

    assert all(compiled(losses, ComputeConfig(compile=how), "cpu") is losses for how in ("none", "fused", "graphs"))
    assert all(compiled(losses, ComputeConfig(compile=how), "cuda") is losses for how in ("none", "graphs"))
    assert compiled(losses, ComputeConfig(compile="fused"), "cuda") is not losses
