"""The view of an image that is evaluated, and the way back from it to the whole image (method notes 18)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lchp.method import augmentation

How = Literal["whole", "centre_crop"]


def view_of(images: Tensor, resize: int, crop: int, how: How) -> Tensor:
    """uint8 images (n, 3, resize, resize) as the normalised views (n, 3, crop, crop) that are evaluated."""
    if how == "centre_crop":
        start = (resize - crop) // 2
        return augmentation.normalise(images[:, :, start : start + crop, start : start + crop])
    if resize == crop:
        return augmentation.normalise(images)
    sized = torch.nn.functional.interpolate(
        images.float(), size=(crop, crop), mode="bilinear", align_corners=False, antialias=True
    )
    return augmentation.normalise(sized.round().clamp(0, 255).to(torch.uint8))


def whole_of(found: Tensor, resize: int, crop: int, how: How) -> Tensor:
    """Boxes of the evaluated view as boxes of the whole image, (n, 4)."""
    if how == "whole":
        return found
    start = (resize - crop) // 2
    return (found * crop + start) / resize
