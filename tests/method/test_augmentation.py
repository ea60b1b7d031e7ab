"""The general view and the strong augmentation (draws, boxes, images), against NumPy references from the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lchp.method import augmentation
from lchp.method.augmentation import StrongDraw, ViewDraw

SUBSETS = ("none", "scale", "translation", "flip", "scale+translation", "scale+flip", "translation+flip")
EVERYTHING = "scale+translation+flip"


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _draw(
    size: int,
    scale: tuple[float, float] = (1.0, 1.0),
    before: tuple[int, int] = (0, 0),
    after: tuple[int, int] = (0, 0),
    flipped: tuple[bool, bool] = (False, False),
) -> StrongDraw:
    """One image's draw with the given values along x, y."""
    return StrongDraw(
        size, torch.tensor([scale]), torch.tensor([before]), torch.tensor([after]), torch.tensor([flipped])
    )


def _random_boxes(count: int, seed: int = 5) -> torch.Tensor:
    return torch.rand(count, 2, 2, generator=_generator(seed)).sort(1).values.flatten(1)


def _fields(draw: StrongDraw | ViewDraw) -> list[torch.Tensor]:
    return [value for value in vars(draw).values() if isinstance(value, torch.Tensor)]


# The general view


def test_general_view_random_draws_equal_numpy_slices() -> None:
    images = torch.randint(0, 256, (40, 3, 20, 20), dtype=torch.uint8, generator=_generator(1))
    draw = augmentation.draw_view(40, 20, 13, 0.5, _generator(2))
    views = augmentation.general_view(images, draw, 13)
    assert views.dtype == torch.uint8
    for index, view in enumerate(views.numpy()):
        top, left = int(draw.top[index]), int(draw.left[index])
        expected = images[index].numpy()[:, top : top + 13, left : left + 13]
        np.testing.assert_array_equal(view, expected[:, :, ::-1] if draw.flipped[index] else expected)


def test_view_boxes_of_random_draws_are_where_the_pixels_of_the_box_are() -> None:
    draw = augmentation.draw_view(60, 20, 12, 0.5, _generator())
    images = torch.zeros(60, 1, 20, 20, dtype=torch.uint8)
    corners = torch.randint(0, 21, (60, 2, 2), generator=_generator(1)).sort(1).values
    corners[:, 1] = torch.maximum(corners[:, 1], corners[:, 0] + 1).clamp(max=21)
    for image, ((x1, y1), (x2, y2)) in zip(images, corners.tolist(), strict=True):
        image[:, y1:y2, x1:x2] = 1
    found = augmentation.view_boxes(corners.flatten(1) / 20, draw, 20, 12)
    windows = augmentation.general_view(images, draw, 12)
    seen = 0
    for box, window in zip((found * 12).tolist(), windows[:, 0].numpy(), strict=True):
        rows, columns = np.nonzero(window)
        if len(rows):
            seen += 1
            expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(box, expected, atol=1e-4)
        else:
            assert (box[2] - box[0]) * (box[3] - box[1]) == pytest.approx(0, abs=1e-6)
    assert 20 < seen < 60


def test_draw_view_many_draws_reach_every_place_equally() -> None:
    draw = augmentation.draw_view(9_000, 12, 10, 0.25, _generator(3))
    places = np.zeros((3, 3))
    np.add.at(places, (draw.top.numpy(), draw.left.numpy()), 1)
    # Five standard deviations of a binomial count.
    assert np.abs(places - 1_000).max() < 5 * np.sqrt(9_000 * (1 / 9) * (8 / 9))
    assert abs(draw.flipped.float().mean().item() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 9_000)


@pytest.mark.parametrize(("flip", "expected"), [(0.0, False), (1.0, True)])
def test_draw_view_certain_flip_is_always_or_never(flip: float, expected: bool) -> None:
    assert (augmentation.draw_view(500, 8, 8, flip, _generator()).flipped == expected).all()


def test_draw_view_crop_of_full_size_begins_at_zero() -> None:
    draw = augmentation.draw_view(50, 8, 8, 0.5, _generator())
    assert not draw.left.any()
    assert not draw.top.any()


def test_general_view_compiled_in_full_graph_is_the_same() -> None:
    images = torch.randint(0, 256, (4, 3, 20, 20), dtype=torch.uint8, generator=_generator(1))
    draw = augmentation.draw_view(4, 20, 16, 0.5, _generator(2))
    compiled = torch.compile(augmentation.general_view, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images, draw, 16), augmentation.general_view(images, draw, 16), rtol=0, atol=0)


def test_normalise_pixels_equal_numpy_in_float64() -> None:
    images = torch.randint(0, 256, (2, 3, 5, 5), dtype=torch.uint8, generator=_generator(1))
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (images.numpy() / 255.0 - mean[:, None, None]) / deviation[:, None, None]
    result = augmentation.normalise(images)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-6)


# The draw of S


def test_draws_same_seed_are_the_same() -> None:
    for draw in (
        lambda generator: augmentation.draw_strong(30, 64, EVERYTHING, generator),
        lambda generator: augmentation.draw_view(30, 72, 64, 0.5, generator),
    ):
        first, second, other = draw(_generator(7)), draw(_generator(7)), draw(_generator(8))
        assert all(torch.equal(a, b) for a, b in zip(_fields(first), _fields(second), strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(_fields(first), _fields(other), strict=True))


@pytest.mark.parametrize("subset", SUBSETS)
def test_draw_strong_subset_shares_its_part_and_leaves_the_rest(subset: str) -> None:
    whole_generator, part_generator = _generator(4), _generator(4)
    whole = augmentation.draw_strong(50, 64, EVERYTHING, whole_generator)
    part = augmentation.draw_strong(50, 64, subset, part_generator)
    for name, field, neutral in (
        ("scale", "scale", 1),
        ("translation", "before", 0),
        ("translation", "after", 0),
        ("flip", "flipped", 0),
    ):
        expected = getattr(whole, field) if name in subset else torch.full_like(getattr(whole, field), neutral)
        assert torch.equal(getattr(part, field), expected)
    assert torch.equal(whole_generator.get_state(), part_generator.get_state())


@pytest.mark.parametrize("size", [64, 65])
def test_draw_strong_many_draws_have_the_paper_s_ranges_and_shares(size: int) -> None:
    count = 8_000
    draw = augmentation.draw_strong(count, size, EVERYTHING, _generator(6))
    assert draw.scale.min() >= 0.8
    assert draw.scale.max() <= 1.2
    np.testing.assert_allclose(draw.scale.mean(0), 1, atol=5 * 0.4 / np.sqrt(12 * count))
    half = 5 * np.sqrt(0.25 / count)
    np.testing.assert_allclose(draw.flipped.float().mean(0), 0.5, atol=half)
    both = draw.flipped.all(1).float().mean().item()
    assert abs(both - 0.25) < half
    sides = torch.cat([draw.before, draw.after], 1)
    assert sides.abs().max() == 16
    moved = sides.any(1)
    assert abs(moved.float().mean().item() - 0.5) < half
    # Four sides of one image are independent: the correlation of any two is small.
    correlation = np.corrcoef(sides[moved].T.numpy())
    assert np.abs(correlation - np.eye(4)).max() < 5 / np.sqrt(count / 2)


def test_draw_strong_share_leaves_the_rest_as_it_is_and_changes_the_others_as_ever() -> None:
    whole = augmentation.draw_strong(2_000, 64, EVERYTHING, _generator(4))
    part = augmentation.draw_strong(2_000, 64, EVERYTHING, _generator(4), share=0.3)
    changed = (part.scale != 1).any(1)
    assert abs(changed.float().mean().item() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 2_000)
    for field, neutral in (("scale", 1), ("before", 0), ("after", 0), ("flipped", 0)):
        assert torch.equal(getattr(part, field)[changed], getattr(whole, field)[changed])
        assert torch.equal(getattr(part, field)[~changed], torch.full_like(getattr(whole, field), neutral)[~changed])
    assert not (augmentation.draw_strong(100, 64, EVERYTHING, _generator(4), share=0).scale != 1).any()


def test_draw_strong_unknown_word_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'scale\+rotation'.*scale, translation, flip"):
        augmentation.draw_strong(2, 64, "scale+rotation", _generator())


# The boxes of S


def _numpy_box(box: np.ndarray, draw: StrongDraw) -> np.ndarray:
    """The definition, one corner at a time in pixels and float64: scale at the centre, shift, resize, mirror, clip."""
    size, result = draw.size, np.zeros(4)
    for axis in (0, 1):
        scale, flipped = float(draw.scale[0, axis]), bool(draw.flipped[0, axis])
        before, after = int(draw.before[0, axis]), int(draw.after[0, axis])
        ends = []
        for corner in (box[axis], box[axis + 2]):
            pixel = (corner * size - size / 2) * scale + size / 2
            pixel = (pixel + before) * size / (size + before + after)
            ends.append(size - pixel if flipped else pixel)
        low, high = sorted(ends)
        result[axis], result[axis + 2] = min(max(low / size, 0), 1), min(max(high / size, 0), 1)
    return result


_PIXELS = st.tuples(st.integers(-16, 16), st.integers(-16, 16))
_UNIT = st.floats(0, 1)


@settings(max_examples=200, deadline=None)
@given(
    corners=st.tuples(_UNIT, _UNIT, _UNIT, _UNIT),
    scale=st.tuples(st.floats(0.8, 1.2), st.floats(0.8, 1.2)),
    before=_PIXELS,
    after=_PIXELS,
    flipped=st.tuples(st.booleans(), st.booleans()),
)
def test_strong_boxes_any_draw_equals_the_definition(
    corners: tuple[float, float, float, float],
    scale: tuple[float, float],
    before: tuple[int, int],
    after: tuple[int, int],
    flipped: tuple[bool, bool],
) -> None:
    draw = _draw(64, scale, before, after, flipped)
    box = np.array(corners)
    result = augmentation.strong_boxes(torch.from_numpy(box)[None], draw)[0].numpy()
    np.testing.assert_allclose(result, _numpy_box(box, draw), atol=1e-9)
    assert (result >= 0).all()
    assert (result <= 1).all()
    assert (result[2:] >= result[:2]).all()


def test_strong_boxes_box_cropped_away_has_no_area() -> None:
    box = augmentation.strong_boxes(torch.tensor([[0.0, 0.2, 0.1, 0.8]]), _draw(64, before=(-16, 0)))
    assert box[0, 0] == box[0, 2] == 0


# The images of S


def test_strong_no_augmentation_gives_the_same_bits() -> None:
    images = torch.randn(5, 3, 37, 37, generator=_generator(1))
    boxes = _random_boxes(5)
    views, moved = augmentation.strong(images, boxes, augmentation.draw_strong(5, 37, "none", _generator(2)))
    assert torch.equal(views, images)
    torch.testing.assert_close(moved, boxes, rtol=0, atol=1e-6)


def test_strong_flip_alone_mirrors_the_pixels() -> None:
    images = torch.randn(12, 3, 16, 16, generator=_generator(1))
    draw = augmentation.draw_strong(12, 16, "flip", _generator(2))
    views, _ = augmentation.strong(images, _random_boxes(12), draw)
    for image, view, (across, down) in zip(images.numpy(), views.numpy(), draw.flipped.tolist(), strict=True):
        expected = image[:, :: -1 if down else 1, :: -1 if across else 1]
        np.testing.assert_array_equal(view, expected)


def test_strong_pad_fills_with_zero_where_no_image_is() -> None:
    images = torch.ones(1, 3, 64, 64)
    views, _ = augmentation.strong(images, _random_boxes(1), _draw(64, before=(16, 0), after=(0, 16)))
    # 80 x 80 pixels became 64 x 64: the left 12.8 columns and the lowest 12.8 rows are fill.
    assert not views[:, :, :, :12].any()
    assert not views[:, :, 52:, :].any()
    torch.testing.assert_close(views[:, :, :51, 14:], images[:, :, :51, 14:])


def test_strong_enlarged_then_padded_keeps_what_left_the_canvas_blank() -> None:
    size, pad = 64, 16
    images = torch.ones(1, 3, size, size)
    views, box = augmentation.strong(
        images, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), _draw(size, scale=(1.2, 1.2), before=(pad, pad), after=(pad, pad))
    )
    # The canvas takes the middle 64 of 96 pixels. Enlarged content would reach 0.2 * 32 pixels further on every side.
    edge = pad * size / (size + 2 * pad)
    shown = views[0, 0].nonzero()
    assert shown.min() >= int(edge)
    assert shown.max() <= size - 1 - int(edge)
    # Its box still tells where the whole object is, as imgaug's does: only the view clips it.
    reach = (pad - 0.1 * size) / (size + 2 * pad)
    torch.testing.assert_close(box[0], torch.tensor([reach, reach, 1 - reach, 1 - reach]))


@pytest.mark.parametrize("size", [64, 65, 192, 200])
def test_strong_by_few_taps_is_the_product_with_mostly_zeros(size: int) -> None:
    images = torch.randn(4, 3, size, size, generator=_generator(1))
    for seed in range(3):
        draw = augmentation.draw_strong(4, size, EVERYTHING, _generator(seed))
        taps, products = augmentation._by_taps(images, draw), augmentation._by_products(images, draw)
        torch.testing.assert_close(taps, products, rtol=0, atol=1e-6)
        used = taps if size <= 192 else products
        assert torch.equal(augmentation.strong(images, _random_boxes(4), draw)[0], used)


@pytest.mark.parametrize("scale", [0.8, 1.2])
@pytest.mark.parametrize("flipped", [False, True])
def test_strong_taps_hold_everything_at_the_ends_of_the_scales(scale: float, flipped: bool) -> None:
    images = torch.randn(1, 3, 48, 48, generator=_generator(1))
    for before, after in ((0, 0), (12, 12), (-12, 12), (-12, -12), (7, -5)):
        draw = _draw(48, (scale, scale), (before, after), (after, before), (flipped, flipped))
        taps, products = augmentation._by_taps(images, draw), augmentation._by_products(images, draw)
        torch.testing.assert_close(taps, products, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_strong_other_float_types_keep_type_and_values(dtype: torch.dtype) -> None:
    images, boxes = torch.rand(6, 3, 32, 32, generator=_generator(1)), _random_boxes(6)
    draw = augmentation.draw_strong(6, 32, EVERYTHING, _generator(2))
    images, boxes = images.to(dtype), boxes.to(dtype)
    views, moved = augmentation.strong(images, boxes, draw)
    expected, expected_boxes = augmentation.strong(images.float(), boxes.float(), draw)
    assert views.dtype == moved.dtype == dtype
    torch.testing.assert_close(views.float(), expected, rtol=0.01, atol=1e-5)
    torch.testing.assert_close(moved.float(), expected_boxes, rtol=0, atol=0.02)


def test_strong_under_autocast_has_the_same_bits() -> None:
    images, boxes = torch.rand(4, 3, 32, 32, generator=_generator(1)), _random_boxes(4)
    draw = augmentation.draw_strong(4, 32, EVERYTHING, _generator(2))
    expected = augmentation.strong(images, boxes, draw)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = augmentation.strong(images, boxes, draw)
    assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


def test_strong_compiled_in_full_graph_is_the_same() -> None:
    images, boxes = torch.rand(4, 3, 32, 32, generator=_generator(1)), _random_boxes(4)
    draw = augmentation.draw_strong(4, 32, EVERYTHING, _generator(2))
    compiled = torch.compile(augmentation.strong, fullgraph=True, backend="eager")
    for result, expected in zip(compiled(images, boxes, draw), augmentation.strong(images, boxes, draw), strict=True):
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_augmentation_on_cuda_never_waits_for_the_host() -> None:
    images = torch.randint(0, 256, (4, 3, 40, 40), dtype=torch.uint8, generator=_generator(1)).cuda()
    boxes = _random_boxes(4).cuda()
    view, draw = (
        augmentation.draw_view(4, 40, 32, 0.5, _generator(2)),
        augmentation.draw_strong(4, 32, EVERYTHING, _generator(3)),
    )
    torch.cuda.set_sync_debug_mode("error")
    try:
        crops = augmentation.normalise(augmentation.general_view(images, view.to("cuda"), 32))
        result = augmentation.strong(crops, boxes, draw.to("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = augmentation.strong(crops.cpu(), boxes.cpu(), draw)
    for on_device, on_host in zip(result, expected, strict=True):
        torch.testing.assert_close(on_device.cpu(), on_host, rtol=0, atol=1e-4)


def test_draws_moved_to_a_device_keep_their_values() -> None:
    for draw in (
        augmentation.draw_strong(3, 32, EVERYTHING, _generator()),
        augmentation.draw_view(3, 9, 8, 0.5, _generator()),
    ):
        moved = draw.to("cpu")
        assert type(moved) is type(draw)
        assert all(torch.equal(a, b) for a, b in zip(_fields(draw), _fields(moved), strict=True))
        tensors = _fields(draw)
        unpacked = augmentation._unpacked(augmentation._packed(tensors), tensors)
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(tensors, unpacked, strict=True))
        # To a device without values: everything of the way there but the copy itself.
        there = _fields(draw.to("meta"))
        assert [(t.device.type, t.dtype, t.shape) for t in there] == [("meta", t.dtype, t.shape) for t in tensors]
