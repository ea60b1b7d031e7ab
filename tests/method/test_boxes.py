from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lchp.method import boxes

coordinate = st.integers(-64, 192).map(lambda step: step / 128)
quick = settings(max_examples=100, deadline=None)


@st.composite
def drawn_boxes(draw: st.DrawFn, crossed: bool = False) -> Tensor:
    """One box in and around the view, on a grid of 1/128 so that its arithmetic is exact in float64."""
    x, y = [draw(coordinate), draw(coordinate)], [draw(coordinate), draw(coordinate)]
    if not crossed:
        x, y = sorted(x), sorted(y)
    return torch.tensor([x[0], y[0], x[1], y[1]], dtype=torch.float64)


def cells_of(box: Tensor) -> np.ndarray:
    """The box drawn on the grid of 1/128, cell by cell."""
    grid = np.zeros((256, 256), dtype=bool)
    x1, y1, x2, y2 = (round(float(value) * 128) + 64 for value in box)
    grid[y1:y2, x1:x2] = True
    return grid


@quick
@given(drawn_boxes(), drawn_boxes())
def test_iou_drawn_boxes_counts_cells(first: Tensor, second: Tensor) -> None:
    one, other = cells_of(first), cells_of(second)
    total = (one | other).sum()
    expected = (one & other).sum() / total if total else 0.0
    assert float(boxes.iou(first, second)) == pytest.approx(expected, abs=1e-12)
    assert float(boxes.area(first)) == pytest.approx(one.sum() / 128**2, abs=1e-12)


@quick
@given(drawn_boxes(crossed=True), drawn_boxes(crossed=True))
def test_iou_any_boxes_is_symmetric_and_a_fraction(first: Tensor, second: Tensor) -> None:
    value = boxes.iou(first, second)
    assert torch.equal(value, boxes.iou(second, first))
    assert 0 <= float(value) <= 1


@quick
@given(drawn_boxes())
def test_iou_box_with_itself_is_one_unless_empty(box: Tensor) -> None:
    assert float(boxes.iou(box, box)) == (1.0 if float(boxes.area(box)) > 0 else 0.0)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [((0, 0, 1, 1), (1, 1, 2, 2), 1 / 7), ((0, 0, 10, 10), (0, 0, 10, 10), 1.0), ((0, 0, 1, 1), (5, 5, 6, 6), 0.0)],
)
def test_iou_published_inclusive_boxes_gives_known_answers(
    first: tuple[int, ...], second: tuple[int, ...], expected: float
) -> None:
    inclusive_to_exclusive = torch.tensor([0, 0, 1, 1], dtype=torch.float64)
    value = boxes.iou(torch.tensor(first) + inclusive_to_exclusive, torch.tensor(second) + inclusive_to_exclusive)
    assert float(value) == pytest.approx(expected, abs=1e-15)


def test_iou_rows_and_columns_broadcasts() -> None:
    many = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)).sort(-1).values[:, [0, 1, 2, 3]]
    table = boxes.iou(many[:, None], many[None])
    assert table.shape == (5, 5)
    assert all(torch.equal(table[i, j], boxes.iou(many[i], many[j])) for i in range(5) for j in range(5))


@quick
@given(drawn_boxes(), drawn_boxes())
def test_union_two_boxes_is_the_smallest_that_holds_both(first: Tensor, second: Tensor) -> None:
    merged = boxes.union(first, second)
    corners = np.stack([first.numpy(), second.numpy()])
    assert merged.tolist() == [*corners[:, :2].min(0), *corners[:, 2:].max(0)]
    for box in (first, second):
        assert torch.equal(boxes.union(merged, box), merged)


@quick
@given(drawn_boxes(crossed=True))
def test_clip_any_box_is_inside_and_idempotent(box: Tensor) -> None:
    clipped = boxes.clip(box)
    assert clipped.tolist() == [min(max(value, 0.0), 1.0) for value in box.tolist()]
    assert torch.equal(boxes.clip(clipped), clipped)


@quick
@given(drawn_boxes())
def test_centre_size_round_trip_gives_the_box_back(box: Tensor) -> None:
    converted = boxes.to_centre_size(box)
    x1, y1, x2, y2 = box.tolist()
    assert converted.tolist() == [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    assert torch.equal(boxes.from_centre_size(converted), box)


def test_whole_view_three_images_takes_type_of_like() -> None:
    whole = boxes.whole_view(3, torch.zeros(1, dtype=torch.float64))
    assert whole.dtype == torch.float64
    assert whole.tolist() == [[0.0, 0.0, 1.0, 1.0]] * 3


def test_area_crossed_ends_is_zero() -> None:
    assert float(boxes.area(torch.tensor([0.8, 0.1, 0.2, 0.9]))) == 0.0


def test_scaled_keeps_the_centre_and_multiplies_the_sides() -> None:
    found = boxes.scaled(torch.tensor([[0.25, 0.0, 0.75, 1.0], [0.5, 0.5, 0.5, 0.75]]), 0.5)
    assert found.tolist() == [[0.375, 0.25, 0.625, 0.75], [0.5, 0.5625, 0.5, 0.6875]]


@quick
@given(drawn_boxes())
def test_mirrored_is_the_box_drawn_in_the_mirrored_view(box: Tensor) -> None:
    np.testing.assert_array_equal(cells_of(boxes.mirrored(box)), cells_of(box)[:, ::-1])
