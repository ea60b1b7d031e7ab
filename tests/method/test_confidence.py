from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lchp.method.confidence import (
    TEMPERATURES,
    best_share,
    contrast,
    crop,
    cross_entropy,
    equivariance,
    fit_temperature,
    high_quality,
    max_softmax,
    out_of_fold,
    share_count,
)


def picture(height: int = 12, width: int = 12, count: int = 1) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def cut_and_resized(image: np.ndarray, x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    """The pixels [y1, y2) x [x1, x2) of one image (3, h, w) resized to (h, w): interpolated between pixel centres."""
    _, height, width = image.shape
    part = image[:, y1:y2, x1:x2].astype(np.float64)
    out = np.zeros(image.shape)
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * (y2 - y1) / height - 0.5, 0), y2 - y1 - 1)
            x = min(max((j + 0.5) * (x2 - x1) / width - 0.5, 0), x2 - x1 - 1)
            top, left = math.floor(y), math.floor(x)
            bottom, right = min(top + 1, y2 - y1 - 1), min(left + 1, x2 - x1 - 1)
            v, u = y - top, x - left
            upper = part[:, top, left] * (1 - u) + part[:, top, right] * u
            lower = part[:, bottom, left] * (1 - u) + part[:, bottom, right] * u
            out[:, i, j] = upper * (1 - v) + lower * v
    return out


@pytest.mark.parametrize("pixels", [(0, 0, 12, 10), (2, 3, 9, 8), (0, 4, 2, 6), (10, 8, 12, 10), (1, 0, 12, 3)])
def test_crop_box_on_whole_pixels_is_cutting_then_resizing(pixels: tuple[int, int, int, int]) -> None:
    image = picture(10, 12)
    box = torch.tensor([[pixels[0] / 12, pixels[1] / 10, pixels[2] / 12, pixels[3] / 10]])
    result = crop(image, box)[0].numpy()
    np.testing.assert_allclose(result, cut_and_resized(image[0].numpy(), *pixels), rtol=0, atol=5e-6)


def test_crop_sees_nothing_outside_its_box() -> None:
    image = torch.full((1, 3, 16, 16), 1e6)
    image[:, :, 4:12, 4:8] = 1.0
    result = crop(image, torch.tensor([[0.25, 0.25, 0.5, 0.75]]))
    torch.testing.assert_close(result, torch.ones(1, 3, 16, 16), rtol=0, atol=1.0)  # float32 weights of 1e6


def test_crop_batch_equals_image_by_image() -> None:
    images = picture(count=3)
    boxes = torch.tensor([[0.1, 0.2, 0.7, 0.9], [0.0, 0.0, 1.0, 1.0], [0.55, 0.3, 0.8, 0.4]])
    alone = torch.cat([crop(images[i : i + 1], boxes[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(crop(images, boxes), alone, rtol=0, atol=1e-6)


def test_crop_overhanging_box_is_clipped_to_the_view() -> None:
    image = picture()
    inside = crop(image, torch.tensor([[0.5, 0.0, 1.0, 0.75]]))
    assert torch.equal(crop(image, torch.tensor([[0.5, -0.25, 1.5, 0.75]])), inside)


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((0.5, 0.5, 0.5, 0.5), (5, 5, 7, 7)),
        ((0.0, 0.0, 0.0, 0.0), (0, 0, 2, 2)),
        ((1.0, 1.0, 1.0, 1.0), (10, 10, 12, 12)),
        ((0.75, 0.25, 0.25, 0.75), (5, 3, 7, 9)),
        ((5.3 / 12, 0.25, 6.7 / 12, 0.75), (5, 3, 7, 9)),
        ((0.25, 0.0, 0.75, 1.5 / 12), (3, 0, 9, 2)),
        ((1.5, 0.0, 2.0, 1.0), (10, 0, 12, 12)),
    ],
)
def test_crop_degenerate_box_is_widened_to_two_pixels(
    box: tuple[float, ...], pixels: tuple[int, int, int, int]
) -> None:
    image = picture()
    result = crop(image, torch.tensor([box]))[0].numpy()
    np.testing.assert_allclose(result, cut_and_resized(image[0].numpy(), *pixels), rtol=0, atol=5e-6)


def test_crop_bfloat16_image_keeps_type_and_places_in_float32() -> None:
    image = picture(448, 448).bfloat16()
    box = torch.tensor([[0.3, 0.3, 0.31, 0.31]])
    result = crop(image, box)
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, crop(image.float(), box).bfloat16())


def test_crop_compiled_whole_gives_the_same() -> None:
    images, boxes = picture(count=2), torch.tensor([[0.1, 0.2, 0.7, 0.9], [0.5, 0.5, 0.5, 0.5]])
    compiled = torch.compile(crop, fullgraph=True, backend="eager")
    assert torch.equal(compiled(images, boxes), crop(images, boxes))


def test_max_softmax_random_logits_is_the_largest_probability() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exponentials = np.exp(logits.numpy())
    expected = (exponentials / exponentials.sum(1, keepdims=True)).max(1)
    np.testing.assert_allclose(max_softmax(logits).numpy(), expected, rtol=1e-6)


def test_max_softmax_large_bfloat16_logits_is_finite_float32() -> None:
    value = max_softmax(torch.tensor([[1e30, -1e30], [0.0, 0.0]], dtype=torch.bfloat16))
    assert value.dtype == torch.float32
    assert value.tolist() == [1.0, 0.5]


def test_high_quality_confidence_equal_to_tau_is_rejected() -> None:
    assert high_quality(torch.tensor([0.4, 0.5, 0.6]), 0.5).tolist() == [False, False, True]


def test_high_quality_tau_zero_selects_everything() -> None:
    logits = torch.zeros(3, 1000)
    assert high_quality(max_softmax(logits), 0.0).tolist() == [True] * 3


def test_crop_fractional_boxes_of_a_ramp_shows_the_ramp_inside() -> None:
    height, width = 10, 14
    rows, columns = np.mgrid[:height, :width]
    ramp = 3.0 * (columns + 0.5) / width - 2.0 * (rows + 0.5) / height
    boxes = np.array([[0.23, 0.31, 0.68, 0.93], [0.04, 0.0, 0.5, 0.61], [0.311, 0.422, 0.533, 0.744]])
    images = torch.from_numpy(np.broadcast_to(ramp, (3, 3, height, width)).astype(np.float32))
    result = crop(images, torch.from_numpy(boxes)).numpy()
    half = np.array([0.5 / width, 0.5 / height])
    for image, box in zip(result, boxes, strict=True):
        x = (box[0] + (np.arange(width) + 0.5) / width * (box[2] - box[0])).clip(box[0] + half[0], box[2] - half[0])
        y = (box[1] + (np.arange(height) + 0.5) / height * (box[3] - box[1])).clip(box[1] + half[1], box[3] - half[1])
        x, y = x.clip(half[0], 1 - half[0]), y.clip(half[1], 1 - half[1])  # beyond the outer centres a ramp is flat
        np.testing.assert_allclose(image, np.broadcast_to(3.0 * x - 2.0 * y[:, None], image.shape), rtol=0, atol=5e-6)


def softmax(z: np.ndarray) -> np.ndarray:
    exponentials = np.exp(z - z.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))


def test_out_of_fold_is_the_tempered_answer_of_the_one_that_has_not_seen_it() -> None:
    z = np.random.default_rng(6).normal(0, 3, (3, 5, 4))
    unseen = np.array([2, 0, 0, 1, 2])
    expected = [softmax(z[one, image] / 2.5).max() for image, one in enumerate(unseen)]
    found = out_of_fold(torch.from_numpy(z), 2.5, torch.from_numpy(unseen))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert found.dtype == torch.float32


def test_out_of_fold_of_an_image_that_none_has_seen_is_the_largest_mean() -> None:
    z = np.random.default_rng(7).normal(0, 3, (3, 5, 4))
    expected = softmax(z / 0.5).mean(0).max(1)
    np.testing.assert_allclose(out_of_fold(torch.from_numpy(z), 0.5, None).numpy(), expected, rtol=1e-6)


def drawn_answers(seed: int, scale: float) -> tuple[Tensor, Tensor]:
    """Logits (400, 5) and labels (400,) that were drawn from their softmax; the logits then times ``scale``."""
    random = np.random.default_rng(seed)
    z = random.normal(0, 2, (400, 5))
    labels = np.array([random.choice(5, p=row) for row in softmax(z)])
    return torch.from_numpy(scale * z).float(), torch.from_numpy(labels)


def test_fit_temperature_minimises_the_loss_on_a_grid_by_numpy() -> None:
    logits, labels = drawn_answers(8, 3.0)

    def loss(temperature: float) -> float:
        return float(-np.log(softmax(logits.double().numpy() / temperature)[np.arange(400), labels]).mean())

    found = fit_temperature(logits, labels)
    grid = np.geomspace(0.1, 100, 1001)
    assert loss(found) <= min(map(loss, grid))
    assert abs(np.log(found / grid[np.argmin(list(map(loss, grid)))])) < np.log(1000) / 1000
    assert cross_entropy(logits, labels, found) == pytest.approx(loss(found), rel=1e-12)


@pytest.mark.parametrize("scale", [0.2, 1.0, 12.0])
def test_fit_temperature_of_scaled_logits_is_scaled_alike(scale: float) -> None:
    base, scaled = (fit_temperature(*drawn_answers(9, factor)) for factor in (1.0, scale))
    assert base == pytest.approx(1.0, abs=0.15)
    assert scaled == pytest.approx(scale * base, rel=1e-5)


def test_fit_temperature_ends_at_its_bounds_where_the_loss_has_no_minimum() -> None:
    logits, labels = torch.eye(3), torch.arange(3)
    assert fit_temperature(logits, labels) == pytest.approx(TEMPERATURES[0])
    assert fit_temperature(logits, labels.flip(0).roll(1)) == pytest.approx(TEMPERATURES[1])


def test_contrast_equals_the_difference_of_two_softmaxes_at_the_label() -> None:
    generator = np.random.default_rng(4)
    whole, inner = generator.normal(0, 3, (2, 6, 5))
    labels = np.array([0, 4, 2, 2, 1, 3])
    expected = [
        math.exp(a[y]) / sum(map(math.exp, a)) - math.exp(b[y]) / sum(map(math.exp, b))
        for a, b, y in zip(whole, inner, labels, strict=True)
    ]
    found = contrast(*(torch.from_numpy(part) for part in (whole, inner, labels)))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    assert found.min() < 0 < found.max()


def test_contrast_of_bfloat16_logits_is_float32_without_overflow() -> None:
    sure, unsure = torch.tensor([[1e30, -1e30]]).bfloat16(), torch.tensor([[0.0, 0.0]]).bfloat16()
    value = contrast(sure, unsure, torch.tensor([0]))
    assert (value.dtype, value.tolist()) == (torch.float32, [0.5])


def test_equivariance_equals_the_iou_with_the_box_mirrored_back() -> None:
    generator = np.random.default_rng(5)
    found, other = (np.sort(generator.random((7, 2, 2)), 1).reshape(7, 4) for _ in range(2))
    expected = []
    for (a1, b1, a2, b2), (x1, y1, x2, y2) in zip(found, other, strict=True):
        left, right = 1 - x2, 1 - x1
        width, height = min(a2, right) - max(a1, left), min(b2, y2) - max(b1, y1)
        both = max(width, 0) * max(height, 0)
        expected.append(both / ((a2 - a1) * (b2 - b1) + (x2 - x1) * (y2 - y1) - both))
    result = equivariance(torch.from_numpy(found), torch.from_numpy(other))
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-6)
    assert result.max() > 0


def test_equivariance_of_a_localizer_that_mirrors_with_the_image_is_one() -> None:
    boxes = torch.tensor([[0.125, 0.25, 0.5, 0.75]])
    assert equivariance(boxes, torch.tensor([[0.5, 0.25, 0.875, 0.75]])).tolist() == [1.0]


@pytest.mark.parametrize(("keep", "count"), [(0.3, 3), (0.01, 1), (1.0, 10), (0.64, 6), (0.66, 7)])
def test_best_share_takes_the_highest_scores_and_of_equal_ones_the_first(keep: float, count: int) -> None:
    scores = [0.5, 0.9, -0.2, 0.5, 0.1, 0.9, 0.3, 0.5, 0.0, 0.7]
    order = sorted(range(10), key=lambda place: (-scores[place], place))
    found = best_share(torch.tensor(scores), keep)
    assert found.nonzero()[:, 0].tolist() == sorted(order[:count])
    assert share_count(keep, 10) == count
