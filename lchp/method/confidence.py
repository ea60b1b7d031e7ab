"""The confidence of a predicted box (paper 3.2): what the classifier makes of the part of the view inside it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lchp.method.boxes import clip


def crop(images: Tensor, boxes: Tensor) -> Tensor:
    """I_b (paper 3.2; method notes 10): the part of each image inside its box, resampled to the image's size.

    ``images`` (n, 3, h, w), ``boxes`` (n, 4); the result has the shape and type of ``images``. Boxes are clipped to the
    view; those narrower than two pixels (or with crossed ends) are widened to two about their centre, inside the view.
    For boxes on whole pixels this is cutting, then resizing bilinearly with ``align_corners=False``: nothing outside
    the box is seen. No host synchronisation.
    """
    height, width = images.shape[-2:]
    low, high = _at_least_two_pixels(clip(boxes.float()), width, height)
    x = _sample_points(low[:, 0], high[:, 0], width)
    y = _sample_points(low[:, 1], high[:, 1], height)
    count = images.shape[0]
    grid = torch.stack([x.unsqueeze(1).expand(count, height, width), y.unsqueeze(2).expand(count, height, width)], -1)
    sampled = functional.grid_sample(
        images.float(), 2 * grid - 1, mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled.to(images.dtype)


def _at_least_two_pixels(boxes: Tensor, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Lower and upper corners (n, 2) of clipped boxes, at least two pixels apart per axis and inside the view."""
    assert min(width, height) >= 2, "a view has at least two pixels a side"
    pixel = torch.cat([boxes.new_full((1,), 1 / width), boxes.new_full((1,), 1 / height)])
    low, high = boxes[:, :2], boxes[:, 2:]
    centre = torch.minimum(torch.maximum((low + high) / 2, pixel), 1 - pixel)
    narrow = high - low < 2 * pixel
    return torch.where(narrow, centre - pixel, low), torch.where(narrow, centre + pixel, high)


def _sample_points(low: Tensor, high: Tensor, size: int) -> Tensor:
    """Where the ``size`` pixels of the resized crop lie in the view, in [0, 1]: (n, size).

    Points closer than half a pixel to an end are moved inside, so that interpolation does not reach over it.
    """
    centres = (torch.arange(size, device=low.device, dtype=low.dtype) + 0.5) / size
    low, high = low.unsqueeze(1), high.unsqueeze(1)
    points = low + centres * (high - low)
    return torch.minimum(torch.maximum(points, low + 0.5 / size), high - 0.5 / size)


def confidence(logits: Tensor) -> Tensor:
    """The largest class probability (paper 3.2) of ``logits`` (n, classes), in (0, 1]: (n,) float32."""
    return logits.float().softmax(-1).amax(-1)


def high_quality(confidence: Tensor, tau: float) -> Tensor:
    """The indicator of Eq. 6: which of the confidences (n,) are strictly greater than ``tau`` in [0, 1]; (n,) bool."""
    return confidence > tau
