from __future__ import annotations

import numpy as np
import pytest
import torch

from lchp.method.lost import lost_boxes, seed_expansion
from tests.method.planted import box_of_the_component, planted_keys


def lost_by_definition(keys: np.ndarray, grid: tuple[int, int], patches: int) -> list[float]:
    count = len(keys)
    degrees = [sum(keys[i] @ keys[j] > 0 for j in range(count)) for i in range(count)]
    lowest = sorted(range(count), key=lambda i: (degrees[i], i))[:patches]
    seed = lowest[0]
    voters = [i for i in lowest if keys[i] @ keys[seed] > 0]
    mask = np.array([sum(keys[i] @ keys[j] for i in voters) > 0 for j in range(count)])
    return box_of_the_component(mask.reshape(grid), divmod(seed, grid[1]))


@pytest.mark.parametrize("patches", [1, 10, 100])
def test_lost_boxes_random_keys_equal_definition_image_by_image(patches: int) -> None:
    keys = torch.randn(6, 42, 5, generator=torch.Generator().manual_seed(0)) + 0.1
    result = lost_boxes(keys, (6, 7), patches)
    expected = [lost_by_definition(image, (6, 7), patches) for image in keys.double().numpy()]
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-6)
    assert result.dtype == torch.float32


def test_lost_boxes_planted_block_is_found_to_the_cell() -> None:
    keys = torch.stack([planted_keys((8, 10), block, seed) for seed, block in enumerate([(2, 3, 5, 7), (0, 0, 3, 3)])])
    expected = torch.tensor([[0.3, 0.25, 0.7, 0.625], [0.0, 0.0, 0.3, 0.375]])
    torch.testing.assert_close(lost_boxes(keys, (8, 10), 100), expected)


def test_seed_expansion_equal_degrees_take_the_earlier_patch_and_votes_are_of_the_lowest_alone() -> None:
    keys = torch.tensor([[1.0, 0], [1, 0], [1, 0], [-1, 0], [-1, 0.1], [1, 0]])
    seed, voters = seed_expansion(keys @ keys.T, 3)
    assert (seed, voters.tolist()) == (3, [3, 4])
    seed, voters = seed_expansion(keys[:3] @ keys[:3].T, 2)
    assert (seed, voters.tolist()) == (0, [0, 1])


def test_lost_boxes_keys_of_zeros_are_the_whole_view() -> None:
    assert lost_boxes(torch.zeros(1, 12, 4), (3, 4), 100).tolist() == [[0.0, 0.0, 1.0, 1.0]]
