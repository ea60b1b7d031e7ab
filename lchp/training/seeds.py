"""Named seeds: every source of randomness of a trial has a name and its own generator."""

from __future__ import annotations

import hashlib

import torch


def named_seed(seed: int, name: str) -> int:
    """A 63-bit seed for the purpose ``name`` of a trial with this seed; other names give unrelated seeds."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1


def named_generator(seed: int, name: str) -> torch.Generator:
    """A CPU generator seeded with :func:`named_seed`: the same draws whatever the device."""
    return torch.Generator().manual_seed(named_seed(seed, name))
