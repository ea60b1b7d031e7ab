from __future__ import annotations

import hashlib

import torch

from lchp.training.seeds import named_generator, named_seed


def test_named_seed_is_the_digest_of_seed_and_name() -> None:
    digest = hashlib.sha256(b"3/classifier weights").hexdigest()
    assert named_seed(3, "classifier weights") == int(digest[:16], 16) // 2


def test_named_seed_other_seeds_and_names_are_other_streams() -> None:
    names = ("classifier weights", "regressor weights", "initialization order", "refinement order")
    seeds = {named_seed(seed, name) for seed in range(50) for name in names}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_named_generator_repeats_and_leaves_the_global_one() -> None:
    state = torch.random.get_rng_state()
    draws = [torch.rand(4, generator=named_generator(1, "order")) for _ in range(2)]
    assert torch.equal(*draws)
    assert not torch.equal(draws[0], torch.rand(4, generator=named_generator(1, "view")))
    assert torch.equal(torch.random.get_rng_state(), state)
