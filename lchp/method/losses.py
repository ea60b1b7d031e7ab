"""The losses, Eq. 1 to 3, 5 and 6: float32 scalars whatever the type of their inputs. n is the mini-batch's size."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def classification_loss(raw_logits: Tensor, masked_logits: Tensor, labels: Tensor) -> Tensor:
    """Eq. 1: the mean over raw and masked images of the cross entropy (nats, >= 0).

    Logits (n, classes) of any floating type, ``labels`` (n,) int64 class indices.
    """
    raw = functional.cross_entropy(raw_logits.float(), labels)
    masked = functional.cross_entropy(masked_logits.float(), labels)
    return (raw + masked) / 2


def regression_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Eq. 2 and 5: the squared distance of two boxes, summed over the four coordinates, mean over n (method notes 12).

    Both (n, 4), in the same format. The gradient reaches whichever of the two wants one: pass a detached target.
    """
    return _squared_distance(predicted, target).mean()


def initialization_loss(classification: Tensor, regression: Tensor, alpha: float) -> Tensor:
    """Eq. 3: ``classification`` (Eq. 1) plus ``alpha`` > 0 (paper: 20) times ``regression`` (Eq. 2)."""
    return classification + alpha * regression


def consistency_loss(predicted: Tensor, target: Tensor, selected: Tensor) -> Tensor:
    """Eq. 6: Eq. 5 of the selected samples alone; rejected ones add 0 and still count in n (method notes 12).

    ``predicted`` and ``target`` (n, 4), ``selected`` (n,) bool or 0/1: the indicator of a high-quality pseudo box. Pass
    a detached target.
    """
    return (_squared_distance(predicted, target) * selected.float()).mean()


def _squared_distance(predicted: Tensor, target: Tensor) -> Tensor:
    return (predicted.float() - target.float()).square().sum(-1)
