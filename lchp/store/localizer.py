"""The networks of a model at work: images in, a box and a class for each out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from lchp.data.evaluated import How, view_of, whole_of
from lchp.data.loader import decode, resized
from lchp.data.records import PixelBox
from lchp.method import boxes
from lchp.method.networks import BapClassifier, BoxFormat, BoxRegressor, RegressorDesign, as_corners
from lchp.store.model import Model
from lchp.store.placement import place


@dataclass(frozen=True)
class Seen:
    """An image as the networks look at it: resized, uint8 (3, resize, resize), and its own size in pixels."""

    pixels: Tensor
    width: int
    height: int


@dataclass(frozen=True)
class Found:
    """What the networks say of an image: the box in its pixels, the index of the likeliest class and the probability of
    that, in [0, 1].
    """

    box: PixelBox
    label: int
    confidence: float
    width: int
    height: int


class Localizer:
    """The networks of a model on a device.

    Answers to all images of a split in their order are those of per_image.csv to the bit, on the processor on which the
    trial was trained; among other images they may differ in the last bits.
    """

    def __init__(self, model: Model, device: str = "cpu") -> None:
        """ValueError where the weights are not those of the networks that the model names, or not finite."""
        self.model, self.device = model, device
        design = model.design
        try:
            classes = model.classifier["head.weight"].shape[0]
            with torch.device("meta"):
                regressor = BoxRegressor(
                    design.backbone, self._format, RegressorDesign(**design.regressor), design.crop
                )
                classifier = BapClassifier(design.classifier, classes, design.attention_maps, design.bap_scale)
            self._regressor = self._placed(regressor, model.regressor)
            self._classifier = self._placed(classifier, model.classifier)
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"the model's networks are none that this version knows ({reason})") from error
        if model.classes is not None and len(model.classes) != classes:
            raise ValueError(f"the model names {len(model.classes)} classes, and its classifier has {classes}")

    @property
    def _format(self) -> BoxFormat:
        return cast(BoxFormat, self.model.design.box_format)

    @property
    def batch_size(self) -> int:
        """How many images are looked at at once: as when the trial was measured, since the last bits depend on it."""
        return self.model.design.batch_size

    def seen(self, image: object) -> Seen:
        """An image, a path or an RGB array (height, width, 3) of uint8, as the networks look at it.

        Raises:
            ValueError: it does not decode, or is neither.
        """
        return self.resized(pixels_of(image))

    def resized(self, pixels: Tensor) -> Seen:
        """An image, uint8 (3, height, width), as the networks look at it."""
        height, width = pixels.shape[1:]
        return Seen(resized(pixels, self.model.design.resize), width, height)

    def answers(self, images: Iterable[object]) -> Iterator[Found]:
        """What the networks say of images (as :meth:`seen`), in their order."""
        rest = map(self.seen, images)
        while batch := list(islice(rest, self.batch_size)):
            yield from self.look(batch)

    def look(self, batch: Sequence[Seen]) -> list[Found]:
        """What the networks say of a batch."""
        design = self.model.design
        frame = (design.resize, design.crop, cast(How, design.evaluation))
        with torch.inference_mode(), self._as_trained():
            views = view_of(torch.stack([image.pixels for image in batch]).to(self.device), *frame)
            logits = self._classifier(views).logits.float()
            raw = self._regressor(views).float()
            found = whole_of(boxes.clip(as_corners(raw, self._format)).cpu(), *frame).double()
            probabilities, labels = logits.softmax(1).max(1)
        several = zip(batch, found.tolist(), labels.tolist(), probabilities.tolist(), strict=True)
        return [
            Found(
                (x1 * image.width, y1 * image.height, x2 * image.width, y2 * image.height),
                label, probability, image.width, image.height,
            )
            for image, (x1, y1, x2, y2), label, probability in several
        ]  # fmt: skip

    def _placed(self, network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
        network.load_state_dict(weights, assign=True)
        for name, tensor in weights.items():
            if not bool(tensor.isfinite().all()):
                raise ValueError(f"the weight {name} of the model holds numbers that are not finite")
        place(network, self.model.design, self.device)
        return network.eval().requires_grad_(False)

    @contextmanager
    def _as_trained(self) -> Iterator[None]:
        """The precision, the number of threads and the algorithms of the trial, on which the last bits depend."""
        design, kind = self.model.design, torch.device(self.device).type
        threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        torch.set_num_threads(design.cpu_threads)
        if kind == "cuda" and design.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
        try:
            with torch.autocast(kind, torch.bfloat16, design.precision == "bf16", cache_enabled=False):
                yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic)


def pixels_of(image: object) -> Tensor:
    """An image, a path or an RGB array (height, width, 3) of uint8, as uint8 (3, height, width).

    Raises:
        ValueError: it does not decode, or is neither.
    """
    if isinstance(image, str | Path):
        return decode(Path(image))
    if (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and image.size
    ):
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    shape = f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}".strip()
    raise ValueError(f"{shape}: is no image: give a path, or an RGB array (height, width, 3) of uint8")
