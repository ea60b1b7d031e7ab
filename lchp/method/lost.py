"""LOST: an object grown from its least connected patch, by a self-supervised transformer's keys (Simeoni et al. 2021,
"Localizing objects with self-supervised transformers and no labels").
"""

from __future__ import annotations

import torch
from torch import Tensor

from lchp.method.components import component_at
from lchp.method.pseudo_boxes import tightest_box


def lost_boxes(keys: Tensor, grid: tuple[int, int], patches: int) -> Tensor:
    """LOST: the box of one object of each image, (n, 4) float32, on the device of ``keys``.

    ``keys`` (n, T, d) are those of the last block for the T = h * w patches of ``grid`` (h, w), in row order, without
    the class token; two patches are similar where the product of their keys, which are not normalised, is positive.
    ``patches`` (paper: 100) of the lowest degrees may vote. Computed on the CPU in float64.
    """
    height, width = grid
    assert keys.shape[1] == height * width, "one key per patch"
    return torch.stack([_box(image, grid, patches) for image in keys.detach().cpu().double()]).to(keys.device)


def _box(keys: Tensor, grid: tuple[int, int], patches: int) -> Tensor:
    products = keys @ keys.T
    seed, similar = seed_expansion(products, patches)
    foreground = products[similar].sum(0) > 0
    return tightest_box(component_at(foreground.view(grid), seed)[None])[0]


def seed_expansion(products: Tensor, patches: int) -> tuple[int, Tensor]:
    """LOST, 3.2: the seed, the patch with the fewest similar ones, and the patches that vote with it, by index.

    ``products`` (T, T) of the keys. Of equal degrees the earlier patch comes first. The votes are those of the
    ``patches`` patches of the lowest degrees that are similar to the seed, itself among them; none if its key is 0.
    """
    order = (products > 0).sum(1).argsort(stable=True)[:patches]
    seed = int(order[0])
    return seed, order[products[seed, order] > 0]
