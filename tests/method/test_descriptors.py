from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lchp.method.descriptors import DescriptorMoments, PrincipalAxes, ddt_boxes, projection


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_descriptors(seed: int = 0) -> Tensor:
    """Nine images of 6 channels at 3 x 4 places, with a mean far from 0 and an axis that stands out."""
    drawn = generator(seed)
    descriptors = torch.randn(9, 6, 3, 4, generator=drawn) + torch.tensor([5.0, -3, 1, 0, 2, 7])[:, None, None]
    return descriptors + 3 * torch.randn(9, 1, 3, 4, generator=drawn) * torch.randn(6, 1, 1, generator=drawn)


def fitted(descriptors: Tensor, groups: list[int], count: int) -> PrincipalAxes:
    moments = DescriptorMoments(count, descriptors.shape[1])
    moments.add(descriptors, torch.tensor(groups))
    return moments.principal_axes()


def axis_by_definition(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and first axis of the places of ``images`` (n, C, h, w), by singular values of the centred matrix."""
    rows = np.stack([image[:, i, j] for image in images for i in range(image.shape[1]) for j in range(image.shape[2])])
    mean = rows.mean(0)
    axis = np.linalg.svd(rows - mean)[2][0]
    h, energy = (rows - mean) @ axis, (rows**2).sum(1)
    return mean, axis if np.mean(h * (energy - energy.mean())) > 0 else -axis


def test_principal_axes_in_batches_equal_singular_vectors_of_each_class() -> None:
    descriptors, groups = random_descriptors(), torch.tensor([0, 2, 2, 0, 1, 2, 0, 2, 1])
    moments = DescriptorMoments(3, 6)
    for batch in (slice(0, 4), slice(4, 5), slice(5, 9)):
        moments.add(descriptors[batch], groups[batch])
    result = moments.principal_axes()
    for group in range(3):
        mean, axis = axis_by_definition(descriptors[groups == group].double().numpy())
        np.testing.assert_allclose(result.mean[group].numpy(), mean, rtol=0, atol=1e-9)
        np.testing.assert_allclose(result.axis[group].numpy(), axis, rtol=0, atol=1e-9)
    assert moments.count.tolist() == [36, 24, 48]


def test_principal_axes_do_not_depend_on_batches_but_by_rounding() -> None:
    descriptors, groups = random_descriptors(1), torch.zeros(9, dtype=torch.int64)
    together, apart = DescriptorMoments(1, 6), DescriptorMoments(1, 6)
    together.add(descriptors, groups)
    for image in descriptors:
        apart.add(image[None], groups[:1])
    torch.testing.assert_close(together.principal_axes(), apart.principal_axes(), rtol=0, atol=1e-12)


def planted(foreground: Tensor, background: Tensor) -> Tensor:
    """Four images of 8 x 8 places: a block of ``foreground`` (C,) in a sea of ``background`` (C,), both with noise."""
    maps = background[None, :, None, None].repeat(4, 1, 8, 8)
    for i in range(4):
        maps[i, :, i : i + 3, 2:6] = foreground[:, None, None]
    return maps + 0.01 * torch.randn(maps.shape, generator=generator())


@pytest.mark.parametrize("turn", [1.0, -1.0])
def test_ddt_the_side_of_larger_descriptors_is_positive_whatever_their_sign(turn: float) -> None:
    strong, weak = turn * torch.tensor([3.0, 1, 0, 2, 4]), turn * torch.tensor([1.0, 1, 1, 0, 0])
    expected = [[0.25, i / 8, 0.75, (i + 3) / 8] for i in range(4)]
    groups = torch.zeros(4, dtype=torch.int64)
    descriptors = planted(strong, weak)
    axes = fitted(descriptors, [0] * 4, 1)
    h = projection(descriptors, axes, groups)
    assert bool((h[0, 0:3, 2:6] > 0).all())
    assert ddt_boxes(h, 0.0).tolist() == expected
    assert ddt_boxes(h, 0.5).tolist() == expected
    # With the strong descriptors around it, it is the sea that stands out.
    inverse = planted(weak, strong)
    h = projection(inverse, fitted(inverse, [0] * 4, 1), groups)
    assert bool((h[0, 0:3, 2:6] < 0).all())
    assert ddt_boxes(h, 0.0).tolist() == [[0.0, 0.0, 1.0, 1.0]] * 4


def two_backgrounds() -> Tensor:
    """Four images of 8 x 8 places with noise: left and right of column 4 lie two things of norm 3, between which places
    differ most; upon both lies a small object of norm 4, three rows high.
    """
    maps = torch.zeros(4, 3, 8, 8)
    maps[:, 0, :, :4] = maps[:, 1, :, 4:] = 3
    for i in range(4):
        maps[i, :, i : i + 3, 2:6] = torch.tensor([0.0, 0, 4])[:, None, None]
    return maps + 0.01 * torch.randn(maps.shape, generator=generator(4))


@pytest.mark.parametrize("unit", [False, True])
def test_ddt_of_several_axes_the_one_that_goes_with_strength_is_the_objects(unit: bool) -> None:
    maps = two_backgrounds()
    groups, strength = torch.zeros(4, dtype=torch.int64), maps.square().sum(1)
    seen = functional.normalize(maps) if unit else maps
    moments = DescriptorMoments(1, 3)
    for batch in (slice(0, 3), slice(3, 4)):
        moments.add(seen[batch], groups[batch], strength[batch])
    expected = [[0.25, i / 8, 0.75, (i + 3) / 8] for i in range(4)]
    assert ddt_boxes(projection(seen, moments.principal_axes(2), groups), 0.4).tolist() == expected
    assert ddt_boxes(projection(seen, moments.principal_axes(1), groups), 0.4).tolist() != expected
    # By definition: of the first two axes of singular values, the one with the larger correlation.
    rows, strong = seen.movedim(1, -1).flatten(0, 2).double().numpy(), strength.flatten().double().numpy()
    first = np.linalg.svd(rows - rows.mean(0))[2][:2]
    correlations = [np.corrcoef((rows - rows.mean(0)) @ axis, strong)[0, 1] for axis in first]
    best = int(np.argmax(np.abs(correlations)))
    assert best == 1
    axis = first[best] * np.sign(correlations[best])
    np.testing.assert_allclose(moments.principal_axes(2).axis[0].numpy(), axis, rtol=0, atol=1e-9)
    # More than there are channels, or than vary, are all there are.
    np.testing.assert_allclose(moments.principal_axes(9).axis[0].numpy(), axis, rtol=0, atol=1e-9)


def test_ddt_sign_of_unit_descriptors_follows_the_norms_they_had() -> None:
    strong, weak = torch.tensor([3.0, 1, 0, 2, 4]), torch.tensor([1.0, 1, 1, 0, 0])
    for inside, outside, side in ((strong, weak, 1), (weak, strong, -1)):
        maps, groups = planted(inside, outside), torch.zeros(4, dtype=torch.int64)
        moments = DescriptorMoments(1, 5)
        moments.add(functional.normalize(maps), groups, maps.square().sum(1))
        h = projection(functional.normalize(maps), moments.principal_axes(), groups)
        assert bool((side * h[0, 0:3, 2:6] > 0).all())


def test_principal_axes_sides_of_equal_size_largest_entry_is_positive() -> None:
    descriptors = torch.tensor([[1.0, 2.0], [-1.0, -2.0]]).T[None, :, None, :]
    axis = fitted(descriptors, [0], 1).axis[0]
    torch.testing.assert_close(axis, torch.tensor([1.0, 2.0], dtype=torch.float64) / 5**0.5)


def test_projection_equals_numpy_place_by_place() -> None:
    descriptors, groups = random_descriptors(2), [0, 1, 1, 0, 1, 0, 0, 1, 0]
    result = projection(descriptors, fitted(descriptors, groups, 2), torch.tensor(groups))
    for i, image in enumerate(descriptors.double().numpy()):
        own = descriptors[torch.tensor(groups) == groups[i]].double().numpy()
        mean, axis = axis_by_definition(own)
        for y in range(3):
            for x in range(4):
                assert abs(float(result[i, y, x]) - float((image[:, y, x] - mean) @ axis)) < 1e-9


def test_ddt_constant_descriptors_and_a_group_without_images_give_the_whole_view() -> None:
    constant = (0.1 * torch.arange(1.0, 6)[None, :, None, None]).repeat(3, 1, 4, 4)
    axes = fitted(constant, [0, 0, 0], 2)
    assert torch.equal(axes.axis, torch.zeros(2, 5, dtype=torch.float64))
    h = projection(constant, axes, torch.tensor([0, 0, 1]))
    assert torch.equal(h, torch.zeros(3, 4, 4, dtype=torch.float64))
    assert ddt_boxes(h, 0.0).tolist() == [[0.0, 0.0, 1.0, 1.0]] * 3


def test_ddt_group_of_one_image_has_its_own_places_axis() -> None:
    descriptors = planted(torch.tensor([2.0, 3, 0]), torch.tensor([0.0, 1, 1]))[:1]
    axes = fitted(descriptors, [0], 1)
    mean, axis = axis_by_definition(descriptors.double().numpy())
    np.testing.assert_allclose(axes.axis[0].numpy(), axis, rtol=0, atol=1e-9)
    np.testing.assert_allclose(axes.mean[0].numpy(), mean, rtol=0, atol=1e-9)
    assert ddt_boxes(projection(descriptors, axes, torch.tensor([0])), 0.0).tolist() == [[0.25, 0.0, 0.75, 0.375]]


def test_descriptor_moments_bfloat16_are_summed_in_double() -> None:
    descriptors = random_descriptors(3).bfloat16()
    axes = fitted(descriptors, [0] * 9, 1)
    torch.testing.assert_close(axes, fitted(descriptors.float(), [0] * 9, 1), rtol=0, atol=0)
    assert axes.axis.dtype == torch.float64


def test_ddt_boxes_threshold_is_a_share_of_each_images_largest_and_parts_are_dropped() -> None:
    h = torch.full((2, 4, 8), -1.0, dtype=torch.float64)
    h[0, 1:3, 2:4] = torch.tensor([[10.0, 4.0], [6.0, 0.4]])
    h[0, 0, 7] = 9.0
    h[1] = h[0] / 100
    assert ddt_boxes(h, 0.0).tolist() == [[0.25, 0.25, 0.5, 0.75]] * 2
    assert ddt_boxes(h, 0.5).tolist() == [[0.25, 0.25, 0.375, 0.75]] * 2
    # Equal in size, the part in the first row comes first.
    assert ddt_boxes(h, 0.7).tolist() == [[0.875, 0.0, 1.0, 0.25]] * 2


def test_ddt_boxes_nothing_positive_is_the_whole_view_at_every_threshold() -> None:
    h = torch.stack([torch.full((3, 3), -2.0), torch.zeros(3, 3)])
    for threshold in (0.0, 0.5):
        assert ddt_boxes(h, threshold).tolist() == [[0.0, 0.0, 1.0, 1.0]] * 2
