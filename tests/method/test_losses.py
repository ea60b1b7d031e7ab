from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lchp.method.losses import classification_loss, consistency_loss, initialization_loss, regression_loss


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    raw = 4 * torch.randn(6, 5, generator=generator, dtype=torch.float64)
    masked = 4 * torch.randn(6, 5, generator=generator, dtype=torch.float64)
    return raw, masked, torch.tensor([0, 4, 2, 2, 1, 3])


def pairs(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(6, 4, generator=generator), torch.rand(6, 4, generator=generator)


def equation_1(raw: np.ndarray, masked: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for logits in (raw, masked):
        for i in range(len(labels)):
            probability = math.exp(logits[i, labels[i]]) / sum(math.exp(value) for value in logits[i])
            total += math.log(probability)
    return -total / (2 * len(labels))


def squared_norm(one: np.ndarray, other: np.ndarray) -> float:
    return sum((float(one[k]) - float(other[k])) ** 2 for k in range(4))


def test_classification_loss_random_logits_equals_equation_1() -> None:
    raw, masked, labels = batch()
    expected = equation_1(raw.numpy(), masked.numpy(), labels.numpy())
    assert float(classification_loss(raw, masked, labels)) == pytest.approx(expected, rel=1e-6)


def test_classification_loss_equal_logits_is_log_of_classes() -> None:
    logits = torch.zeros(3, 7)
    loss = classification_loss(logits, logits, torch.tensor([0, 3, 6]))
    assert float(loss) == pytest.approx(math.log(7), rel=1e-6)


def test_classification_loss_extreme_bfloat16_logits_is_finite_float32() -> None:
    logits = torch.tensor([[3e38, -3e38, 0.0]], dtype=torch.bfloat16)
    loss = classification_loss(logits, logits * 0, torch.tensor([0]))
    assert loss.dtype == torch.float32
    assert bool(torch.isfinite(loss))


def test_classification_loss_bfloat16_logits_is_summed_in_float32() -> None:
    raw, masked, labels = batch()
    raw, masked = raw.bfloat16(), masked.bfloat16()
    expected = classification_loss(raw.float(), masked.float(), labels)
    assert torch.equal(classification_loss(raw, masked, labels), expected)


def test_classification_loss_gradient_is_half_probability_minus_label() -> None:
    raw, masked, labels = batch()
    raw, masked = raw.float().requires_grad_(), masked.float().requires_grad_()
    classification_loss(raw, masked, labels).backward()
    for logits in (raw, masked):
        values = np.exp(logits.detach().double().numpy())
        expected = (values / values.sum(1, keepdims=True) - np.eye(5)[labels.numpy()]) / (2 * len(labels))
        assert logits.grad is not None
        np.testing.assert_allclose(logits.grad.numpy(), expected, rtol=0, atol=1e-6)


def test_regression_loss_random_boxes_equals_equation_2() -> None:
    predicted, target = pairs()
    expected = sum(squared_norm(p, t) for p, t in zip(predicted.numpy(), target.numpy(), strict=True)) / 6
    assert float(regression_loss(predicted, target)) == pytest.approx(expected, rel=1e-6)


def test_regression_loss_gradient_is_twice_the_difference_over_n() -> None:
    predicted, target = pairs()
    predicted.requires_grad_()
    regression_loss(predicted, target).backward()
    assert predicted.grad is not None
    expected = 2 * (predicted.detach().double() - target.double()) / 6
    np.testing.assert_allclose(predicted.grad.numpy(), expected.numpy(), rtol=0, atol=1e-7)


def test_regression_loss_bfloat16_prediction_is_summed_in_float32() -> None:
    predicted, target = pairs()
    loss = regression_loss(predicted.bfloat16(), target)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, regression_loss(predicted.bfloat16().float(), target))


def test_initialization_loss_weights_the_regression_by_alpha() -> None:
    assert float(initialization_loss(torch.tensor(1.5), torch.tensor(0.25), 20.0)) == 6.5


def test_consistency_loss_some_rejected_equals_equation_6() -> None:
    predicted, target = pairs()
    selected = torch.tensor([True, False, True, True, False, False])
    expected = sum(squared_norm(predicted[i].numpy(), target[i].numpy()) for i in (0, 2, 3)) / 6
    assert float(consistency_loss(predicted, target, selected)) == pytest.approx(expected, rel=1e-6)
    assert torch.equal(
        consistency_loss(predicted, target, selected), consistency_loss(predicted, target, selected.float())
    )


def test_consistency_loss_all_selected_equals_equation_5() -> None:
    predicted, target = pairs()
    everything = torch.ones(6, dtype=torch.bool)
    assert torch.equal(consistency_loss(predicted, target, everything), regression_loss(predicted, target))


def test_consistency_loss_rejected_samples_have_no_gradient() -> None:
    predicted, target = pairs()
    predicted.requires_grad_()
    consistency_loss(predicted, target, torch.tensor([True, False, True, False, False, False])).backward()
    assert predicted.grad is not None
    assert (predicted.grad.abs().sum(1) > 0).tolist() == [True, False, True, False, False, False]


def test_consistency_loss_none_selected_is_zero() -> None:
    predicted, target = pairs()
    assert float(consistency_loss(predicted, target, torch.zeros(6, dtype=torch.bool))) == 0.0
