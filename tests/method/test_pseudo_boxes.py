from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lchp.method import boxes
from lchp.method.pseudo_boxes import (
    Grid,
    PseudoBoxes,
    Reading,
    activation,
    box_of_foreground,
    enlarged,
    mask_out,
    pseudo_boxes,
    scaled,
    single_boxes,
    tightest_box,
)


def activated(maps: Tensor, size: int, normalization: Any) -> Tensor:
    """The activation that Algorithm 1 reads off ``maps``."""
    return scaled(enlarged(maps, size, Reading()), normalization)


def upsampled_by_definition(plane: np.ndarray, size: int) -> np.ndarray:
    """Bilinear interpolation between pixel centres, the border repeated, pixel by pixel."""
    height, width = plane.shape
    out = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            y = min(max((i + 0.5) * height / size - 0.5, 0), height - 1)
            x = min(max((j + 0.5) * width / size - 0.5, 0), width - 1)
            top, left = math.floor(y), math.floor(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            v, u = y - top, x - left
            out[i, j] = (plane[top, left] * (1 - u) + plane[top, right] * u) * (1 - v) + (
                plane[bottom, left] * (1 - u) + plane[bottom, right] * u
            ) * v
    return out


def scaled_by_definition(maps: np.ndarray, size: int, normalization: str) -> np.ndarray:
    """A of one image (c, h, w)."""
    plane = upsampled_by_definition(maps.mean(0), size)
    if normalization == "max":
        return plane / plane.max() if plane.max() > 0 else np.zeros_like(plane)
    span = plane.max() - plane.min()
    return (plane - plane.min()) / span if span > 0 else np.zeros_like(plane)


def box_by_definition(mask: np.ndarray) -> list[float]:
    """The tightest box of one mask (h, w), by visiting every pixel."""
    height, width = mask.shape
    found = [(i, j) for i in range(height) for j in range(width) if mask[i, j]]
    if not found:
        return [0.0, 0.0, 1.0, 1.0]
    rows, columns = zip(*found, strict=True)
    return [min(columns) / width, min(rows) / height, (max(columns) + 1) / width, (max(rows) + 1) / height]


def masked_by_definition(image: np.ndarray, box: list[float]) -> np.ndarray:
    out = image.copy()
    _, height, width = image.shape
    for i in range(height):
        for j in range(width):
            if box[0] <= (j + 0.5) / width < box[2] and box[1] <= (i + 0.5) / height < box[3]:
                out[:, i, j] = 0
    return out


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spotted_images(count: int, size: int, seed: int) -> Tensor:
    """Faint noise with a bright and a fainter spot, so that the two passes find different parts."""
    drawn = generator(seed)
    images = 0.05 * torch.randn(count, 3, size, size, generator=drawn)
    cell = (torch.arange(size) + 0.5) / size
    for brightness in (3.0, 2.0):
        x, y = torch.rand(2, count, 1, generator=drawn)
        spot = torch.exp(-((cell - x) ** 2)[:, None] / 0.02 - ((cell - y) ** 2)[:, :, None] / 0.02)
        images += brightness * spot[:, None]
    return images


def small_trunk() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Conv2d(3, 6, 5, stride=4, padding=2), nn.ReLU()).eval()


@pytest.mark.parametrize("normalization", ["min_max", "max"])
def test_activation_random_maps_equals_definition(normalization: str) -> None:
    maps = torch.randn(3, 5, 4, 3, generator=generator()) + 0.2
    result = activated(maps, 11, normalization)
    expected = np.stack([scaled_by_definition(image, 11, normalization) for image in maps.double().numpy()])
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=2e-6)


def test_activation_min_max_reaches_exactly_zero_and_one() -> None:
    result = activated(torch.rand(4, 7, 6, 6, generator=generator()) * 1e4, 24, "min_max")
    assert result.amin((1, 2)).tolist() == [0.0] * 4
    assert result.amax((1, 2)).tolist() == [1.0] * 4


def test_activation_one_image_does_not_depend_on_its_batch() -> None:
    maps = torch.randn(4, 5, 6, 6, generator=generator())
    together = activated(maps, 24, "min_max")
    alone = torch.cat([activated(image[None], 24, "min_max") for image in maps])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.3, -7.1, 1e-20, 3e10])
def test_activation_constant_maps_min_max_is_zero(value: float) -> None:
    result = activated(torch.full((2, 37, 5, 5), value), 23, "min_max")
    assert torch.equal(result, torch.zeros(2, 23, 23))


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_activation_max_without_positive_value_is_zero(value: float) -> None:
    assert torch.equal(activated(torch.full((2, 3, 4, 4), value), 8, "max"), torch.zeros(2, 8, 8))


def test_activation_bfloat16_maps_is_computed_in_float32() -> None:
    maps = torch.randn(2, 64, 5, 5, generator=generator()).bfloat16()
    result = activated(maps, 20, "min_max")
    assert result.dtype == torch.float32
    assert torch.equal(result, activated(maps.float(), 20, "min_max"))


masks = st.integers(1, 7).flatmap(
    lambda width: st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=7)
)


@settings(max_examples=100, deadline=None)
@given(masks)
def test_tightest_box_any_mask_equals_visiting_every_pixel(rows: list[list[bool]]) -> None:
    mask = np.array(rows)
    result = tightest_box(torch.tensor(rows)[None])
    np.testing.assert_allclose(result[0].numpy(), box_by_definition(mask), rtol=0, atol=1e-7)


def test_tightest_box_batch_with_empty_mask_is_whole_view_there_only() -> None:
    mask = torch.zeros(3, 8, 8, dtype=torch.bool)
    mask[0, 2:5, 1:3] = True
    mask[2, 7, 7] = True
    expected = [[0.125, 0.25, 0.375, 0.625], [0.0, 0.0, 1.0, 1.0], [0.875, 0.875, 1.0, 1.0]]
    assert tightest_box(mask).tolist() == expected


def test_tightest_box_two_distant_parts_holds_both() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0, 3] = mask[0, 3, 0] = True
    assert tightest_box(mask).tolist() == [[0.0, 0.0, 1.0, 1.0]]


@pytest.mark.parametrize("normalization", ["min_max", "max"])
def test_box_of_foreground_is_the_tightest_box_of_the_scaled_maps_bit_by_bit(normalization: Any) -> None:
    """Few and equal values too, of which many lie at the threshold itself."""
    drawn = generator()
    noise = torch.randn(200, 12, 12, generator=drawn) * torch.logspace(-8, 8, 200)[:, None, None]
    steps = torch.randint(-2, 9, (200, 12, 12), generator=drawn) / 10
    flat, broken = torch.full((2, 12, 12), 0.3), torch.full((1, 12, 12), math.nan)
    maps = torch.cat([noise, steps, flat, -flat, torch.zeros(1, 12, 12), broken])
    for delta in (0.0, 0.3, 0.5, 0.7, 1.0):
        expected = tightest_box(scaled(maps, normalization) > delta)
        assert torch.equal(box_of_foreground(maps, delta, normalization), expected)
    whole = (box_of_foreground(maps, 0.7, normalization) == torch.tensor([0.0, 0.0, 1.0, 1.0])).all(1)
    assert whole[-6:].sum() >= 4
    assert not whole[:-6].all()


def test_mask_out_random_boxes_equals_definition() -> None:
    images = torch.randn(6, 3, 9, 9, generator=generator())
    regions = torch.rand(6, 2, 2, generator=generator(1)).sort(1).values.flatten(1)
    result = mask_out(images, regions)
    expected = [masked_by_definition(i, b.tolist()) for i, b in zip(images.numpy(), regions, strict=True)]
    assert np.array_equal(result.numpy(), np.stack(expected))


def test_mask_out_pixel_aligned_box_blanks_exactly_its_pixels_and_leaves_input() -> None:
    images = torch.ones(1, 3, 448, 448)
    result = mask_out(images, torch.tensor([[37 / 448, 5 / 448, 441 / 448, 6 / 448]]))
    assert float(images.sum()) == 3 * 448 * 448
    assert float((result[0, 0] == 0).sum()) == (441 - 37) * (6 - 5)
    assert float(result[0, :, 5, 37:441].abs().sum()) == 0


def test_mask_out_bfloat16_nonfinite_pixel_is_zero() -> None:
    images = torch.full((1, 3, 4, 4), math.inf, dtype=torch.bfloat16)
    result = mask_out(images, torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, torch.zeros_like(images))


def algorithm_1_by_definition(trunk: nn.Module, image: Tensor, delta: float) -> dict[str, object]:
    """Lines 1 to 7 for one image, in NumPy but for the network."""

    def region_of(pixels: np.ndarray) -> list[float]:
        with torch.no_grad():
            maps = trunk(torch.from_numpy(pixels)[None])[0].double().numpy()
        return box_by_definition(scaled_by_definition(maps, pixels.shape[-1], "min_max") > delta)

    region = region_of(image.numpy())
    masked = masked_by_definition(image.numpy(), region)
    other = region_of(masked)
    merged = [min(region[0], other[0]), min(region[1], other[1]), max(region[2], other[2]), max(region[3], other[3])]
    return {"region": region, "masked": masked, "masked_region": other, "merged": merged}


@pytest.mark.parametrize("delta", [0.3, 0.6, 0.8])
def test_pseudo_boxes_batch_equals_algorithm_1_image_by_image(delta: float) -> None:
    trunk = small_trunk()
    images = spotted_images(5, 24, seed=7)
    result = pseudo_boxes(trunk, images, delta, Reading("min_max"))
    for index, image in enumerate(images):
        for name, expected in algorithm_1_by_definition(trunk, image, delta).items():
            np.testing.assert_allclose(getattr(result, name)[index].numpy(), expected, rtol=0, atol=1e-6)
    assert bool((result.merged != result.region).any()), "the second pass must change a box, or it is not tested"
    assert bool((result.region != torch.tensor([0.0, 0.0, 1.0, 1.0])).any(1).all()), "no region may be the whole view"


def test_pseudo_boxes_delta_one_is_the_whole_view() -> None:
    result = pseudo_boxes(small_trunk(), torch.randn(2, 3, 16, 16, generator=generator()), 1.0, Reading("min_max"))
    assert result.merged.tolist() == [[0.0, 0.0, 1.0, 1.0]] * 2
    assert torch.equal(result.masked, torch.zeros(2, 3, 16, 16))


def test_pseudo_boxes_constant_maps_is_the_whole_view_and_finite() -> None:
    result = pseudo_boxes(
        lambda x: x.new_ones(len(x), 4, 3, 3) * 0.1, torch.ones(2, 3, 12, 12), 0.5, Reading("min_max")
    )
    assert all(bool(torch.isfinite(part).all()) for part in result)
    assert result.merged.tolist() == [[0.0, 0.0, 1.0, 1.0]] * 2


def test_pseudo_boxes_trainable_maps_records_no_gradient() -> None:
    trunk, recorded = small_trunk(), []

    def maps_of(images: Tensor) -> Tensor:
        maps = trunk(images)
        recorded.append(maps.requires_grad)
        return maps

    result = pseudo_boxes(maps_of, spotted_images(2, 16, seed=0), 0.5, Reading("min_max"))
    assert recorded == [False, False]
    assert not any(part.requires_grad for part in result)


def test_pseudo_boxes_compiled_whole_gives_the_same() -> None:
    trunk = small_trunk()

    def step(images: Tensor) -> PseudoBoxes:
        return pseudo_boxes(trunk, images, 0.6, Reading("min_max"))

    images = spotted_images(4, 16, seed=0)
    compiled = torch.compile(step, fullgraph=True, backend="eager")(images)
    assert all(torch.equal(one, other) for one, other in zip(compiled, step(images), strict=True))


@pytest.mark.parametrize("normalization", ["min_max", "max"])
def test_pseudo_boxes_of_the_largest_component_drop_the_other_parts(normalization: str) -> None:
    def maps_of(images: Tensor) -> Tensor:
        maps = torch.zeros(len(images), 1, 8, 8)
        maps[:, 0, 1:4, 1:4], maps[:, 0, 6:, 6:] = 1.0, 0.9
        return maps

    images = torch.ones(2, 3, 8, 8)
    result = pseudo_boxes(maps_of, images, 0.5, Reading(normalization, "largest"))
    assert result.region.tolist() == result.merged.tolist() == [[0.125, 0.125, 0.5, 0.5]] * 2
    assert (
        single_boxes(maps_of, images, 0.5, Reading(normalization, "largest")).tolist() == [[0.125, 0.125, 0.5, 0.5]] * 2
    )
    assert pseudo_boxes(maps_of, images, 0.5, Reading(normalization)).region.tolist() == [[0.125, 0.125, 1.0, 1.0]] * 2


def test_single_boxes_are_algorithm_1s_first_region_bit_by_bit() -> None:
    trunk, images = small_trunk(), spotted_images(5, 24, seed=7)
    for component in ("all", "largest"):
        single = single_boxes(trunk, images, 0.6, Reading("min_max", component))
        assert torch.equal(single, pseudo_boxes(trunk, images, 0.6, Reading("min_max", component)).region)
        assert not single.requires_grad


def test_pseudo_boxes_without_the_option_equal_algorithm_1_written_out_bit_by_bit() -> None:
    trunk, images = small_trunk(), spotted_images(5, 24, seed=7)
    with torch.no_grad():
        region = tightest_box(activation(trunk, images, Reading()) > 0.6)
        masked = mask_out(images, region)
        masked_region = tightest_box(activation(trunk, masked, Reading()) > 0.6)
    expected = PseudoBoxes(region, masked, masked_region, boxes.union(region, masked_region))
    result = pseudo_boxes(trunk, images, 0.6, Reading("min_max"))
    assert all(torch.equal(one, other) for one, other in zip(result, expected, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pseudo_boxes_on_cuda_never_waits_for_the_device() -> None:
    trunk = small_trunk().cuda()
    images = spotted_images(4, 16, seed=0)
    on_device = images.cuda()
    pseudo_boxes(trunk, on_device, 0.6, Reading("min_max"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = pseudo_boxes(trunk, on_device, 0.6, Reading("min_max"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = pseudo_boxes(trunk.cpu(), images, 0.6, Reading("min_max"))
    torch.testing.assert_close(result.merged.cpu(), expected.merged, rtol=0, atol=1.5 / 16)


def test_enlarged_between_centres_equals_its_definition() -> None:
    maps = torch.rand(2, 3, 4, 5, generator=generator(), dtype=torch.float64)
    found = enlarged(maps, 30, Reading(enlargement="centred", grid=Grid(2.5, 6)))
    mean = maps.mean(1).numpy()
    for image in range(2):
        for i in range(30):
            for j in range(30):
                y, x = (min(max((pixel - 2.5) / 6, 0), last) for pixel, last in ((i, 3), (j, 4)))
                # np.interp along each axis in turn is bilinear interpolation.
                rows = [np.interp(x, range(5), row) for row in mean[image]]
                assert found[image, i, j].item() == pytest.approx(np.interp(y, range(4), rows), abs=1e-6)
    assert found[0, 8, 14].item() == pytest.approx(np.interp(11.5 / 6, range(5), (mean[0, 0] + 11 * mean[0, 1]) / 12))


def test_enlarged_cell_by_cell_repeats_every_cell_over_its_tile() -> None:
    maps = torch.rand(1, 2, 3, 4, generator=generator())
    found = enlarged(maps, 12, Reading(enlargement="cells"))
    expected = maps.mean(1).repeat_interleave(4, 1).repeat_interleave(3, 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_activation_with_the_mirror_image_is_the_mirror_of_the_mirror_images() -> None:
    images, trunk = torch.rand(3, 3, 24, 24, generator=generator()), small_trunk()
    for enlargement in ("tiled", "centred"):
        reading = Reading(enlargement=enlargement, grid=Grid(0, 8), mirror=True)  # type: ignore[arg-type]
        found = activation(trunk, images, reading)
        torch.testing.assert_close(activation(trunk, images.flip(-1), reading).flip(-1), found, rtol=0, atol=1e-6)
        alone = activation(trunk, images, Reading(enlargement=enlargement, grid=Grid(0, 8)))  # type: ignore[arg-type]
        assert not torch.allclose(found, alone)
