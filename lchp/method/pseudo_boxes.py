"""Algorithm 1: pseudo boxes from a classifier's maps, for a whole batch, on its device, without a host synchronisation
(but for the option of the largest component).

Shapes: n images, c map channels, (h, w) pixels. Views are square. What the paper leaves open follows the method notes,
rows 1-6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lchp.method import boxes
from lchp.method.components import largest_component

Normalization = Literal["min_max", "max"]
Component = Literal["all", "largest"]
"""Which of the foreground a box holds: all of it (method notes 4), or its largest 8-connected component."""

_FLAT = 1e-6
"""A map whose range is at most this share of its largest magnitude is constant: what varies is float32 rounding."""


class PseudoBoxes(NamedTuple):
    """What Algorithm 1 makes of n images of side s; boxes are corners in [0, 1] of the view (``lchp.method.boxes``)."""

    region: Tensor
    """L_r, (n, 4): the discriminative region of the raw images."""
    masked: Tensor
    """I_m, (n, 3, s, s): the raw images with L_r set to 0, in the type of the images."""
    masked_region: Tensor
    """L_m, (n, 4): the discriminative region of the masked images."""
    merged: Tensor
    """y_r, (n, 4): the pseudo boxes, the smallest rectangles that hold L_r and L_m."""


def activation(maps: Tensor, size: int, normalization: Normalization) -> Tensor:
    """Algorithm 1, line 2: the activation A at input resolution, float32, shape (n, size, size).

    ``maps`` (n, c, h, w) of any floating type are averaged over channels, upsampled bilinearly to ``size`` pixels a
    side (method notes 3) and then scaled per image (method notes 1): ``min_max`` to [0, 1], a constant map to zeros;
    ``max`` divides by the largest value, at most 1 and possibly negative, a map without a positive value to zeros.
    """
    mean = maps.mean(1, keepdim=True, dtype=torch.float32)
    upsampled = functional.interpolate(mean, size=(size, size), mode="bilinear", align_corners=False).squeeze(1)
    highest = upsampled.amax((1, 2), keepdim=True)
    if normalization == "max":
        scale, shifted, usable = highest, upsampled, highest > 0
    else:
        lowest = upsampled.amin((1, 2), keepdim=True)
        scale, shifted = highest - lowest, upsampled - lowest
        usable = scale > _FLAT * torch.maximum(highest.abs(), lowest.abs())
    scaled = shifted / torch.where(usable, scale, torch.ones_like(scale))
    return torch.where(usable, scaled, torch.zeros_like(scaled))


def tightest_box(mask: Tensor) -> Tensor:
    """Algorithm 1, line 4: the smallest rectangle that holds every foreground pixel of ``mask`` (n, h, w) bool.

    The result is (n, 4) float32. No connected components (method notes 4). Without foreground it is the whole view.
    """
    x1, x2 = _ends(mask.any(1))
    y1, y2 = _ends(mask.any(2))
    found = torch.stack([x1, y1, x2, y2], -1)
    return torch.where(mask.any(2).any(1, keepdim=True), found, boxes.whole_view(mask.shape[0], found))


def _ends(line: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last true cell of each row of ``line`` (n, s), as fractions of s: (n,) float32 each."""
    size = line.shape[1]
    cell = torch.arange(size, device=line.device, dtype=torch.float32)
    first = torch.where(line, cell, size).amin(1)
    last = torch.where(line, cell + 1, 0).amax(1)
    return first / size, last / size


def mask_out(images: Tensor, regions: Tensor) -> Tensor:
    """Algorithm 1, line 5: ``images`` (n, 3, h, w) with the pixels whose centres lie in ``regions`` (n, 4) set to 0.

    The images are normalised, so that 0 is the mean colour (method notes 6). The result is a new tensor of their type.
    """
    height, width = images.shape[-2:]
    x = (torch.arange(width, device=images.device) + 0.5) / width
    y = (torch.arange(height, device=images.device) + 0.5) / height
    x1, y1, x2, y2 = regions.unsqueeze(-1).unbind(1)
    columns = (x >= x1) & (x < x2)
    rows = (y >= y1) & (y < y2)
    return images.masked_fill((rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), 0)


@torch.no_grad()
def pseudo_boxes(
    maps_of: Callable[[Tensor], Tensor],
    images: Tensor,
    delta: float,
    normalization: Normalization,
    component: Component = "all",
) -> PseudoBoxes:
    """Algorithm 1: the pseudo boxes of ``images`` (n, 3, s, s), two passes and their union. No gradient flows.

    ``maps_of`` gives the maps (n, c, h, w) of a batch of images. Foreground is A > ``delta``, in [0, 1] (paper: 0.7).
    """
    region = single_boxes(maps_of, images, delta, normalization, component)
    masked = mask_out(images, region)
    masked_region = single_boxes(maps_of, masked, delta, normalization, component)
    return PseudoBoxes(region, masked, masked_region, boxes.union(region, masked_region))


@torch.no_grad()
def single_boxes(
    maps_of: Callable[[Tensor], Tensor],
    images: Tensor,
    delta: float,
    normalization: Normalization,
    component: Component = "all",
) -> Tensor:
    """Algorithm 1, lines 1 to 4: L_r alone, (n, 4), as pseudo boxes without the mask pass, its ablation.

    Arguments as in :func:`pseudo_boxes`. The masked images of Eq. 1 are ``mask_out(images, boxes)``.
    """
    size = images.shape[-1]
    assert images.shape[-2] == size, "views are square"
    foreground = activation(maps_of(images), size, normalization) > delta
    return tightest_box(largest_component(foreground) if component == "largest" else foreground)
