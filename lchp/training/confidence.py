"""How sure one is of a box, and which boxes are taken for it: built once from the configuration, for refinement's step
and for everything that measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lchp.method.boxes import scaled
from lchp.method.confidence import (
    best_share,
    contrast,
    crop,
    equivariance,
    high_quality,
    max_softmax,
    out_of_fold,
)
from lchp.method.networks import BapClassifier
from lchp.training.config import TrialConfig
from lchp.vocabulary import OUT_OF_FOLD

Localize = Callable[[Tensor], Tensor]
"""Normalised views (n, 3, s, s) to the boxes (n, 4) that are judged: corners in those views."""


@dataclass(frozen=True)
class FoldJudges:
    """Frozen classifiers on one device, each trained on all folds of the training images but its own."""

    classifiers: Sequence[BapClassifier]
    """By the fold that they have not seen."""
    folds: Tensor
    """(n,) int64: of every training image, by its place; on the device."""
    temperature: float
    """By which the logits of all are divided."""


class Confidence:
    """The configured score and selection; functions of tensors without host synchronisation."""

    def __init__(self, config: TrialConfig, classifier: BapClassifier, judges: FoldJudges | None = None) -> None:
        """``classifier`` judges crops in the mode in which it is when it is asked: evaluation, for what is trained.
        The score ``out_of_fold`` asks ``judges`` in its place.
        """
        self.options, self.tau, self.classifier = config.confidence, config.tau, classifier
        self.judges = judges
        self._score = SCORES[config.confidence.score]

    def score(self, views: Tensor, boxes: Tensor, labels: Tensor, places: Tensor | None, localize: Localize) -> Tensor:
        """How sure one is of the boxes (n, 4) of normalised views (n, 3, s, s) with these training labels (n,): (n,)
        float32, the higher the surer.

        ``places`` (n,) int64 are those of the images among the training images; None of images that are none.
        ``localize`` is who gave the boxes; asking it again must leave it as it was.
        """
        return self._score(self, views, boxes, labels, places, localize)

    def selected(self, scores: Tensor) -> Tensor:
        """Eq. 6's indicator for the scores (n,) of a batch: those above tau, or its best share; (n,) bool."""
        keep = self.options.keep
        return high_quality(scores, self.tau) if keep is None else best_share(scores, keep)

    def _of_crop(
        self, views: Tensor, boxes: Tensor, labels: Tensor, places: Tensor | None, localize: Localize
    ) -> Tensor:
        return max_softmax(self.classifier(crop(views, boxes)).logits)

    def _of_rim(
        self, views: Tensor, boxes: Tensor, labels: Tensor, places: Tensor | None, localize: Localize
    ) -> Tensor:
        inner = scaled(boxes, self.options.shrink)
        return contrast(self.classifier(crop(views, boxes)).logits, self.classifier(crop(views, inner)).logits, labels)

    def _of_mirror(
        self, views: Tensor, boxes: Tensor, labels: Tensor, places: Tensor | None, localize: Localize
    ) -> Tensor:
        return equivariance(boxes, localize(views.flip(-1)))

    def _of_folds(
        self, views: Tensor, boxes: Tensor, labels: Tensor, places: Tensor | None, localize: Localize
    ) -> Tensor:
        assert self.judges is not None, "they are trained before the first box is judged"
        crops = crop(views, boxes)
        # All judge all, and of a training image one answer counts: groups by fold would have no fixed shapes.
        logits = torch.stack([classifier(crops).logits for classifier in self.judges.classifiers])
        unseen = None if places is None else self.judges.folds[places]
        return out_of_fold(logits, self.judges.temperature, unseen)


SCORES: dict[str, Callable[[Confidence, Tensor, Tensor, Tensor, Tensor | None, Localize], Tensor]] = {
    "max_softmax": Confidence._of_crop,
    "contrast": Confidence._of_rim,
    "equivariance": Confidence._of_mirror,
    OUT_OF_FOLD: Confidence._of_folds,
}
"""By the name that ``confidence.score`` has."""
