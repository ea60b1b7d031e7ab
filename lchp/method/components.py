"""Connected components of foreground masks, by SciPy: on the CPU, so that a mask on another device is waited for."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

_WITHIN_AN_IMAGE = np.zeros((3, 3, 3), dtype=bool)
_WITHIN_AN_IMAGE[1] = True
"""The neighbours of a cell in a batch of masks: the eight around it, none in another image."""


def largest_component(mask: Tensor) -> Tensor:
    """The largest 8-connected component of each mask (n, h, w) bool, by its number of cells; as ``mask`` in shape and
    device.

    Of components of equal size it is the one whose first cell in row order comes first. A mask without foreground
    stays empty.
    """
    height, width = mask.shape[1:]
    labels, count = ndimage.label(mask.cpu().numpy(), structure=_WITHIN_AN_IMAGE)
    if not count:
        return mask.clone()
    flat = labels.reshape(-1)
    places = np.flatnonzero(flat)
    # Of several values for one label NumPy keeps the last, which here is its first place.
    first = np.zeros(count + 1, dtype=np.int64)
    first[flat[places[::-1]]] = places[::-1]
    image = first // (height * width)
    size = np.bincount(flat, minlength=count + 1)
    size[0] = 0
    best = np.lexsort((first, -size, image))
    chosen = np.zeros(count + 1, dtype=bool)
    chosen[best[np.unique(image[best], return_index=True)[1]]] = True
    chosen[0] = False
    return torch.from_numpy(chosen[labels]).to(mask.device)


def component_at(mask: Tensor, place: int) -> Tensor:
    """The 4-connected component of one mask (h, w) bool that holds the cell ``place``, counted in row order.

    4-connected, as LOST and TokenCut have it. Where ``place`` is background the result is empty.
    """
    labels, _ = ndimage.label(mask.cpu().numpy())
    label = labels.reshape(-1)[place]
    return torch.from_numpy((labels == label) & (label > 0)).to(mask.device)
