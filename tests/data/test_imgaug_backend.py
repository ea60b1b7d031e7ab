"""The two backends of the strong augmentation: imgaug is the reference, for one draw and for the distribution of draws.

Images are held to a mean absolute difference of 2/255, on a scale where pixels go from 0 to 1, over the pixels at least
three pixels away from every border between image and fill (``_away_from_edges``); boxes to one pixel of the view.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import max_pool2d

from lchp.data import imgaug_backend
from lchp.method import augmentation
from lchp.training.stage_config import AUGMENTATIONS

MARGIN = 3
TOLERANCE = 2 / 255


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(kind: str, count: int, size: int) -> Tensor:
    """Random images in [0, 1]: the amplitude of frequency f falls as f^-1 in photographs; f^-2 is smooth, f^0 white."""
    exponent = {"white": 0.0, "photograph": 1.0, "smooth": 2.0}[kind]
    across = torch.fft.fftfreq(size)
    radius = (across[:, None] ** 2 + across**2).sqrt().clamp(min=1 / size)
    noise = torch.fft.fft2(torch.randn(count, 3, size, size, generator=_generator(1)))
    images = torch.fft.ifft2(noise * radius**-exponent).real
    images = (images - images.mean((2, 3), keepdim=True)) / images.std((2, 3), keepdim=True)
    return (0.5 + 0.2 * images).clamp(0, 1)


def _boxes(count: int) -> Tensor:
    """Boxes anywhere in the view, three of four with an end crossed: a regressor may give such."""
    return torch.rand(count, 4, generator=_generator(2))


def _away_from_edges(images: Tensor, draw: augmentation.StrongDraw) -> Tensor:
    """Where no pixel of fill lies within ``MARGIN`` pixels, by the reference: (n, 1, size, size), 0 or 1."""
    ones, _ = imgaug_backend.strong(torch.ones_like(images), _boxes(len(images)), draw)
    return 1 - max_pool2d((ones[:, :1] < 0.999).float(), 2 * MARGIN + 1, 1, MARGIN)


def _differences(views: Tensor, expected: Tensor, where: Tensor) -> Tensor:
    """Mean absolute difference of each image over the pixels ``where`` is 1: (n,)."""
    return ((views - expected).abs() * where).sum((1, 2, 3)) / (3 * where.sum((1, 2, 3))).clamp(min=1)


@pytest.mark.parametrize("kind", ["smooth", "photograph", "white"])
@pytest.mark.parametrize("subset", AUGMENTATIONS)
def test_backends_same_draw_give_the_same_images_and_boxes(subset: str, kind: str) -> None:
    count, size = 40, 64
    images, boxes = _images(kind, count, size), _boxes(count)
    draw = augmentation.draw_strong(count, size, subset, _generator(3))
    views, moved = augmentation.strong(images, boxes, draw)
    expected, expected_boxes = imgaug_backend.strong(images, boxes, draw)
    assert (moved - expected_boxes).abs().max() * size < 1
    inner = _away_from_edges(images, draw)
    assert inner.mean() > 0.5
    assert _differences(views, expected, inner).max() < TOLERANCE


@pytest.mark.parametrize("size", [63, 112])
def test_backends_other_sizes_agree_on_photograph_like_images(size: int) -> None:
    # Not on white noise: at some sizes OpenCV's floor(x * scale) misses exact whole numbers by rounding and then takes
    # the pixel beside, which shows on noise alone.
    images, boxes = _images("photograph", 24, size), _boxes(24)
    draw = augmentation.draw_strong(24, size, "scale+translation+flip", _generator(4))
    views, moved = augmentation.strong(images, boxes, draw)
    expected, expected_boxes = imgaug_backend.strong(images, boxes, draw)
    assert (moved - expected_boxes).abs().max() * size < 1
    assert _differences(views, expected, _away_from_edges(images, draw)).max() < TOLERANCE


def test_backends_edges_and_fill_agree_too() -> None:
    images = _images("photograph", 40, 64) + 1
    draw = augmentation.draw_strong(40, 64, "scale+translation+flip", _generator(5))
    views, _ = augmentation.strong(images, _boxes(40), draw)
    expected, _ = imgaug_backend.strong(images, _boxes(40), draw)
    assert ((expected == 0) == (views.abs() < 1e-4)).float().mean() > 0.999
    assert (views - expected).abs().mean() < TOLERANCE


def _native_boxes(boxes: np.ndarray, size: int) -> np.ndarray:
    """What imgaug's own random pipeline, as one writes it after the paper, makes of the boxes: clipped, in [0, 1]."""
    imgaug = imgaug_backend.load()
    iaa = imgaug.augmenters
    pipeline = iaa.Sequential(
        [
            iaa.Affine(scale={"x": (0.8, 1.2), "y": (0.8, 1.2)}),
            iaa.Sometimes(0.5, iaa.CropAndPad(percent=(-0.25, 0.25))),
            iaa.Fliplr(0.5),
            iaa.Flipud(0.5),
        ],
        seed=11,
    )
    bounding = imgaug.augmentables.bbs
    shape = (size, size, 3)
    batch = [bounding.BoundingBoxesOnImage([bounding.BoundingBox(*(box * size))], shape=shape) for box in boxes]
    moved = np.concatenate([result.to_xyxy_array() for result in pipeline(bounding_boxes=batch)])
    return np.clip(moved / size, 0, 1)


def test_backends_distribution_of_boxes_is_that_of_imgaug_s_own_pipeline() -> None:
    count, size = 4_000, 64
    boxes = torch.tensor([[0.2, 0.3, 0.6, 0.9]]).repeat(count, 1)
    draw = augmentation.draw_strong(count, size, "scale+translation+flip", _generator(12))
    ours = augmentation.strong_boxes(boxes, draw).numpy()
    native = _native_boxes(boxes.numpy(), size)
    sides = {"width": lambda box: box[:, 2] - box[:, 0], "height": lambda box: box[:, 3] - box[:, 1]}
    for name, value in {**{f"corner {i}": (lambda box, i=i: box[:, i]) for i in range(4)}, **sides}.items():
        result = stats.ks_2samp(value(ours), value(native))
        assert result.pvalue > 1e-3, (name, result)


def test_imgaug_strong_same_draw_twice_has_the_same_bits_and_leaves_its_input() -> None:
    images, boxes = _images("photograph", 6, 32), _boxes(6)
    kept = images.clone(), boxes.clone()
    draw = augmentation.draw_strong(6, 32, "scale+translation+flip", _generator(6))
    state = torch.get_rng_state(), np.random.get_state()[1]
    first, second = imgaug_backend.strong(images, boxes, draw), imgaug_backend.strong(images, boxes, draw)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(images, kept[0])
    assert torch.equal(boxes, kept[1])
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])


def test_imgaug_strong_half_precision_keeps_its_types() -> None:
    images, boxes = _images("smooth", 3, 32).to(torch.bfloat16), _boxes(3).double()
    views, moved = imgaug_backend.strong(images, boxes, augmentation.draw_strong(3, 32, "flip", _generator(7)))
    assert views.dtype == torch.bfloat16
    assert moved.dtype == torch.float64
    assert views.shape == images.shape


def test_imgaug_backend_import_alone_does_not_import_imgaug() -> None:
    code = "import sys, lchp.data, lchp.data.imgaug_backend; sys.exit('imgaug' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0
