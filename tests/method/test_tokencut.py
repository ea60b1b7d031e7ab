from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg

from lchp.method.tokencut import second_eigenvector, tokencut_boxes
from tests.method.planted import box_of_the_component, planted_keys


def tokencut_by_definition(keys: np.ndarray, grid: tuple[int, int], tau: float) -> list[float]:
    """One image, by the generalised eigenproblem and loops."""
    count = len(keys)
    weights = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            cosine = keys[i] @ keys[j] / np.sqrt((keys[i] @ keys[i]) * (keys[j] @ keys[j]))
            weights[i, j] = 1.0 if cosine > tau else 1e-5
    degree = np.diag(weights.sum(1))
    values, vectors = np.linalg.eig(np.linalg.inv(degree) @ (degree - weights))
    cut = vectors[:, np.argsort(values.real)[1]].real
    seed = int(np.argmax(np.abs(cut)))
    above = cut > cut.mean()
    return box_of_the_component((above == above[seed]).reshape(grid), divmod(seed, grid[1]))


def test_tokencut_boxes_random_keys_equal_definition_image_by_image() -> None:
    keys = torch.randn(6, 42, 3, generator=torch.Generator().manual_seed(0))
    result = tokencut_boxes(keys, (6, 7), 0.2)
    expected = [tokencut_by_definition(image, (6, 7), 0.2) for image in keys.double().numpy()]
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-6)
    assert result.dtype == torch.float32


def test_second_eigenvector_solves_the_generalised_problem() -> None:
    drawn = np.random.default_rng(0).random((9, 9))
    weights = (drawn + drawn.T) / 2
    degree = np.diag(weights.sum(1))
    expected = linalg.eigh(degree - weights, degree)[1][:, 1]
    found = second_eigenvector(weights)
    np.testing.assert_allclose(found * np.sign(found[0] * expected[0]), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("tau", [0.05, 0.2])
def test_tokencut_boxes_planted_block_is_found_to_the_cell(tau: float) -> None:
    keys = torch.stack([planted_keys((8, 10), block, seed) for seed, block in enumerate([(2, 3, 5, 7), (0, 0, 3, 3)])])
    assert_boxes = [[0.3, 0.25, 0.7, 0.625], [0.0, 0.0, 0.3, 0.375]]
    torch.testing.assert_close(tokencut_boxes(keys, (8, 10), tau), torch.tensor(assert_boxes))


def test_tokencut_boxes_do_not_depend_on_the_keys_lengths() -> None:
    keys = planted_keys((8, 10), (2, 3, 5, 7), 0)[None]
    lengths = 1 + torch.rand(1, 80, 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tokencut_boxes(keys, (8, 10), 0.2), tokencut_boxes(keys * lengths, (8, 10), 0.2))


def test_tokencut_boxes_patches_all_alike_are_the_whole_view() -> None:
    assert tokencut_boxes(torch.ones(2, 12, 4), (3, 4), 0.2).tolist() == [[0.0, 0.0, 1.0, 1.0]] * 2
