"""Boxes: the one convention of this package, and the arithmetic on it.

A box is four floats (x1, y1, x2, y2): corners in [0, 1] of the view it lies in, ends exclusive, so that the whole view
is (0, 0, 1, 1) and a box's width is x2 - x1. Every function takes and gives tensors of shape (..., 4). Readers in
``lchp.data`` convert pixels into this convention, and what is written for people is converted back there.
"""

from __future__ import annotations

import torch
from torch import Tensor


def whole_view(count: int, like: Tensor) -> Tensor:
    """The box of the whole view, (0, 0, 1, 1), ``count`` times: (count, 4), on the device and type of ``like``."""
    corners = like.new_zeros(count, 4)
    corners[:, 2:] = 1
    return corners


def clip(boxes: Tensor) -> Tensor:
    """The part of each box inside its view: corners clamped to [0, 1]. Shape (..., 4) in and out."""
    return boxes.clamp(0, 1)


def area(boxes: Tensor) -> Tensor:
    """The area of each box as a fraction of its view: shape (...). A box whose ends are crossed has area 0."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def scaled(boxes: Tensor, factor: float) -> Tensor:
    """Each box with its sides ``factor`` times as long, about its centre. Shape (..., 4) in and out; not clipped."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = (boxes[..., 2:] - boxes[..., :2]) * (factor / 2)
    return torch.cat([centre - half, centre + half], -1)


def mirrored(boxes: Tensor) -> Tensor:
    """Each box in the view mirrored left to right. Shape (..., 4) in and out; its own inverse."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([1 - x2, y1, 1 - x1, y2], -1)


def union(first: Tensor, second: Tensor) -> Tensor:
    """The smallest rectangle that holds both boxes (Algorithm 1, line 7). Shapes (..., 4), broadcast."""
    low = torch.minimum(first[..., :2], second[..., :2])
    return torch.cat([low, torch.maximum(first[..., 2:], second[..., 2:])], -1)


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union in [0, 1], continuous coordinates. Shapes (..., 4), broadcast; the result is (...).

    Two boxes of no area have an IoU of 0.
    """
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    sides = (high - low).clamp(min=0)
    intersection = sides[..., 0] * sides[..., 1]
    total = area(first) + area(second) - intersection
    smallest = torch.finfo(total.dtype).tiny
    return torch.where(total > 0, intersection / total.clamp(min=smallest), torch.zeros_like(total))


def to_centre_size(boxes: Tensor) -> Tensor:
    """Corners (x1, y1, x2, y2) to (centre x, centre y, width, height), all fractions of the view. Shape (..., 4)."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)


def from_centre_size(boxes: Tensor) -> Tensor:
    """The inverse of :func:`to_centre_size`. Shape (..., 4)."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)
