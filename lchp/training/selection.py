"""Table 4's left half: how well the confidence tells good boxes of the training images from bad ones.

It is measured with the networks with which refinement begins, on the evaluated views, and on the training views and
weak boxes of refinement's first epoch: what Eq. 6 selects from. True boxes are seen by nothing that trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lchp.method import augmentation, metrics
from lchp.method.augmentation import ViewDraw
from lchp.method.confidence import best_share, high_quality
from lchp.store.selection import EVALUATED, TRAINING, SelectionRow, selection_text
from lchp.training.config import TrialConfig
from lchp.training.evaluation import Evaluator, in_whole_image, require_finite, true_boxes_of
from lchp.training.loop import autocast
from lchp.training.material import Split
from lchp.training.refinement import Refinement, judged
from lchp.vocabulary import HIT_IOU

TAUS = (*(round(step * 0.05, 2) for step in range(20)), 0.99)
"""The thresholds at which the selection is counted: 0.00, 0.05, ... 0.95 and 0.99, each the float that is written so;
those of Table 4 (0, 0.5, 0.6, 0.7, 0.8, 0.9) are among them.
"""

SHARES = tuple(round(step * 0.1, 1) for step in range(1, 11))
"""The best shares at which it is counted, whatever the scale of the score."""


def measure_selection(stage: Refinement, evaluator: Evaluator, split: Split) -> str | None:
    """The text of selection.csv: what each of TAUS and SHARES and the trial's own rule select, on either kind of views.

    ``stage`` has not been trained yet; its networks are in no state to be trained afterwards. Counted are the images
    that have true boxes, of the training views those of whole batches. None where no image has a true box, or no batch
    one that has.

    Raises:
        FloatingPointError: a box or a score is not finite; names the image.
    """
    if not true_boxes_of(split)[1]:
        return None
    # The evaluated views first: weak boxes may take their statistics from the batch, and leave them in the network.
    scored = {EVALUATED: _evaluated(stage, evaluator, split), TRAINING: _training(stage, evaluator, split)}
    rules = _rules(stage.config)
    return selection_text(row for views, found in scored.items() for row in _rows(views, *found, rules))


def _evaluated(stage: Refinement, evaluator: Evaluator, split: Split) -> tuple[Tensor, Tensor]:
    """The scores (n,) of the boxes in the evaluated views, and their IoUs (n,)."""
    predict = evaluator.localizing(stage.regressor)
    stage.classifier.eval()

    def judge(views: Tensor, labels: Tensor, at: Tensor) -> Tensor:
        found = predict(views, labels, at)
        scores = stage.confidence.score(views, found, labels, at, lambda others: predict(others, labels, at))
        return torch.cat([found, scores[:, None]], 1)

    places, truth = true_boxes_of(split)
    found = evaluator.views(split.source, judge, places)
    return found[:, 4], metrics.best_iou(in_whole_image(found[:, :4], stage.config.view), truth)


def _training(stage: Refinement, evaluator: Evaluator, split: Split) -> tuple[Tensor, Tensor]:
    """The scores (n,) of the weak boxes in the training views of the first epoch, and their IoUs (n,) with what these
    views show of the true boxes.
    """
    known_at, truth = true_boxes_of(split)
    known = dict(zip(known_at.tolist(), truth, strict=True))
    answers: list[Tensor] = []
    shown: list[Tensor] = []
    with torch.inference_mode(), autocast(stage.config.compute, stage.device):
        for images, labels, places in stage.batches(split.source, evaluator.workers):
            views, draw = stage.views(images)
            labels, at = labels.to(stage.device), places.to(stage.device)
            weak, scores = judged(stage.regressor, stage.teacher, stage.confidence, views, labels, at, stage.config)
            answer = torch.cat([weak, scores[:, None]], 1).float().cpu()
            require_finite(answer, split.source, places)
            rows = [row for row, place in enumerate(places.tolist()) if place in known]
            answers.append(answer[rows])
            shown += _shown(stage.config, [known[place] for place in places[rows].tolist()], draw.to("cpu"), rows)
    found = torch.cat(answers)
    return found[:, 4], metrics.best_iou(found[:, :4], shown) if shown else found[:, 4]


def _shown(config: TrialConfig, truth: Sequence[Tensor], draw: ViewDraw, rows: Sequence[int]) -> list[Tensor]:
    """What the views of the batch's images at ``rows`` show of their true boxes ``truth``, (k, 4) each."""
    if not truth:
        return []
    counts = [len(boxes) for boxes in truth]
    windows = draw.at(torch.repeat_interleave(torch.tensor(rows), torch.tensor(counts)))
    seen = augmentation.view_boxes(torch.cat(list(truth)), windows, config.view.resize, config.view.crop)
    return list(torch.split(seen, counts))


Rule = tuple[float | None, float | None, bool]
"""A threshold or a share to keep, and whether it is the trial's own."""


def _rules(config: TrialConfig) -> list[Rule]:
    keep = config.confidence.keep
    taus = TAUS if keep is not None else sorted({*TAUS, config.tau})
    shares = SHARES if keep is None else sorted({*SHARES, keep})
    return [
        *((tau, None, keep is None and tau == config.tau) for tau in taus),
        *((None, share, share == keep) for share in shares),
    ]


def _rows(views: str, scores: Tensor, ious: Tensor, rules: Sequence[Rule]) -> Iterator[SelectionRow]:
    """One row a rule; a share is of all the boxes at once, where Eq. 6 takes it of every batch."""
    if not len(scores):
        return
    auc = metrics.ranking_auc(scores, ious >= HIT_IOU)
    for tau, keep, own in rules:
        chosen = best_share(scores, keep) if keep is not None else high_quality(scores, 0.0 if tau is None else tau)
        found = metrics.selection(chosen, ious)
        yield SelectionRow(tau, found.selected, found.gt_known, len(scores), views, keep, auc, own)
