"""Measuring networks on a split: predicted boxes, the paper's metrics (4.2) and the floors.

With ``lchp.training.selection`` the only part of training that sees true boxes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lchp.data.config import ViewConfig
from lchp.data.evaluated import view_of, whole_of
from lchp.data.files import read_json, write_json
from lchp.data.loader import ImageSource
from lchp.data.once import build_once
from lchp.method import boxes, metrics
from lchp.method.networks import BapClassifier, BoxRegressor, as_corners
from lchp.store.per_image import COLUMNS
from lchp.training.box_sources import live_boxes
from lchp.training.config import TrialConfig
from lchp.training.feeding import batches
from lchp.training.loop import autocast
from lchp.training.material import Split
from lchp.vocabulary import CENTRED_BOX, TOP1_CLS, WHOLE_IMAGE, Score

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Normalised views (n, 3, s, s), their labels (n,) and places (n,) in their source to corner boxes (n, 4) in those
views.
"""

Known = Callable[[Split], Tensor | None]
"""The boxes (n, 4), corners in [0, 1] of the whole image, that a method has for the images of a split; None where it
has none for some of them, and is not measured.
"""


@dataclass(frozen=True)
class Looking:
    """A method whose boxes are found by looking at views."""

    predict: Predict


_CLASSES = "classes"
"""The name of the logits among what one pass over a split gives, beside those of methods."""


@dataclass(frozen=True)
class Measured:
    """Scores by ``<method>/<split>/<metric>``, and one row an image in the columns of ``lchp.store.per_image``."""

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
        writer.writerow(COLUMNS)
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
        self._last: tuple[BapClassifier, Tensor, Tensor] | None = None

    def views(self, source: ImageSource, predict: Predict, places: Tensor | None = None) -> Tensor:
        """``predict`` over the images of a source at ``places`` (n,), else over all in order, gathered on the CPU in
        float32.

        Raises:
            FloatingPointError: a value is not finite; names the image.
        """
        return self._views(source, {"": predict}, places)[""]

    def _views(
        self, source: ImageSource, predicts: Mapping[str, Predict], places: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Several of them in one pass: every image is read and normalised once."""
        order = torch.arange(len(source)) if places is None else places
        batch_size = self.config.evaluation.batch_size
        gathered: dict[str, list[Tensor]] = {name: [] for name in predicts}
        with torch.inference_mode(), autocast(self.config.compute, self.device):
            fed = batches(source, order, batch_size, drop_last=False, workers=self.workers, device=self.device)
            for images, labels, at in fed:
                views = evaluation_view(images, self.config.view)
                for name, predict in predicts.items():
                    gathered[name].append(predict(views, labels, at).float())
        self._last = None
        found = {name: torch.cat(parts).cpu() for name, parts in gathered.items()}
        for answers in found.values():
            require_finite(answers, source, order)
        return found

    def _features(self, classifier: BapClassifier, views: Tensor) -> Tensor | None:
        """What the trunk of ``classifier`` made of these very views, if it was asked for their logits just now.

        None where maps have a precision of their own.
        """
        compute = self.config.compute
        if self._last is None or (compute.precision == "bf16" and compute.maps_precision != "bf16"):
            return None
        network, seen, features = self._last
        return features if network is classifier and seen is views else None

    def pseudo_label(self, classifier: BapClassifier) -> Looking:
        """The boxes of a live source by ``classifier``, whose mode is set to evaluation; of ``cam`` the label's."""
        classifier.eval()

        def predict(views: Tensor, labels: Tensor, _: Tensor) -> Tensor:
            return live_boxes(self.config, classifier, views, labels, self._features(classifier, views)).boxes

        return Looking(predict)

    def regressed(self, regressor: BoxRegressor) -> Looking:
        """The boxes of ``regressor``, whose mode is set to evaluation."""
        return Looking(self.localizing(regressor))

    def localizing(self, regressor: BoxRegressor) -> Predict:
        """The boxes of ``regressor``, whose mode is set to evaluation, clipped to the view."""
        regressor.eval()
        return lambda views, *_: boxes.clip(as_corners(regressor(views).float(), self.config.box_format))

    def logits(self, classifier: BapClassifier, source: ImageSource) -> Tensor:
        """Class logits of the whole view, (n, classes) (method notes 17)."""
        return self.views(source, self._classifying(classifier))

    def _classifying(self, classifier: BapClassifier) -> Predict:
        classifier.eval()

        def predict(views: Tensor, *_: Tensor) -> Tensor:
            output = classifier(views)
            self._last = (classifier, views, output.features)
            logits: Tensor = output.logits
            return logits

        return predict

    def measure(
        self,
        methods: Mapping[str, Looking | Known],
        classifier: BapClassifier | None,
        splits: list[Split],
        frozen: dict[str, Tensor] | None = None,
    ) -> Measured:
        """Scores and rows of several methods on every split. Classes are those of ``classifier``; None gives none.

        ``frozen`` keeps the logits of a classifier that does not change, by the split's name: read where they are
        there, added where they are not.
        """
        measured = Measured()
        kept = {} if frozen is None else frozen
        looking = {name: method.predict for name, method in methods.items() if isinstance(method, Looking)}
        for split in splits:
            asked = {} if classifier is None or split.name in kept else {_CLASSES: self._classifying(classifier)}
            answers = self._views(split.source, {**asked, **looking})
            if _CLASSES in answers:
                kept[split.name] = answers[_CLASSES]
            logits = kept.get(split.name)
            for name, method in methods.items():
                if isinstance(method, Looking):
                    found: Tensor | None = in_whole_image(answers[name], self.config.view)
                else:
                    found = method(split)
                if found is not None:
                    measured.add(measure_boxes(name, found, split, logits))
        return measured


def require_finite(found: Tensor, source: ImageSource, places: Tensor) -> None:
    """Answers (n, k) to the images of a source at ``places`` (n,). FloatingPointError names one that is not finite."""
    broken = (~found.isfinite().all(1)).nonzero()
    if len(broken):
        path = source.records[int(places[broken[0, 0]])].path
        raise FloatingPointError(f"the networks' answer to {path} is not finite: lower the learning rate")


def evaluation_view(images: Tensor, view: ViewConfig) -> Tensor:
    """Resized uint8 images (n, 3, resize, resize) as the normalised views that are evaluated (method notes 18)."""
    return view_of(images, view.resize, view.crop, view.evaluation)


def in_whole_image(found: Tensor, view: ViewConfig) -> Tensor:
    """Boxes of the evaluation view as boxes of the whole image, (n, 4)."""
    return whole_of(found, view.resize, view.crop, view.evaluation)


def true_boxes_of(split: Split) -> tuple[Tensor, list[Tensor]]:
    """The places (n,) int64 of the images of a split that have true boxes, ascending, and the boxes (k, 4) of each."""
    if split.true_boxes is None:
        return torch.empty(0, dtype=torch.int64), []
    places = np.flatnonzero(split.true_boxes.counts)
    return torch.from_numpy(places), [torch.from_numpy(boxes) for boxes in split.true_boxes.split()]


def measure_boxes(method: str, found: Tensor, split: Split, logits: Tensor | None) -> Measured:
    """Scores and rows for boxes (n, 4) of the whole image, and classes by ``logits`` (n, classes), where there are any.

    Classification counts all images. Localization, Top-1 and Top-5 localization included, averages over those that have
    true boxes; the rows of the others have no IoU, and a split without any true box has no localization metrics.
    """
    places, truth = true_boxes_of(split)
    scores: dict[str, float] = {}
    known: dict[int, float] = {}
    right: list[tuple[object, object]] = [("", "")] * len(found)
    if truth:
        ious = metrics.best_iou(found[places], truth)
        scores = metrics.localization_scores(ious)
        known = dict(zip(places.tolist(), ious.tolist(), strict=True))
    if logits is not None:
        labels, ranked = split.source.labels, metrics.ranked_classes(logits)
        top1, top5 = metrics.in_top(ranked, labels, 1), metrics.in_top(ranked, labels, 5)
        right = list(zip(top1.int().tolist(), top5.int().tolist(), strict=True))
        if truth:
            scores = metrics.scores_per_image(ious, top1[places], top5[places])
        scores[TOP1_CLS] = metrics.accuracy(top1)
    if truth:
        scores |= metrics.box_bias(found[places], truth)
    measured = Measured({Score(method, split.name, name).key: value for name, value in scores.items()})
    pixels = (found.double() * torch.from_numpy(np.tile(split.sizes, 2).astype(np.float64))).tolist()
    for index, (record, corners) in enumerate(zip(split.source.records, pixels, strict=True)):
        hits = (known.get(index, ""), *right[index])
        measured.rows.append((record.path, record.label, split.name, method, *corners, *hits))
    return measured


def floors(train: Split, kept: Path | None = None) -> dict[str, Known]:
    """The constant boxes that any result must beat: the whole image and the best centred box, fitted on the training
    images that have true boxes, where any has.

    The fit takes minutes on ImageNet: the file ``kept`` holds the box of these very images and true boxes, or will.
    """
    found = {WHOLE_IMAGE: boxes.whole_view(1, torch.empty(0))[0]}
    if train.true_boxes is not None and len(train.true_boxes.corners):
        if kept is None:
            found[CENTRED_BOX] = _fitted(train)
        else:
            build_once(kept, lambda part: write_json(part, _fitted(train).tolist()), _fault_of_box)
            found[CENTRED_BOX] = torch.tensor(read_json(kept), dtype=torch.float64)
    return {method: _constant(box) for method, box in found.items()}


def _fitted(train: Split) -> Tensor:
    return metrics.fit_centred_box(true_boxes_of(train)[1])


def _fault_of_box(file: Path) -> str | None:
    try:
        found = read_json(file)
    except ValueError as error:
        return str(error)
    is_box = isinstance(found, list) and len(found) == 4 and all(isinstance(value, float) for value in found)
    return None if is_box else "it holds no box"


def _constant(box: Tensor) -> Known:
    return lambda split: box.expand(len(split.source), 4)
