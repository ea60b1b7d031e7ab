from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from lchp.method.components import component_at, largest_component


def flooded(mask: np.ndarray, start: tuple[int, int], corners: bool) -> np.ndarray:
    """The component of ``start`` in one mask, cell by cell."""
    found, open_cells = np.zeros_like(mask), [start]
    while open_cells:
        i, j = open_cells.pop()
        if not (0 <= i < mask.shape[0] and 0 <= j < mask.shape[1]) or found[i, j] or not mask[i, j]:
            continue
        found[i, j] = True
        open_cells += [
            (i + di, j + dj)
            for di in (-1, 0, 1)
            for dj in (-1, 0, 1)
            if (corners or 0 in (di, dj)) and (di, dj) != (0, 0)
        ]
    return found


def largest_by_definition(mask: np.ndarray) -> np.ndarray:
    best = np.zeros_like(mask)
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            component = flooded(mask, (i, j), corners=True)
            if component.sum() > best.sum():
                best = component
    return best


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4, 0.7])
def test_largest_component_random_masks_equals_flooding_from_every_cell(share: float) -> None:
    masks = np.random.default_rng(int(100 * share)).random((20, 7, 9)) < share
    result = largest_component(torch.from_numpy(masks))
    assert result.dtype == torch.bool
    for found, mask in zip(result.numpy(), masks, strict=True):
        assert np.array_equal(found, largest_by_definition(mask))


def test_largest_component_random_masks_have_scipys_largest_size() -> None:
    masks = np.random.default_rng(0).random((10, 40, 40)) < 0.35
    for found, mask in zip(largest_component(torch.from_numpy(masks)).numpy(), masks, strict=True):
        labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
        assert found.sum() == np.bincount(labels[labels > 0]).max()
        assert ndimage.label(found, structure=np.ones((3, 3)))[1] == 1


def test_largest_component_tie_is_the_first_in_row_order() -> None:
    rows = ["....##", "##....", "#...##", "....#.", "##....", "##...."]
    mask = torch.tensor([[cell == "#" for cell in row] for row in rows])
    tied = torch.stack([mask[:4], mask[:4].flip(1), mask[:4].flip(0)])
    # Upright, the three cells on the left begin in row 1, those on the right in row 2; turned about, the others do.
    found = [sorted(map(tuple, one.nonzero().tolist())) for one in largest_component(tied)]
    assert found[0] == [(1, 0), (1, 1), (2, 0)]
    assert found[1] == [(1, 4), (1, 5), (2, 5)]
    assert found[2] == [(0, 4), (1, 4), (1, 5)]
    assert sorted(map(tuple, largest_component(mask[None])[0].nonzero().tolist())) == [(4, 0), (4, 1), (5, 0), (5, 1)]


def test_largest_component_touching_corners_are_one_and_images_do_not_touch() -> None:
    diagonal = torch.eye(4, dtype=torch.bool)
    masks = torch.stack([diagonal, torch.zeros(4, 4, dtype=torch.bool), torch.ones(4, 4, dtype=torch.bool)])
    assert torch.equal(largest_component(masks), masks)


def test_largest_component_empty_masks_stay_empty_and_input_stays() -> None:
    masks = torch.zeros(2, 3, 5, dtype=torch.bool)
    assert torch.equal(largest_component(masks), masks)
    masks[1, 0, 0] = masks[1, 2, 4] = True
    assert largest_component(masks)[1].nonzero().tolist() == [[0, 0]]
    assert int(masks.sum()) == 2


def test_component_at_every_cell_equals_flooding_by_edges() -> None:
    mask = np.random.default_rng(1).random((6, 8)) < 0.55
    for place in range(mask.size):
        found = component_at(torch.from_numpy(mask), place).numpy()
        assert np.array_equal(found, flooded(mask, divmod(place, 8), corners=False))
