"""The confidence of a predicted box (paper 3.2): what the classifier makes of the part of the view inside it, or
whether the localizer finds it again; and which boxes are taken for it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from lchp.method.boxes import clip, iou, mirrored


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


def max_softmax(logits: Tensor) -> Tensor:
    """max_c p_c(I_b), the paper's confidence (3.2): the largest class probability of ``logits`` (n, classes) of the
    crops, in (0, 1]: (n,) float32.
    """
    return logits.float().softmax(-1).amax(-1)


def out_of_fold(logits: Tensor, temperature: float, unseen: Tensor | None) -> Tensor:
    """max_c p_c(I_b) with p = softmax(z^u(I_b) / T): the confidence of a classifier that has not seen the image.

    ``logits`` (k, n, classes) are z of the crops by each of k classifiers, ``unseen`` (n,) int64 is u, which of them
    has not seen an image; None where none has: p is then the mean over the classifiers. T > 0 is ``temperature``
    (:func:`fit_temperature`). In (0, 1]: (n,) float32. Source: out-of-fold (cross-fitted) predictions, as those by
    which Northcutt et al. (JAIR 2021) find wrong labels; temperature scaling, Guo et al. (ICML 2017).
    """
    probabilities = (logits.float() / temperature).softmax(-1)
    if unseen is None:
        return probabilities.mean(0).amax(-1)
    return probabilities[unseen, torch.arange(len(unseen), device=unseen.device)].amax(-1)


TEMPERATURES = (0.1, 100.0)
"""Between these a temperature is looked for: where no answer is wrong, none would be too low."""


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """argmin_T -1/m sum_i log softmax(z_i / T)_{y_i}, the temperature of Guo et al. (ICML 2017), within TEMPERATURES.

    ``logits`` z (m, classes) are answers to images with ``labels`` y (m,) int64 that were not trained on. In b = 1 / T
    the loss is convex, with the derivative 1/m sum_i (sum_c p_c z_ic - z_iy): its zero is found by bisection of log b,
    in float64.
    """
    z = logits.double()
    right = z.gather(1, labels[:, None])[:, 0]
    low, high = (-math.log(temperature) for temperature in reversed(TEMPERATURES))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        expected = ((math.exp(middle) * z).softmax(-1) * z).sum(-1)
        if float((expected - right).mean()) < 0:
            low = middle
        else:
            high = middle
    return math.exp(-(low + high) / 2)


BISECTIONS = 40
"""They halve an interval of 6.9 in log T to 1e-11."""


def cross_entropy(logits: Tensor, labels: Tensor, temperature: float) -> float:
    """-1/m sum_i log softmax(z_i / T)_{y_i}: what :func:`fit_temperature` makes as small as it gets, in float64."""
    return float(functional.cross_entropy(logits.double() / temperature, labels))


def contrast(logits: Tensor, inner: Tensor, labels: Tensor) -> Tensor:
    """p_y(I_b) - p_y(I_s): how much of the evidence for the image's own class y lies in the rim of the box.

    ``logits`` (n, classes) are of the crop I_b, ``inner`` of I_s, the crop of the same box made smaller about its
    centre (:func:`lchp.method.boxes.scaled`); ``labels`` (n,) int64 are the training labels y. In (-1, 1): (n,)
    float32. A box that is too large gains nothing by its rim, one that misses the object has no p_y to lose. Source:
    this package's own trials (method notes 21).
    """
    rows = labels[:, None]
    return (logits.float().softmax(-1).gather(1, rows) - inner.float().softmax(-1).gather(1, rows))[:, 0]


def equivariance(found: Tensor, of_mirrored: Tensor) -> Tensor:
    """IoU(Loc(I), M(Loc(M(I)))), where M mirrors left to right: whether the localizer finds the same place twice.

    ``found`` (n, 4) are the boxes of the views, ``of_mirrored`` (n, 4) those of the mirrored views as they lie there.
    In [0, 1]: (n,) float32. Source: flip consistency, which Jeong et al. (NeurIPS 2019, CSD) train by, taken as a
    measure (method notes 21).
    """
    return iou(found.float(), mirrored(of_mirrored.float()))


def high_quality(scores: Tensor, tau: float) -> Tensor:
    """The indicator of Eq. 6: which of the confidences (n,) are strictly greater than ``tau``; (n,) bool."""
    return scores > tau


def best_share(scores: Tensor, keep: float) -> Tensor:
    """In place of Eq. 6's threshold: the :func:`share_count` highest of the confidences (n,); of equal ones the first.

    The result is (n,) bool. Needs no scale of the confidence. No host synchronisation.
    """
    places = torch.arange(len(scores), device=scores.device)
    best = scores.argsort(descending=True, stable=True)
    ranks = torch.empty_like(places).scatter(0, best, places)
    return ranks < share_count(keep, len(scores))


def share_count(keep: float, count: int) -> int:
    """How many of ``count`` images the best share ``keep`` in (0, 1] is: the nearest whole number, at least one."""
    return max(1, round(keep * count))
