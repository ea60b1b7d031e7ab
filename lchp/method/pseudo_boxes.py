"""Algorithm 1: pseudo boxes from a classifier's maps, for a whole batch, on its device, without a host synchronisation
(but for the option of the largest component).

Shapes: n images, c map channels, (h, w) pixels. Views are square. What the paper leaves open follows the method notes,
rows 1-6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lchp.method import boxes
from lchp.method.components import largest_component

Normalization = Literal["min_max", "max"]
Component = Literal["all", "largest"]
Enlargement = Literal["tiled", "centred", "cells"]

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


@dataclass(frozen=True)
class Grid:
    """Where the cells of a trunk's maps lie in its view, along both axes alike."""

    first: float
    """Pixels from the centre of the view's first pixel to the centre of what the first cell sees."""
    stride: int
    """Pixels from cell to cell."""


@dataclass(frozen=True)
class Reading:
    """How regions are read off maps, where the paper is silent (method notes 1, 3, 4)."""

    normalization: Normalization = "min_max"
    component: Component = "all"
    """Which of the foreground a box holds: all of it, or its largest 8-connected component."""
    enlargement: Enlargement = "tiled"
    """``tiled``: bilinear, as if the cells tiled the view; ``centred``: bilinear between the centres of what the cells
    see, as ``grid`` says; ``cells``: every pixel has the value of its tile.
    """
    grid: Grid | None = None
    mirror: bool = False
    """Whether A is the mean of those of the images and of their mirror images, mirrored back."""


PAPER = Reading()
"""The defaults of method notes 1, 3 and 4."""


def enlarged(maps: Tensor, size: int, reading: Reading) -> Tensor:
    """The mean over channels of ``maps`` (n, c, h, w), of any floating type, at ``size`` pixels a side: (n, size, size)
    float32.

    Strided convolutions with padding see more to one side: the cells of a trunk of stride s lie (s - 1) / 2 pixels left
    and above of where ``tiled`` puts them. ``centred`` takes them where they are; beyond the first and last it repeats.
    """
    mean = maps.mean(1, keepdim=True, dtype=torch.float32)
    if reading.enlargement == "tiled":
        return functional.interpolate(mean, size=(size, size), mode="bilinear", align_corners=False).squeeze(1)
    if reading.enlargement == "cells":
        return functional.interpolate(mean, size=(size, size), mode="nearest-exact").squeeze(1)
    assert reading.grid is not None, "cells have their centres by a grid"
    rows, columns = (_between_centres(count, size, reading.grid, mean.device) for count in mean.shape[2:])
    with torch.autocast(mean.device.type, enabled=False):
        return (rows @ mean @ columns.mT).squeeze(1)


def _between_centres(count: int, size: int, grid: Grid, device: torch.device) -> Tensor:
    """What each pixel takes of each cell along one axis, linearly between the cells' centres: (size, count)."""
    place = ((torch.arange(size, device=device) - grid.first) / grid.stride).clamp(0, count - 1)
    cells = torch.arange(count, device=device)
    return (1 - (place.unsqueeze(1) - cells).abs()).clamp(min=0)


def scaled(upsampled: Tensor, normalization: Normalization) -> Tensor:
    """Maps (n, size, size), float32, each scaled by its own values (method notes 1).

    ``min_max`` to [0, 1], a constant map to zeros; ``max`` divides by the largest value, at most 1 and possibly
    negative, a map without a positive value to zeros.
    """
    lowest, highest = upsampled.amin((1, 2)), upsampled.amax((1, 2))
    return _scaled(upsampled.flatten(1), lowest, highest, normalization).reshape(upsampled.shape)


def _scaled(values: Tensor, lowest: Tensor, highest: Tensor, normalization: Normalization) -> Tensor:
    """Values (n, k) of maps, scaled by the lowest and the highest (n,) of their map."""
    lowest, highest = lowest.unsqueeze(1), highest.unsqueeze(1)
    if normalization == "max":
        scale, shifted, usable = highest, values, highest > 0
    else:
        scale, shifted = highest - lowest, values - lowest
        usable = scale > _FLAT * torch.maximum(highest.abs(), lowest.abs())
    quotient = shifted / torch.where(usable, scale, torch.ones_like(scale))
    return torch.where(usable, quotient, torch.zeros_like(quotient))


def activation(maps_of: Callable[[Tensor], Tensor], images: Tensor, reading: Reading) -> Tensor:
    """Algorithm 1, lines 1 and 2: the activation A of ``images`` (n, 3, s, s) at input resolution, float32, (n, s, s).

    The maps are enlarged (method notes 3) before they are scaled.
    """
    return scaled(_seen(maps_of, images, reading), reading.normalization)


def _seen(maps_of: Callable[[Tensor], Tensor], images: Tensor, reading: Reading) -> Tensor:
    """What A is scaled from: the enlarged maps (n, s, s) of images, and of their mirror images where these count."""
    size = images.shape[-1]
    assert images.shape[-2] == size, "views are square"
    values = enlarged(maps_of(images), size, reading)
    if reading.mirror:
        values = (values + enlarged(maps_of(images.flip(-1)), size, reading).flip(-1)) / 2
    return values


def tightest_box(mask: Tensor) -> Tensor:
    """Algorithm 1, line 4: the smallest rectangle that holds every foreground pixel of ``mask`` (n, h, w) bool.

    The result is (n, 4) float32. No connected components (method notes 4). Without foreground it is the whole view.
    """
    return _spanned(mask.any(1), mask.any(2))


def box_of_foreground(upsampled: Tensor, delta: float, normalization: Normalization) -> Tensor:
    """Algorithm 1, lines 2 to 4, for enlarged maps (n, s, s): the box (n, 4) of :func:`tightest_box` where the maps are
    scaled (:func:`scaled`) and the foreground is what exceeds ``delta``; the same bits.

    Scaling rises with the value, rounding included. So a column has foreground if its largest value does, and only
    those are scaled.
    """
    columns, rows = upsampled.amax(1), upsampled.amax(2)
    lowest, highest = upsampled.amin((1, 2)), columns.amax(1)
    over = [_scaled(line, lowest, highest, normalization) > delta for line in (columns, rows)]
    return _spanned(*over)


def _spanned(columns: Tensor, rows: Tensor) -> Tensor:
    """The box (n, 4) from the first to the last true column (n, w) and row (n, h); the whole view where none is."""
    x1, x2 = _ends(columns)
    y1, y2 = _ends(rows)
    found = torch.stack([x1, y1, x2, y2], -1)
    return torch.where(rows.any(1, keepdim=True), found, boxes.whole_view(len(rows), found))


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
    maps_of: Callable[[Tensor], Tensor], images: Tensor, delta: float, reading: Reading = PAPER
) -> PseudoBoxes:
    """Algorithm 1: the pseudo boxes of ``images`` (n, 3, s, s), two passes and their union. No gradient flows.

    ``maps_of`` gives the maps (n, c, h, w) of a batch of images. Foreground is A > ``delta``, in [0, 1] (paper: 0.7).
    """
    region = single_boxes(maps_of, images, delta, reading)
    masked = mask_out(images, region)
    masked_region = single_boxes(maps_of, masked, delta, reading)
    return PseudoBoxes(region, masked, masked_region, boxes.union(region, masked_region))


@torch.no_grad()
def single_boxes(maps_of: Callable[[Tensor], Tensor], images: Tensor, delta: float, reading: Reading = PAPER) -> Tensor:
    """Algorithm 1, lines 1 to 4: L_r alone, (n, 4), as pseudo boxes without the mask pass, its ablation.

    Arguments as in :func:`pseudo_boxes`. The masked images of Eq. 1 are ``mask_out(images, boxes)``.
    """
    values = _seen(maps_of, images, reading)
    if reading.component == "largest":
        return tightest_box(largest_component(scaled(values, reading.normalization) > delta))
    return box_of_foreground(values, delta, reading.normalization)
