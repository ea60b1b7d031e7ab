"""How sure one is of a box, and which boxes are taken for it: built once from the configuration, for refinement's step
and for everything that measures it.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lchp.method.boxes import scaled
from lchp.method.confidence import best_share, contrast, crop, equivariance, high_quality, max_softmax
from lchp.method.networks import BapClassifier
from lchp.training.config import TrialConfig

Localize = Callable[[Tensor], Tensor]
"""Normalised views (n, 3, s, s) to the boxes (n, 4) that are judged: corners in those views."""


class Confidence:
    """The configured score and selection; functions of tensors without host synchronisation."""

    def __init__(self, config: TrialConfig, classifier: BapClassifier) -> None:
        """``classifier`` judges crops in the mode in which it is when it is asked: evaluation, for what is trained."""
        self.options, self.tau, self.classifier = config.confidence, config.tau, classifier
        self._score = SCORES[config.confidence.score]

    def score(self, views: Tensor, boxes: Tensor, labels: Tensor, localize: Localize) -> Tensor:
        """How sure one is of the boxes (n, 4) of normalised views (n, 3, s, s) with these training labels (n,): (n,)
        float32, the higher the surer. ``localize`` is who gave the boxes; asking it again must leave it as it was.
        """
        return self._score(self, views, boxes, labels, localize)

    def selected(self, scores: Tensor) -> Tensor:
        """Eq. 6's indicator for the scores (n,) of a batch: those above tau, or its best share; (n,) bool."""
        keep = self.options.keep
        return high_quality(scores, self.tau) if keep is None else best_share(scores, keep)

    def _of_crop(self, views: Tensor, boxes: Tensor, labels: Tensor, localize: Localize) -> Tensor:
        return max_softmax(self.classifier(crop(views, boxes)).logits)

    def _of_rim(self, views: Tensor, boxes: Tensor, labels: Tensor, localize: Localize) -> Tensor:
        inner = scaled(boxes, self.options.shrink)
        return contrast(self.classifier(crop(views, boxes)).logits, self.classifier(crop(views, inner)).logits, labels)

    def _of_mirror(self, views: Tensor, boxes: Tensor, labels: Tensor, localize: Localize) -> Tensor:
        return equivariance(boxes, localize(views.flip(-1)))


SCORES: dict[str, Callable[[Confidence, Tensor, Tensor, Tensor, Localize], Tensor]] = {
    "max_softmax": Confidence._of_crop,
    "contrast": Confidence._of_rim,
    "equivariance": Confidence._of_mirror,
}
"""By the name that ``confidence.score`` has."""
