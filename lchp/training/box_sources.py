"""Where pseudo boxes come from: built once from the configuration, used by the stages, the evaluation and the cost.

The live source, ``mask``, reads boxes off the momentum network's maps, view by view. Fixed sources give one
box for each whole image, made before training; a view's box is then the part of it
that the view shows, and the row Pseudo Label is measured with the boxes as they are.

With either, the masked images of Eq. 1 keep their meaning: what is masked is the most discriminative region L_r that
the momentum network sees in the raw view (Algorithm 1, lines 2 to 5), never the box that the regressor learns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lchp.data.given_boxes import read_given_boxes
from lchp.method.networks import BapClassifier
from lchp.method.pseudo_boxes import PseudoBoxes, pseudo_boxes
from lchp.training.config import TrialConfig
from lchp.training.material import Material, Split
from lchp.vocabulary import TRAIN


@dataclass(frozen=True)
class FixedBoxes:
    """Boxes that were made before training, by image: (n, 4) corners in [0, 1] of whole images, by a split's name.

    A split that lacks one for any of its images, as a file may, is absent; ``train`` never is.
    """

    by_split: Mapping[str, Tensor]

    @property
    def train(self) -> Tensor:
        """Those of the training images, in their order: (n, 4) float32."""
        return self.by_split[TRAIN].float()

    def of(self, split: Split) -> Tensor | None:
        """Those of a split's images, in their order: (n, 4); None where some have none."""
        return self.by_split.get(split.name)


def fixed_boxes(config: TrialConfig, material: Material) -> FixedBoxes | None:
    """The boxes of a fixed source for every split of ``material``; None of a live source.

    Raises:
        ValueError: the file of boxes cannot be used; names what, and the remedy.
    """
    if not config.pseudo_boxes.fixed:
        return None
    assert config.pseudo_boxes.file is not None, "a configuration with the source `file` names it"
    given = read_given_boxes(config.pseudo_boxes.file, material.dataset)
    sources = {split.name: split.source for split in (material.train_split, *material.measured)}
    return FixedBoxes(
        {
            name: torch.stack([torch.from_numpy(given[record.path]) for record in source.records])
            for name, source in sources.items()
            if all(record.path in given for record in source.records)
        }
    )


def live_boxes(config: TrialConfig, network: BapClassifier, views: Tensor, labels: Tensor) -> PseudoBoxes:
    """What Algorithm 1, or its ablation, makes of views (n, 3, s, s) with labels (n,), by the maps of ``network``.

    Without host synchronisation; no gradient flows.
    """
    options = config.pseudo_boxes
    return pseudo_boxes(lambda images: network.maps(images, options.maps), views, config.delta, options.normalization)
