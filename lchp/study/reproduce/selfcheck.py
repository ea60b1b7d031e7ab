"""Whether the stored files of a trial agree with each other: every box with its IoU, and the rows with the scores."""

from __future__ import annotations

from collections.abc import Mapping

from lchp.data.records import PixelBoxes
from lchp.store.per_image import IOU, TOP1, TOP5, box_iou, box_of
from lchp.vocabulary import (
    BOX_ACCURACIES,
    GT_KNOWN,
    MEAN_BOX_ACC,
    MEAN_IOU,
    METRICS,
    TOP1_CLS,
    TOP1_LOC,
    TOP5_LOC,
    Score,
)

Rows = dict[tuple[str, ...], dict[str, str]]
"""The rows of per_image.csv by path, split and method."""

IOU_TOLERANCE = 1e-6
"""IoUs are measured on shares of the image's sides and recomputed from pixels."""

SCORE_TOLERANCE = 1e-9
"""Scores are means, here summed in another order."""

_NAMED = 20
_HITS = {name: metric.iou for name, metric in METRICS.items() if metric.iou is not None}


def contradicting(rows: Rows, scores: Mapping[str, float], true_boxes: PixelBoxes | None) -> list[str]:
    """One line for every stored box whose IoU is not the one written beside it, and for every score that the rows do
    not give. ``true_boxes`` are in pixels, clipped to their images; without them IoUs are taken as written.
    """
    wrong = []
    for key, row in rows.items():
        truth = (true_boxes or {}).get(key[0])
        if truth and row[IOU]:
            found = max(box_iou(box_of(row), box) for box in truth)
            if abs(found - float(row[IOU])) > IOU_TOLERANCE:
                wrong.append(f"stored box {' '.join(key)}: its IoU is {found:.6f}, per_image.csv says {row[IOU]}")
    wrong = wrong[:_NAMED] + ([f"... and {len(wrong) - _NAMED} more stored boxes"] if len(wrong) > _NAMED else [])
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for (_, split, method), row in rows.items():
        groups.setdefault((method, split), []).append(row)
    for (method, split), of_group in groups.items():
        for metric, value in _scores(of_group).items():
            score = Score(method, split, metric).key
            kept = scores.get(score)
            if kept is not None and abs(kept - value) > SCORE_TOLERANCE:
                wrong.append(f"stored score {score}: scores.json says {kept}, per_image.csv gives {value}")
    return wrong


def _scores(rows: list[dict[str, str]]) -> dict[str, float]:
    """The metrics of paper 4.2 over the rows of one method and split (``lchp.method.metrics``, from text)."""
    top1, top5 = ([row[name] == "1" for row in rows] for name in (TOP1, TOP5))
    scores = {TOP1_CLS: _mean(top1)}
    rows = [row for row in rows if row[IOU]]
    if rows:
        # As measured: localization counts the images that have a true box, classification all of them.
        top1, top5 = ([row[name] == "1" for row in rows] for name in (TOP1, TOP5))
        ious = [float(row[IOU]) for row in rows]
        hits = {name: [iou >= least for iou in ious] for name, least in _HITS.items()}
        scores |= {name: _mean(hit) for name, hit in hits.items()}
        scores[MEAN_IOU] = _mean(ious)
        scores[MEAN_BOX_ACC] = _mean([scores[name] for name in BOX_ACCURACIES])
        for name, top in ((TOP1_LOC, top1), (TOP5_LOC, top5)):
            scores[name] = _mean([hit and right for hit, right in zip(hits[GT_KNOWN], top, strict=True)])
    return scores


def _mean(values: list[bool] | list[float]) -> float:
    return sum(values) / len(values)
