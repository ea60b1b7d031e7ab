"""Self-supervised vision transformers (DINO; Caron et al. 2021), one record each, and the keys of their last block.

The network is torchvision's ``VisionTransformer`` without its head. Like :mod:`lchp.method.backbones` this module is
read where configurations are checked, so it imports no torch: functions do, when called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from torchvision.models import VisionTransformer


@dataclass(frozen=True)
class Transformer:
    """A self-supervised transformer that a trial may name."""

    patch: int
    """Pixels of the view per patch, along each side; a view is a whole number of patches."""
    width: int
    """Numbers of a token, and of its key."""
    heads: int
    """Attention heads per block; they split the width."""
    layers: int
    """Blocks."""
    image_size: int
    """Pixels a side of the images that its position embedding was trained on."""
    url: str | None
    """Where its authors' weights lie; their file names carry no hash. None: there are none."""


_DINO = "https://dl.fbaipublicfiles.com/dino/"

TRANSFORMERS = {
    "dino_vits16": Transformer(
        patch=16,
        width=384,
        heads=6,
        layers=12,
        image_size=224,
        url=f"{_DINO}dino_deitsmall16_pretrain/dino_deitsmall16_pretrain.pth",
    ),
    "dino_vits8": Transformer(
        patch=8,
        width=384,
        heads=6,
        layers=12,
        image_size=224,
        url=f"{_DINO}dino_deitsmall8_pretrain/dino_deitsmall8_pretrain.pth",
    ),
    "dino_vitb16": Transformer(
        patch=16,
        width=768,
        heads=12,
        layers=12,
        image_size=224,
        url=f"{_DINO}dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
    ),
    "dino_vitb8": Transformer(
        patch=8,
        width=768,
        heads=12,
        layers=12,
        image_size=224,
        url=f"{_DINO}dino_vitbase8_pretrain/dino_vitbase8_pretrain.pth",
    ),
}

_DINO_NAMES = (
    (r"\bcls_token$", "class_token"),
    (r"\bpos_embed$", "encoder.pos_embedding"),
    (r"\bpatch_embed\.proj\.", "conv_proj."),
    (r"\bblocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1."),
    (r"\.norm([12])\.", r".ln_\1."),
    (r"\.attn\.qkv\.", ".self_attention.in_proj_"),
    (r"\.attn\.proj\.", ".self_attention.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"\bnorm\.", "encoder.ln."),
)
"""DINO's names of parameters, as regular expressions, and torchvision's."""


def find_transformer(name: str) -> Transformer:
    """The record of a transformer. Raises ValueError, with the choices, if there is none of this name."""
    if name not in TRANSFORMERS:
        raise ValueError(f"there is no transformer {name!r}: choose one of {', '.join(TRANSFORMERS)}")
    return TRANSFORMERS[name]


def check_transformer_view(name: str, size: int) -> None:
    """Raises ValueError if a square view of ``size`` pixels is no whole number of the transformer's patches."""
    patch = find_transformer(name).patch
    if size < patch or size % patch:
        raise ValueError(f"a view of {size} px is no whole number of {name}'s patches of {patch} px: choose a multiple")


def transformer_gflop(name: str, size: int) -> float:
    """One forward pass on a square view of ``size`` pixels, two operations per multiply-add, by its layers' shapes."""
    known = find_transformer(name)
    tokens = (size // known.patch) ** 2 + 1
    # A block's projections (queries, keys, values, output) and its two layers of four times the width; its attention.
    block = 24 * tokens * known.width**2 + 4 * tokens**2 * known.width
    return (known.layers * block + 6 * tokens * known.patch**2 * known.width) / 1e9


def make_transformer(name: str, seed: int) -> VisionTransformer:
    """A frozen transformer without its head, in evaluation mode, on the CPU; its weights depend on ``seed`` alone.

    Raises ValueError for an unknown name.
    """
    from torch import nn
    from torchvision.models import VisionTransformer

    from lchp.method.networks import seeded

    known = find_transformer(name)
    network = seeded(
        lambda: VisionTransformer(
            known.image_size, known.patch, known.layers, known.heads, known.width, 4 * known.width, num_classes=1
        ),
        seed,
    )
    network.heads = nn.Sequential()
    return network.eval().requires_grad_(False)


def torchvision_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A transformer's state dict under torchvision's names, where DINO's or torchvision's own are given."""
    renamed = {}
    for key, value in state.items():
        for pattern, today in _DINO_NAMES:
            key = re.sub(pattern, today, key)
        renamed[key] = value
    return renamed


def last_keys(network: VisionTransformer, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """The keys of the last block for every patch, its heads side by side: (n, h * w, width), and the grid (h, w).

    Images (n, 3, H, W), ImageNet-normalised, H and W multiples of the patch. The class token takes part in all blocks
    and is left out of the result.
    """
    import torch
    from torch.nn import functional

    assert not any(side % network.patch_size for side in images.shape[-2:]), "a whole number of patches"
    patches: Tensor = network.conv_proj(images)
    height, width = patches.shape[-2:]
    tokens = torch.cat([network.class_token.expand(len(images), -1, -1), patches.flatten(2).mT], 1)
    tokens = tokens + position_embedding(network.encoder.pos_embedding, (height, width))
    *others, last = network.encoder.layers
    for block in others:
        tokens = block(tokens)
    attention = last.self_attention
    _, weight, _ = attention.in_proj_weight.chunk(3)
    _, bias, _ = attention.in_proj_bias.chunk(3)
    return functional.linear(last.ln_1(tokens)[:, 1:], weight, bias), (height, width)


def position_embedding(learned: Tensor, grid: tuple[int, int]) -> Tensor:
    """The position embedding (1, 1 + h * w, width) for a ``grid`` (h, w) of patches, from the ``learned`` one.

    The class token's stays; those of the learned square grid are interpolated bicubically (DINO), unless they fit.
    """
    import torch
    from torch.nn import functional

    token, places = learned[:, :1], learned[:, 1:]
    side = round(places.shape[1] ** 0.5)
    if grid == (side, side):
        return learned
    square = places.mT.reshape(1, -1, side, side)
    return torch.cat([token, functional.interpolate(square, size=grid, mode="bicubic").flatten(2).mT], 1)
