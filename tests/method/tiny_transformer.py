"""A transformer small enough for tests, and a state dict of it as DINO names it."""

from __future__ import annotations

import torch
from torch import Tensor

from lchp.method.vit import Transformer

TINY = Transformer(patch=8, width=12, heads=3, layers=2, image_size=32, url=None)


def dino_state(seed: int, prefix: str = "") -> dict[str, Tensor]:
    """Random weights of the tiny transformer, float64, under the names that DINO's files have."""
    width, generator = TINY.width, torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 17, width),
        "patch_embed.proj.weight": (width, 3, TINY.patch, TINY.patch),
        "patch_embed.proj.bias": (width,),
    }
    for block in range(TINY.layers):
        for name, rows, columns in (("attn.qkv", 3, 1), ("attn.proj", 1, 1), ("mlp.fc1", 4, 1), ("mlp.fc2", 1, 4)):
            shapes[f"blocks.{block}.{name}.weight"] = (rows * width, columns * width)
            shapes[f"blocks.{block}.{name}.bias"] = (rows * width,)
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{block}.{name}.weight": (width,), f"blocks.{block}.{name}.bias": (width,)}
    shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
    return {
        prefix + name: torch.randn(shape, dtype=torch.float64, generator=generator) / 3
        for name, shape in shapes.items()
    }
