"""The paper's Figure 1 for one image: what Algorithm 1 makes of it with the momentum network of a finished run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lchp.data.loader import decode, resized
from lchp.method.augmentation import IMAGENET_MEAN, IMAGENET_STD
from lchp.method.networks import BapClassifier
from lchp.method.pseudo_boxes import PseudoBoxes, activation, pseudo_boxes
from lchp.reporting.predictions import draw_panels
from lchp.store.folder import StageFolder
from lchp.study.run.found import found_run
from lchp.training.config import TrialConfig
from lchp.training.evaluation import evaluation_view
from lchp.training.frozen import reading_of
from lchp.training.identity import stored_config
from lchp.training.initialization import stored_classifier


@dataclass(frozen=True)
class Steps:
    """Algorithm 1 on one view of side s: the view (3, s, s), normalised, A (s, s) in [0, 1], and what follows from it,
    of a batch of one.
    """

    view: Tensor
    activation: Tensor
    found: PseudoBoxes


def steps_of(config: TrialConfig, network: BapClassifier, image: Tensor) -> Steps:
    """The steps for an image (3, h, w), uint8; class activation is that of the likeliest class."""
    views = evaluation_view(resized(image, config.view.resize)[None], config.view)
    reading, which = reading_of(config, config.classifier), config.pseudo_boxes.maps
    with torch.inference_mode():
        label = network(views).logits.argmax(1)

        def maps(shown: Tensor) -> Tensor:
            features = network.trunk(shown)
            return network.class_activation(features, label) if which == "cam" else network.maps(features, which)

        return Steps(views[0], activation(maps, views, reading)[0], pseudo_boxes(maps, views, config.delta, reading))


def draw_steps(word: str, output: Path, image: Path, out: Path) -> None:
    """Draw an image file's view, A, the region L_r, the masked image I_m with L_m, and the merged box, side by side.

    Args:
        word: the run, as of ``comparison.found_run``.

    Raises:
        Refusal: there is no such run.
        ValueError: its boxes are not Algorithm 1's, its networks are gone, or the image does not decode.
    """
    entry, store = found_run(word, output)
    config = stored_config(StageFolder(store / entry.folder).config())
    if config.pseudo_boxes.source != "mask":
        raise ValueError(
            f"pseudo_boxes.source = {config.pseudo_boxes.source}: the boxes of {entry.name} are not those of "
            "Algorithm 1: choose a run with the source mask"
        )
    if entry.initialization is None or not StageFolder(store / entry.initialization).done:
        raise ValueError(f"{entry.name}: its initialization is not in {store} any more: run the study again")
    weights = StageFolder(store / entry.initialization).networks()["momentum"]
    network = stored_classifier(config, weights["head.weight"].shape[0], weights)
    steps = steps_of(config, network, decode(image))
    found, shown, masked = steps.found, _picture(steps.view), _picture(steps.found.masked[0])
    heat = Image.fromarray((255 * steps.activation).round().to(torch.uint8).numpy())
    region, second, merged = (tuple(boxes[0].tolist()) for boxes in (found.region, found.masked_region, found.merged))
    draw_panels(
        [("image", shown, ()), ("A", heat, ()), ("L_r", shown, (region,)), ("I_m, L_m", masked, (second,)),
         ("merged", shown, (merged,))],
        out,
    )  # fmt: skip


def _picture(view: Tensor) -> Image.Image:
    """A normalised view (3, s, s) as a photograph; what is masked has the mean colour."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = (255 * (view * std + mean)).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())
