"""The strong augmentation S carried out by imgaug, the paper's library (paper 4.3): the backend ``imgaug``.

Image by image on the CPU, with the numbers of a :class:`~lchp.method.augmentation.StrongDraw`: the reference for the
backend ``batched``. The only module that imports imgaug, and only when :func:`strong` is first called.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lchp.method.augmentation import StrongDraw
from lchp.method.boxes import clip


@cache
def load() -> Any:
    """The package imgaug 0.4.0, its last release; its import reads ``np.sctypes``, which NumPy 2 no longer has."""
    table = {
        "int": [np.int8, np.int16, np.int32, np.int64],
        "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
        "float": [np.float16, np.float32, np.float64, np.longdouble],
    }
    np.sctypes = table  # type: ignore[attr-defined]
    try:
        import imgaug.augmenters
    finally:
        del np.sctypes  # type: ignore[attr-defined]
    return imgaug


def _augmenter(scale: list[float], before: list[int], after: list[int], flipped: list[bool]) -> Any:
    """The imgaug pipeline of one image's draw: scale, crop or pad, flips, each with its drawn value."""
    augmenters = load().augmenters
    sides = (before[1], after[0], after[1], before[0])
    return augmenters.Sequential(
        [
            augmenters.Affine(scale={"x": scale[0], "y": scale[1]}, order=1, cval=0, mode="constant"),
            augmenters.CropAndPad(px=sides, keep_size=True, sample_independently=False),
            augmenters.Fliplr(float(flipped[0])),
            augmenters.Flipud(float(flipped[1])),
        ]
    )


def strong(images: Tensor, boxes: Tensor, draw: StrongDraw) -> tuple[Tensor, Tensor]:
    """S on normalised views (n, channels, size, size) of any float type and their boxes (n, 4), as
    :func:`lchp.method.augmentation.strong`: same meaning, same units, filled with 0, boxes clipped at the end.

    Works on the CPU and gives its results on the devices and in the types of ``images`` and ``boxes``.
    """
    assert images.shape[-2:] == (draw.size, draw.size)
    bounding = load().augmentables.bbs
    parameters = zip(*(field.tolist() for field in (draw.scale, draw.before, draw.after, draw.flipped)), strict=True)
    pictures = images.detach().to("cpu", torch.float32).permute(0, 2, 3, 1).contiguous().numpy()
    corners = (boxes.detach().to("cpu", torch.float64) * draw.size).numpy()
    seen, moved = np.empty_like(pictures), np.empty_like(corners)
    for index, drawn in enumerate(parameters):
        box = bounding.BoundingBoxesOnImage([bounding.BoundingBox(*corners[index])], shape=pictures[index].shape)
        seen[index], result = _augmenter(*drawn)(image=pictures[index], bounding_boxes=box)
        moved[index] = result.to_xyxy_array(dtype=np.float64)[0]
    views = torch.from_numpy(seen).permute(0, 3, 1, 2).contiguous()
    return views.to(images), clip(torch.from_numpy(moved) / draw.size).to(boxes)
