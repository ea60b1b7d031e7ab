"""Measuring networks on a split: predicted boxes, the paper's metrics (4.2), the floors, and the selection of Table 4.

The only part of training that sees true boxes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lchp.data.config import ViewConfig
from lchp.data.loader import ImageSource, image_size
from lchp.data.records import TrueBoxes
from lchp.method import augmentation, boxes, metrics
from lchp.method.confidence import confidence, crop
from lchp.method.networks import BapClassifier, BoxRegressor, as_corners
from lchp.method.pseudo_boxes import pseudo_boxes
from lchp.training.config import TrialConfig
from lchp.training.loop import autocast

PER_IMAGE_COLUMNS = ("path", "label", "split", "method", "x1", "y1", "x2", "y2", "iou", "top1", "top5")
TAUS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The thresholds of Table 4."""

Predict = Callable[[Tensor], Tensor]
"""Normalised views (n, 3, s, s) to corner boxes (n, 4) in those views."""


@dataclass(frozen=True)
class Split:
    """A split to measure on: its images and, where known, its true boxes in the whole image."""

    name: str
    source: ImageSource
    true_boxes: TrueBoxes | None


@dataclass(frozen=True)
class Measured:
    """Scores by ``<method>/<split>/<metric>``, and one row an image in the order of PER_IMAGE_COLUMNS."""

    scores: dict[str, float] = field(default_factory=dict)
    rows: list[tuple[object, ...]] = field(default_factory=list)

    def add(self, other: Measured) -> None:
        """Takes over the scores and rows of another measurement."""
        self.scores.update(other.scores)
        self.rows.extend(other.rows)

    def per_image_csv(self) -> str:
        """The rows as CSV; floats with all their digits, unknown values empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(PER_IMAGE_COLUMNS)
        writer.writerows(self.rows)
        return text.getvalue()

    @classmethod
    def read(cls, scores: dict[str, float], per_image_csv: str) -> Measured:
        """What :meth:`per_image_csv` wrote, beside its scores; the rows hold text, and write to the same text again."""
        rows = list(csv.reader(io.StringIO(per_image_csv)))[1:]
        return cls(scores, [tuple(row) for row in rows])


class Evaluator:
    """Measures networks in one configuration's view, batch size and precision."""

    def __init__(self, config: TrialConfig, device: str, workers: int) -> None:
        self.config = config
        self.device = device
        self.workers = workers

    def views(self, source: ImageSource, predict: Predict) -> Tensor:
        """``predict`` over all images of a source in order, gathered on the CPU in float32.

        Raises:
            FloatingPointError: a value is not finite; names the image.
        """
        order, batch_size = torch.arange(len(source)), self.config.evaluation.batch_size
        gathered = []
        with torch.inference_mode(), autocast(self.config.compute, self.device):
            for images, _, _ in source.batches(order, batch_size, drop_last=False, workers=self.workers):
                views = evaluation_view(images.to(self.device, non_blocking=True), self.config.view)
                gathered.append(predict(views).float().cpu())
        found = torch.cat(gathered)
        broken = (~found.isfinite().all(1)).nonzero()
        if len(broken):
            path = source.records[int(broken[0, 0])].path
            raise FloatingPointError(f"the networks' answer to {path} is not finite: lower the learning rate")
        return found

    def pseudo_label(self, classifier: BapClassifier) -> Predict:
        """Algorithm 1 with ``classifier``, whose mode is set to evaluation."""
        classifier.eval()
        options = self.config.pseudo_boxes
        return lambda views: (
            pseudo_boxes(
                lambda images: classifier.maps(images, options.maps), views, self.config.delta, options.normalization
            ).merged
        )

    def regressed(self, regressor: BoxRegressor) -> Predict:
        """The boxes of ``regressor``, whose mode is set to evaluation, clipped to the view."""
        regressor.eval()
        return lambda views: boxes.clip(as_corners(regressor(views).float(), self.config.box_format))

    def logits(self, classifier: BapClassifier, source: ImageSource) -> Tensor:
        """Class logits of the whole view, (n, classes) (method notes 17)."""
        classifier.eval()
        return self.views(source, lambda views: classifier(views).logits)

    def measure(
        self,
        methods: Mapping[str, Predict],
        classifier: BapClassifier,
        splits: list[Split],
        constants: Mapping[str, Tensor] | None = None,
    ) -> Measured:
        """Scores and rows of several methods, and of ``constants`` (one box (4,) of the whole image each), on every
        split. Classes are those of ``classifier``.
        """
        measured = Measured()
        for split in splits:
            logits = self.logits(classifier, split.source)
            for method, predict in methods.items():
                found = in_whole_image(self.views(split.source, predict), self.config.view)
                measured.add(measure_boxes(method, found, split, logits))
            for method, box in (constants or {}).items():
                measured.add(measure_boxes(method, box.expand(len(split.source), 4), split, logits))
        return measured

    def select(self, classifier: BapClassifier, regressor: BoxRegressor, split: Split) -> str | None:
        """Table 4's left half as CSV: how many boxes of the regressor pass each tau, and the GT-Known of those; None
        without boxes.
        """
        regressed = self.regressed(regressor)
        classifier.eval()

        def predict(views: Tensor) -> Tensor:
            found = regressed(views)
            return torch.cat([found, confidence(classifier(crop(views, found)).logits)[:, None]], 1)

        truth = true_boxes_of(split)
        if truth is None:
            return None
        found = self.views(split.source, predict)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("tau", "selected", "gt_known", "total"))
        ious = metrics.best_iou(in_whole_image(found[:, :4], self.config.view), truth)
        for tau, selected, gt_known in metrics.selection(found[:, 4], ious, TAUS):
            writer.writerow((tau, selected, "" if gt_known is None else gt_known, len(found)))
        return text.getvalue()


def evaluation_view(images: Tensor, view: ViewConfig) -> Tensor:
    """Resized uint8 images (n, 3, resize, resize) as the normalised views that are evaluated (method notes 18)."""
    if view.evaluation == "centre_crop":
        start = (view.resize - view.crop) // 2
        return augmentation.normalise(images[:, :, start : start + view.crop, start : start + view.crop])
    if view.resize == view.crop:
        return augmentation.normalise(images)
    sized = torch.nn.functional.interpolate(
        images.float(), size=(view.crop, view.crop), mode="bilinear", align_corners=False, antialias=True
    )
    return augmentation.normalise(sized.round().clamp(0, 255).to(torch.uint8))


def in_whole_image(found: Tensor, view: ViewConfig) -> Tensor:
    """Boxes of the evaluation view as boxes of the whole image, (n, 4)."""
    if view.evaluation == "whole":
        return found
    start = (view.resize - view.crop) // 2
    return (found * view.crop + start) / view.resize


def true_boxes_of(split: Split) -> list[Tensor] | None:
    """The true boxes of every image of a split, in its order; None where none are known for some of them."""
    if split.true_boxes is None:
        return None
    found = [split.true_boxes.get(record.path) for record in split.source.records]
    return None if any(truth is None for truth in found) else [truth for truth in found if truth is not None]


def measure_boxes(method: str, found: Tensor, split: Split, logits: Tensor) -> Measured:
    """Scores and rows for boxes (n, 4) of the whole image. Without true boxes: classification alone, and rows without
    IoU.
    """
    labels, truth, ranked = split.source.labels, true_boxes_of(split), metrics.ranked_classes(logits)
    top1, top5 = metrics.in_top(ranked, labels, 1), metrics.in_top(ranked, labels, 5)
    if truth is None:
        ious, scores = None, {"top1_cls": metrics.accuracy(top1)}
    else:
        ious = metrics.best_iou(found, truth)
        scores = metrics.scores_per_image(ious, top1, top5)
    measured = Measured({f"{method}/{split.name}/{name}": value for name, value in scores.items()})
    for index, record in enumerate(split.source.records):
        width, height = image_size(split.source.root / record.path)
        x1, y1, x2, y2 = found[index].double().tolist()
        iou = "" if ious is None else float(ious[index])
        corners = (x1 * width, y1 * height, x2 * width, y2 * height)
        row = (record.path, record.label, split.name, method, *corners, iou, int(top1[index]), int(top5[index]))
        measured.rows.append(row)
    return measured


def floors(train: Split) -> dict[str, Tensor]:
    """The constant boxes (4,) that any result must beat: the whole image and, where training images have true boxes,
    the best centred box fitted on those.
    """
    found = {"whole_image": boxes.whole_view(1, torch.empty(0))[0]}
    truth = true_boxes_of(train)
    if truth is not None:
        found["centred_box"] = metrics.fit_centred_box(truth)
    return found
