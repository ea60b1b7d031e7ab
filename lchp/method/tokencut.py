"""TokenCut: a normalised cut between the patches of one image, by a self-supervised transformer's keys (Wang et al.
2022, "Self-supervised transformers for unsupervised object discovery using normalized cut").
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import linalg
from torch import Tensor
from torch.nn import functional

from lchp.method.boxes import whole_view
from lchp.method.components import component_at
from lchp.method.pseudo_boxes import tightest_box

_APART = 1e-5
"""The weight between two patches that are not similar: above 0, so that the graph is connected."""


def tokencut_boxes(keys: Tensor, grid: tuple[int, int], tau: float) -> Tensor:
    """TokenCut: the box of each image's main object, (n, 4) float32, on the device of ``keys``.

    ``keys`` (n, T, d) are those of the last block for the T = h * w patches of ``grid`` (h, w), in row order, without
    the class token. ``tau`` in [-1, 1) is the cosine above which two patches are joined (paper: 0.2; 0.05 on
    CUB-200-2011). One eigenproblem of size T per image, solved on the CPU in float64.
    """
    height, width = grid
    assert keys.shape[1] == height * width, "one key per patch"
    return torch.stack([_box(image, grid, tau) for image in keys.detach().cpu().double()]).to(keys.device)


def _box(keys: Tensor, grid: tuple[int, int], tau: float) -> Tensor:
    """The component, within its side of the cut, of the patch of largest magnitude in the cut's eigenvector."""
    unit = functional.normalize(keys, dim=1)
    joined = unit @ unit.T > tau
    if bool(joined.all()):
        # Patches that are all alike have no cut: every vector is an eigenvector.
        return whole_view(1, torch.zeros(1))[0]
    cut = torch.from_numpy(second_eigenvector(torch.where(joined, 1.0, _APART).numpy()))
    seed = int(cut.abs().argmax())
    above = cut > cut.mean()
    side = above if above[seed] else ~above
    return tightest_box(component_at(side.view(grid), seed)[None])[0]


def second_eigenvector(weights: np.ndarray) -> np.ndarray:
    """Normalised cut (Shi & Malik 2000): x of the second smallest lambda in (D - W) x = lambda D x, (T,).

    ``weights`` (T, T), float64, symmetric and positive; D is the diagonal of its row sums. The sign is arbitrary.
    """
    # With z = D^(1/2) x it is the second largest eigenvector of D^(-1/2) W D^(-1/2): no generalised problem.
    root = np.sqrt(weights.sum(1))
    size = len(weights)
    _, vectors = linalg.eigh(weights / np.outer(root, root), subset_by_index=[size - 2, size - 2])
    second: np.ndarray = vectors[:, 0] / root
    return second
