"""The metrics of paper 4.2, the floors they must beat and Table 4's left half: pure functions, float64; but for those
of :func:`box_bias` in [0, 1].

Conventions, those of wsolevaluation (Choe et al. 2020): of several true boxes any one may be hit; a hit is
IoU >= threshold, inclusive; averages are over images. Unlike there, boxes are continuous (``lchp.method.boxes``). n is
the number of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lchp.method.boxes import area, from_centre_size, iou
from lchp.vocabulary import (
    BOX_ACCURACIES,
    CENTRE_OFFSET_MEAN,
    CENTRE_OFFSET_SPREAD,
    HIT_IOU,
    LOG_AREA_MEAN,
    LOG_AREA_SPREAD,
    MEAN_BOX_ACC,
    MEAN_IOU,
    METRICS,
    TOP1_CLS,
    TOP1_LOC,
    TOP5_LOC,
)

_DECIMALS = 12
"""IoUs are rounded to so many decimals, so that rounding in the arithmetic cannot turn an exact 0.5 into a miss."""

_LARGEST_RATIO = 100.0
"""Areas that differ by more count as if they differed by so much: one lost box would outweigh all others."""

_CHUNK = 512
"""Images whose 10,000 candidate boxes are looked at together: 40 MB."""


def best_iou(predicted: Tensor, true: Sequence[Tensor]) -> Tensor:
    """The largest IoU of each predicted box (n, 4) with any of its image's true boxes, n tensors (k, 4).

    The result is (n,) float64 on the CPU; an image without a true box has 0.

    >>> predicted = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 1.0, 1.0]])
    >>> truth = [torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, 0.0, 1.0, 1.0]]), torch.tensor([[0.0, 0.0, 0.5, 0.5]])]
    >>> best_iou(predicted, truth).tolist()
    [0.5, 0.25]
    """
    owner, values = _ious(predicted, true)
    return torch.zeros(len(true), dtype=torch.float64).scatter_reduce(0, owner, values, "amax")


def _ious(predicted: Tensor, true: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The image of every true box, (m,) int64, and that box's IoU with the predicted one, (m,) float64."""
    assert len(predicted) == len(true) > 0, "one predicted box and one set of true boxes per image"
    counts = torch.tensor([len(boxes) for boxes in true])
    owner = torch.repeat_interleave(torch.arange(len(true)), counts)
    return owner, iou(predicted.detach().cpu().double()[owner], _joined(true)).round(decimals=_DECIMALS)


def _nearest(predicted: Tensor, true: Sequence[Tensor]) -> Tensor:
    """The true box of each image with the largest IoU, of equal ones the first: (n, 4). Every image has one."""
    owner, values = _ious(predicted, true)
    best = torch.zeros(len(true), dtype=torch.float64).scatter_reduce(0, owner, values, "amax")
    places = torch.where(values == best[owner], torch.arange(len(owner)), len(owner))
    first = torch.full((len(true),), len(owner)).scatter_reduce(0, owner, places, "amin")
    return _joined(true)[first]


def _joined(true: Sequence[Tensor]) -> Tensor:
    return torch.cat([boxes.detach().cpu().double() for boxes in true])


def ranked_classes(logits: Tensor, count: int = 5) -> Tensor:
    """The ``count`` most probable classes of each image, best first, equal ones by index.

    ``logits`` (n, classes) of any floating type; the result is (n, min(count, classes)) int64.
    """
    return logits.float().sort(dim=1, descending=True, stable=True).indices[:, :count]


def in_top(ranked: Tensor, labels: Tensor, count: int) -> Tensor:
    """Whether the label is among the first ``count`` ranked classes: (n,) bool.

    ``ranked`` (n, r) with r >= ``count``, or every class where there are fewer; ``labels`` (n,) int64.
    """
    return (ranked[:, :count] == labels.unsqueeze(1)).any(1)


def accuracy(hits: Tensor) -> float:
    """The share of true entries of ``hits`` (n,) bool, n >= 1: the exact quotient of two integers."""
    assert len(hits) > 0, "an accuracy needs at least one image"
    return int(hits.sum()) / len(hits)


def localization_scores(ious: Tensor) -> dict[str, float]:
    """GT-Known (paper 4.2), accuracies at other thresholds and the mean of the images' best ``ious`` (n,)."""
    hits = {name: accuracy(ious >= metric.iou) for name, metric in METRICS.items() if metric.iou is not None}
    return {
        **hits,
        MEAN_BOX_ACC: sum(hits[name] for name in BOX_ACCURACIES) / len(BOX_ACCURACIES),
        MEAN_IOU: float(ious.double().mean()),
    }


def scores_per_image(ious: Tensor, top1: Tensor, top5: Tensor) -> dict[str, float]:
    """Every metric from what is kept of each image: its best IoU, whether its label is in the top 1 and 5; (n,) each.

    Top-1 and Top-5 localization (paper 4.2): class and box are both right.

    >>> ious, right = torch.tensor([0.5, 0.25]), torch.tensor([False, True])
    >>> scores = scores_per_image(ious, top1=right, top5=torch.tensor([True, True]))
    >>> scores["gt_known"], scores["top1_loc"], scores["top5_loc"], scores["top1_cls"]
    (0.5, 0.0, 0.5, 0.5)
    """
    ious, top1, top5 = ious.cpu(), top1.cpu(), top5.cpu()
    hit = ious >= HIT_IOU
    return {
        **localization_scores(ious),
        TOP1_LOC: accuracy(top1 & hit),
        TOP5_LOC: accuracy(top5 & hit),
        TOP1_CLS: accuracy(top1),
    }


def box_bias(predicted: Tensor, true: Sequence[Tensor]) -> dict[str, float]:
    """How boxes (n, 4) are wrong in size and place: mean and spread (standard deviation) over the images of

    - log(area / true area), clipped to +-log 100, so that a box of no area counts as one of a hundredth: above 0 boxes
      are too large;
    - the distance of the centre from the true one, in diagonals of the true box (in [0, 1] of the image, as boxes are).

    Of several true boxes of an image (``true`` holds n tensors (k, 4)), the one with the largest IoU counts, of equal
    ones the first.

    >>> box_bias(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), [torch.tensor([[0.0, 0.0, 0.5, 0.5]])])["log_area_mean"]
    1.3862943611198906
    """
    found, truth = predicted.detach().cpu().double(), _nearest(predicted, true)
    ratio = (area(found) / area(truth)).clamp(1 / _LARGEST_RATIO, _LARGEST_RATIO).log()
    centres = (found[:, :2] + found[:, 2:] - truth[:, :2] - truth[:, 2:]) / 2
    offset = centres.norm(dim=1) / (truth[:, 2:] - truth[:, :2]).norm(dim=1)
    return {
        LOG_AREA_MEAN: float(ratio.mean()),
        LOG_AREA_SPREAD: float(ratio.std(correction=0)),
        CENTRE_OFFSET_MEAN: float(offset.mean()),
        CENTRE_OFFSET_SPREAD: float(offset.std(correction=0)),
    }


def fit_centred_box(true: Sequence[Tensor]) -> Tensor:
    """The floor of a constant guess: the centred box with the most hits on the training images, (4,) float64.

    Width and height are on a grid of 1% (1% ... 100%); of equally good boxes the smallest area, then the smaller width.
    """
    percent = torch.arange(1, 101)
    hits = torch.zeros(100, 100, dtype=torch.int64)
    for start in range(0, len(true), _CHUNK):
        hits += _centred_hits(true[start : start + _CHUNK], percent.double() / 100)
    areas = percent.unsqueeze(1) * percent
    # One integer orders by hits, then area, then width; no two candidates share it.
    order = (hits * 10_001 - areas) * 101 - percent.unsqueeze(1)
    best = int(order.argmax())
    width, height = (best // 100 + 1) / 100, (best % 100 + 1) / 100
    return from_centre_size(torch.tensor([0.5, 0.5, width, height], dtype=torch.float64))


def _centred_hits(true: Sequence[Tensor], sides: Tensor) -> Tensor:
    """How many images each centred box, width by height of ``sides`` (s,), hits with IoU >= 0.5: (s, s) int64."""
    hit = torch.zeros(len(true), len(sides), len(sides), dtype=torch.bool)
    for place in range(max(len(boxes) for boxes in true)):
        images = [index for index, boxes in enumerate(true) if len(boxes) > place]
        boxes = torch.stack([true[index][place] for index in images]).cpu().double()
        across, down = (_centred_overlap(boxes[:, axis], boxes[:, axis + 2], sides) for axis in (0, 1))
        intersection = across.unsqueeze(2) * down.unsqueeze(1)
        total = area(boxes)[:, None, None] + sides.unsqueeze(1) * sides
        # IoU >= 1/2 is 3 * intersection >= the sum of both areas; the slack is that of the rounded IoUs.
        hit[images] |= intersection * (3 * (1 + 10.0**-_DECIMALS)) >= total
    return hit.sum(0)


def _centred_overlap(low: Tensor, high: Tensor, sides: Tensor) -> Tensor:
    """Length of the overlap of the spans [low, high] (n,) with centred spans of the given sides (s,): (n, s)."""
    ends = (0.5 + sides / 2).clamp(max=1)
    return (torch.minimum(high.unsqueeze(1), ends) - torch.maximum(low.unsqueeze(1), 1 - ends)).clamp(min=0)


def ranking_auc(scores: Tensor, hits: Tensor) -> float | None:
    """The area under the ROC curve by ranks (Mann-Whitney): how often a hit has a higher score than a miss.

    ``scores`` (n,), ``hits`` (n,) bool. Ties count half; 0.5 is chance. With R the sum of the hits' ranks, equal
    scores sharing their mean rank, and P hits, N misses: (R - P (P + 1) / 2) / (P N). None where there are only hits or
    only misses.

    >>> ranking_auc(torch.tensor([0.1, 0.4, 0.4, 0.8]), torch.tensor([False, True, False, True]))
    0.875
    """
    scores, hits = scores.cpu().double(), hits.cpu()
    positives, negatives = int(hits.sum()), int((~hits).sum())
    if positives == 0 or negatives == 0:
        return None
    _, place, counts = scores.unique(return_inverse=True, return_counts=True)  # type: ignore[no-untyped-call]
    last = counts.cumsum(0).double()
    ranks = (last - (counts - 1) / 2)[place]
    return (float(ranks[hits].sum()) - positives * (positives + 1) / 2) / (positives * negatives)


class Selection(NamedTuple):
    """What a rule selects of some boxes: a row of Table 4's left half."""

    selected: int
    """How many."""
    gt_known: float | None
    """GT-Known of those; None where there are none."""


def selection(selected: Tensor, ious: Tensor) -> Selection:
    """Table 4, left: how many boxes are ``selected`` (n,) bool, and GT-Known of those by their ``ious`` (n,)."""
    passed = ious.cpu()[selected.cpu()]
    return Selection(len(passed), accuracy(passed >= HIT_IOU) if len(passed) else None)
