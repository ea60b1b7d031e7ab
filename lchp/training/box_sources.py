"""Where pseudo boxes come from: built once from the configuration, used by the stages, the evaluation and the cost.

Live sources (``mask``, ``single``, ``evidence``) read boxes off the momentum network's maps, view by view. Fixed
sources give one box for each whole image, made before training by a frozen network or read from a file; a view's box is
then the part of it that the view shows, and the row Pseudo Label is measured with the boxes as they are.

Whatever the source, the masked images of Eq. 1 keep their meaning: what is masked is the most discriminative region L_r
that the momentum network sees in the raw view (Algorithm 1, lines 2 to 5), never a box of the whole object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from lchp.data.given_boxes import read_given_boxes
from lchp.method.networks import BapClassifier
from lchp.method.pseudo_boxes import Reading, mask_out, pseudo_boxes, single_boxes
from lchp.training.config import TrialConfig
from lchp.training.frozen import frozen_boxes, reading_of
from lchp.training.loop import maps_context
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


class LiveBoxes(NamedTuple):
    """What the momentum network gives for n views of side s."""

    boxes: Tensor
    """(n, 4): the pseudo boxes, corners in the view."""
    masked: Tensor
    """(n, 3, s, s): the views without their most discriminative region L_r, for Eq. 1."""


def fixed_boxes(config: TrialConfig, material: Material) -> FixedBoxes | None:
    """The boxes of a fixed source for every split of ``material``; None of a live source.

    Raises:
        ValueError: the file of boxes, or the weights of the frozen network, cannot be used; names what, and the remedy.
    """
    if not config.pseudo_boxes.fixed:
        return None
    if config.pseudo_boxes.frozen:
        return FixedBoxes(frozen_boxes(config, material))
    assert config.pseudo_boxes.file is not None, "a configuration with the source `file` names it"
    given = read_given_boxes(config.pseudo_boxes.file, material.dataset)
    sources = {split.name: split.source for split in (material.train_split, *material.measured)}
    return FixedBoxes(
        {
            name: torch.stack([torch.from_numpy(given[path]) for path in source.records.paths])
            for name, source in sources.items()
            if all(path in given for path in source.records.paths)
        }
    )


def live_boxes(
    config: TrialConfig, network: BapClassifier, views: Tensor, labels: Tensor, features: Tensor | None = None
) -> LiveBoxes:
    """What a live source makes of views (n, 3, s, s) with labels (n,), by the maps of ``network``; of a fixed source
    the masked images of Eq. 1 alone count.

    ``features`` are those of the views by the network's trunk, where they are known. No gradient flows. Without host
    synchronisation, but for the largest component, which is found on the CPU.

    Under ``compute.precision: bf16`` the maps are computed in fp32 all the same, unless ``compute.maps_precision`` says
    bf16, because bf16 moves boxes. What it costs: the two passes of Algorithm 1 are a sixth of the arithmetic of a step
    of initialization (43.8 of 253.7 GFLOP with InceptionV3 at 448 px), and that part no longer gains by bf16.
    """
    with maps_context(config.compute, views.device.type):
        known = network.trunk(views) if features is None else features

        def trunk(images: Tensor) -> Tensor:
            return known if images is views else network.trunk(images)

        if config.pseudo_boxes.source in ("mask", "single"):
            return _by_algorithm_1(config, network, trunk, views, labels)
        return _by_evidence(config, network, trunk, views, labels)


def _by_algorithm_1(
    config: TrialConfig, network: BapClassifier, trunk: Callable[[Tensor], Tensor], views: Tensor, labels: Tensor
) -> LiveBoxes:
    options, reading = config.pseudo_boxes, reading_of(config, config.classifier)

    def maps(images: Tensor) -> Tensor:
        features = trunk(images)
        if options.maps == "cam":
            return network.class_activation(features, labels)
        return network.maps(features, options.maps)

    if options.source == "mask":
        found = pseudo_boxes(maps, views, config.delta, reading)
        return LiveBoxes(found.merged, found.masked)
    region = single_boxes(maps, views, config.delta, reading)
    return LiveBoxes(region, mask_out(views, region))


def _by_evidence(
    config: TrialConfig, network: BapClassifier, trunk: Callable[[Tensor], Tensor], views: Tensor, labels: Tensor
) -> LiveBoxes:
    """The boxes of ``evidence``, and those images that it and fixed sources mask: L_r as the paper has it, off the same
    pass of the network.
    """
    options = config.pseudo_boxes
    shown = network.maps(trunk(views), "attention" if options.maps == "attention" else "features")
    region = single_boxes(lambda _: shown, views, config.delta, Reading(options.normalization))
    masked = mask_out(views, region)
    if options.fixed:
        return LiveBoxes(region, masked)

    def evidence(images: Tensor) -> Tensor:
        return network.class_evidence(trunk(images), labels)

    reading = replace(reading_of(config, config.classifier), normalization="max")
    return LiveBoxes(single_boxes(evidence, views, options.threshold, reading), masked)
