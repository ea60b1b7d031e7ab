"""InceptionV3's blocks with an average pooling (A, C and E), as torchvision has them, but for its place on CUDA.

There it comes behind the 1 x 1 convolution that follows it: both are linear, neither adds a constant, and the pooling
counts the zeros around the view, so that they commute up to rounding; it then reads a fourth to a tenth of the
channels. Before the convolution it was the dearest kernel of a step (an H200, bf16, 448 px, batches of 32: 31 of 115
ms of the initialization's kernels, 19 of 67 of the refinement's). On the CPU the order, and so every bit, is that of
torchvision.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.inception import (
    BasicConv2d,
    Inception3,
    InceptionA,
    InceptionAux,
    InceptionB,
    InceptionC,
    InceptionD,
    InceptionE,
)


def make_inception_v3() -> Inception3:
    """A network with random weights as torchvision draws them, and no auxiliary classifier."""
    blocks = [BasicConv2d, BlockA, InceptionB, BlockC, InceptionD, BlockE, InceptionAux]
    return Inception3(aux_logits=False, inception_blocks=blocks, init_weights=True)


def pooled(branch: BasicConv2d, x: Tensor, behind: bool) -> Tensor:
    """ReLU(BN(conv(pool(x)))) of maps (n, C, h, w); the pooling ``behind`` the convolution where that is said."""
    if behind:
        return functional.relu(branch.bn(functional.avg_pool2d(branch.conv(x), 3, 1, 1)), inplace=True)
    before: Tensor = branch(functional.avg_pool2d(x, 3, 1, 1))
    return before


class BlockA(InceptionA):  # type: ignore[misc]  # torchvision is untyped
    """Mixed_5b to Mixed_5d."""

    def _forward(self, x: Tensor) -> list[Tensor]:
        wide = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return [self.branch1x1(x), wide, double, pooled(self.branch_pool, x, x.is_cuda)]


class BlockC(InceptionC):  # type: ignore[misc]  # torchvision is untyped
    """Mixed_6b to Mixed_6e."""

    def _forward(self, x: Tensor) -> list[Tensor]:
        long = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return [self.branch1x1(x), long, double, pooled(self.branch_pool, x, x.is_cuda)]


class BlockE(InceptionE):  # type: ignore[misc]  # torchvision is untyped
    """Mixed_7b and Mixed_7c."""

    def _forward(self, x: Tensor) -> list[Tensor]:
        wide = self.branch3x3_1(x)
        wide = torch.cat([self.branch3x3_2a(wide), self.branch3x3_2b(wide)], 1)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        double = torch.cat([self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)], 1)
        return [self.branch1x1(x), wide, double, pooled(self.branch_pool, x, x.is_cuda)]
