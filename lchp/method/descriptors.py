"""Deep Descriptor Transforming (DDT; Wei et al. 2019, "Unsupervised object discovery and co-localization by deep
descriptor transformation"), as PSOL makes pseudo boxes of it (Zhang et al. 2020, "Rethinking the route towards weakly
supervised object localization").

A descriptor is the C channels of a frozen network's last map at one of its h * w places. What the images of a group (a
class, or the whole set) have in common is the first principal axis of all their descriptors. Two passes over the
images: one sums moments, one projects.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy import linalg
from torch import Tensor

from lchp.method.components import largest_component
from lchp.method.pseudo_boxes import tightest_box

_FLAT = 1e-12
"""Descriptors whose variance along their first axis is at most this share of their mean squared norm are constant: what
varies is the rounding of float32."""


class PrincipalAxes(NamedTuple):
    """The principal axis that is taken of each of g groups, float64 on the CPU."""

    mean: Tensor
    """(g, C): the mean descriptor; zeros for a group without images."""
    axis: Tensor
    """(g, C): a unit eigenvector of the covariance, that of its largest eigenvalue unless several are looked at; zeros
    for a group without images and for one whose descriptors are all the same, so that nothing of it stands out."""


class DescriptorMoments:
    """The moments of the descriptors of ``groups`` groups, summed over batches in float64.

    They take 8 * groups * channels ** 2 bytes on ``device``: 0.26 GB for 20 classes and 1,280 channels. Where that is
    too much, go through the groups a few at a time.
    """

    def __init__(self, groups: int, channels: int, device: torch.device | str = "cpu") -> None:
        self.count = torch.zeros(groups, dtype=torch.float64, device=device)
        """(g,): descriptors."""
        self.total = torch.zeros(groups, channels, dtype=torch.float64, device=device)
        """(g, C): the sum of f."""
        self.second = torch.zeros(groups, channels, channels, dtype=torch.float64, device=device)
        """(g, C, C): the sum of f f^T."""
        self.strength = torch.zeros(groups, dtype=torch.float64, device=device)
        """(g,): the sum of how strong a place is, s."""
        self.energy = torch.zeros(groups, channels, dtype=torch.float64, device=device)
        """(g, C): the sum of s f, from which the axis and its sign follow."""

    def add(self, descriptors: Tensor, groups: Tensor, strength: Tensor | None = None) -> None:
        """Adds the maps (n, C, h, w) of n images, of any floating type; image i belongs to group ``groups[i]`` (n,).

        ``strength`` (n, h, w) is s = |f|^2 of every place before its descriptor was brought to another norm; None where
        it was not.
        """
        for group in sorted(set(groups.tolist())):
            own = groups == group
            flat = descriptors[own].movedim(1, -1).flatten(0, 2).to(self.total)
            strong = flat.square().sum(1) if strength is None else strength[own].flatten().to(self.total)
            self.count[group] += len(flat)
            self.total[group] += flat.sum(0)
            self.second[group] += flat.T @ flat
            self.strength[group] += strong.sum()
            self.energy[group] += strong @ flat

    def principal_axes(self, candidates: int = 1) -> PrincipalAxes:
        """One of the first principal axes of the centred descriptors of every group (DDT, Eq. 1 to 3).

        Of the first ``candidates`` axes it is the one with which strength goes most: the largest magnitude of the
        correlation of h = (f - mean) . axis and s = |f|^2. With 1 it is the first, as in DDT and PSOL; but what varies
        most among descriptors need not be the object.

        An axis has no sign of its own. Its positive side is the one where descriptors are larger: that correlation is
        positive. Where it is 0, the axis's entry of largest magnitude is positive, the first of several. A group of one
        image has the axis of that image's own places.
        """
        mean = self.total / self.count.clamp(min=1).unsqueeze(1)
        axes = [self._axis(group, mean[group], candidates) for group in range(len(mean))]
        return PrincipalAxes(mean.cpu(), torch.stack(axes))

    def _axis(self, group: int, mean: Tensor, candidates: int) -> Tensor:
        channels, count = len(mean), float(self.count[group])
        if count == 0:
            return torch.zeros(channels, dtype=torch.float64)
        second = self.second[group] / count
        covariance = (second - torch.outer(mean, mean)).cpu().numpy()
        values, vectors = linalg.eigh(covariance, subset_by_index=[max(0, channels - candidates), channels - 1])
        varying = values > _FLAT * float(second.trace())
        if not varying.any():
            return torch.zeros(channels, dtype=torch.float64)
        with_strength = ((self.energy[group] - self.strength[group] * mean) / count).cpu()
        axes = torch.from_numpy(vectors[:, varying].T.copy()).flip(0)
        leanings = axes @ with_strength / torch.from_numpy(values[varying].copy()).flip(0).sqrt()
        chosen = int(leanings.abs().argmax())
        axis, leaning = axes[chosen], float(leanings[chosen])
        largest = float(axis[axis.abs().argmax()])
        return -axis if (leaning or largest) < 0 else axis


def projection(descriptors: Tensor, axes: PrincipalAxes, groups: Tensor) -> Tensor:
    """DDT, Eq. 4: h = (f - mean) . axis at every place, float64, (n, h, w), on the device of ``descriptors``.

    ``descriptors`` (n, C, h, w) of any floating type; image i belongs to group ``groups[i]`` (n,). It is 0 everywhere
    for a group without an axis.
    """
    chosen = groups.cpu()
    mean, axis = (part[chosen].to(descriptors.device) for part in axes)
    projected = torch.einsum("nchw,nc->nhw", descriptors.double(), axis)
    return projected - (mean * axis).sum(1)[:, None, None]


def ddt_boxes(projections: Tensor, threshold: float) -> Tensor:
    """The boxes (n, 4), float32, around what the groups have in common, from :func:`projection`'s h (n, h, w).

    Foreground is h > ``threshold`` * max(h), in [0, 1) of each image's own largest h; PSOL has 0. The box is the
    tightest around its largest 8-connected component, at the map's resolution: PSOL enlarges the component by nearest
    neighbour before, which leaves the edges of its cells where they are. An image without a positive h gets the whole
    view (PSOL's code stores 14 / 448 of it there, a slip).
    """
    highest = projections.amax((1, 2), keepdim=True).clamp(min=0)
    return tightest_box(largest_component(projections > threshold * highest))
