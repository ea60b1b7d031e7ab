"""Keys of patches with a planted object, and boxes cell by cell: what the tests of TokenCut and LOST share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def planted_keys(grid: tuple[int, int], block: tuple[int, int, int, int], seed: int) -> Tensor:
    """(h * w, 16): patches of the block (top, left, bottom, right; ends exclusive) are alike, and unlike the sea's."""
    generator = torch.Generator().manual_seed(seed)
    thing, sea = torch.linalg.qr(torch.randn(16, 2, generator=generator))[0].T
    keys = (sea - 0.5 * thing).repeat(*grid, 1)
    top, left, bottom, right = block
    keys[top:bottom, left:right] = thing
    return (keys + 0.02 * torch.randn(keys.shape, generator=generator)).flatten(0, 1)


def box_of_the_component(mask: np.ndarray, start: tuple[int, int]) -> list[float]:
    """The box, in [0, 1], of the cells of ``mask`` that can be reached from ``start`` over edges."""
    found: set[tuple[int, int]] = set()
    open_cells = [start]
    while open_cells:
        i, j = open_cells.pop()
        if 0 <= i < mask.shape[0] and 0 <= j < mask.shape[1] and mask[i, j] and (i, j) not in found:
            found.add((i, j))
            open_cells += [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
    if not found:
        return [0.0, 0.0, 1.0, 1.0]
    rows, columns = zip(*found, strict=True)
    height, width = mask.shape
    return [min(columns) / width, min(rows) / height, (max(columns) + 1) / width, (max(rows) + 1) / height]
