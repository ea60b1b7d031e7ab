"""Augmentation (paper 4.3): the general view of an image, and the strong augmentation S of a view and its box.

Random numbers are drawn on the CPU into small frozen values (:class:`ViewDraw`, :class:`StrongDraw`), so that a draw can
be repeated, moved to a device and carried out by either backend of S: :func:`strong` here (``batched``: one resampling per
image, on the device of the images) or ``lchp.data.imgaug_backend.strong`` (the paper's library, image by image). imgaug's
meaning is the reference.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import grid_sample

from lchp.method.boxes import clip

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's pixels per channel (red, green, blue) on a 0..1 scale, as torchvision's weights expect."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's pixels per channel on a 0..1 scale, as torchvision's weights expect."""

SCALE = (0.8, 1.2)
"""Range of the strong scaling factor per axis (paper 4.3: 80 to 120%)."""
TRANSLATION = 0.25
"""Largest crop or pad of a side as a fraction of the view (paper 4.3: 25%)."""
TRANSLATION_PROBABILITY = 0.5
"""Share of images that are cropped or padded at all (paper 4.3: 50%)."""
FLIP_PROBABILITY = 0.5
"""Probability of the strong flip per direction (paper 4.3: 50%)."""


@dataclass(frozen=True)
class ViewDraw:
    """One general view per image: where the crop begins, and whether it is flipped."""

    left: Tensor
    """First column of the crop in pixels: (n,), int64."""
    top: Tensor
    """First row of the crop in pixels: (n,), int64."""
    flipped: Tensor
    """Whether the crop is mirrored left to right: (n,), bool."""

    def to(self, device: torch.device | str) -> ViewDraw:
        """The same draw on ``device``."""
        return ViewDraw(_move(self.left, device), _move(self.top, device), _move(self.flipped, device))


@dataclass(frozen=True)
class StrongDraw:
    """One strong augmentation per image, carried out in this order: scale, crop or pad, flip."""

    size: int
    """Side of the view in pixels, in which ``padding`` counts."""
    scale: Tensor
    """Factor along x and y about the centre of the view: (n, 2), float32, 1 leaves as is."""
    padding: Tensor
    """Whole pixels added to the (top, right, bottom, left), negative ones cropped: (n, 4), int64, 0 leaves as is."""
    flipped: Tensor
    """Whether the view is mirrored (left to right, top to bottom): (n, 2), bool."""

    def to(self, device: torch.device | str) -> StrongDraw:
        """The same draw on ``device``."""
        return StrongDraw(
            self.size, _move(self.scale, device), _move(self.padding, device), _move(self.flipped, device)
        )


def _move(tensor: Tensor, device: torch.device | str) -> Tensor:
    # Towards the CPU an asynchronous copy could be read before it has arrived.
    return tensor.to(device, non_blocking=torch.device(device).type != "cpu")


def draw_view(count: int, resize: int, crop: int, flip: float, generator: Generator) -> ViewDraw:
    """Draw ``count`` general views (paper 4.3): a window of ``crop`` x ``crop`` pixels anywhere in an image of ``resize`` x
    ``resize``, every place as likely, mirrored left to right with probability ``flip``.

    ``generator`` lives on the CPU, and so does the result.
    """
    assert 0 < crop <= resize
    corners = torch.randint(0, resize - crop + 1, (count, 2), generator=generator)
    flipped = torch.rand(count, generator=generator, dtype=torch.float32) < flip
    return ViewDraw(corners[:, 0], corners[:, 1], flipped)


def general_view(images: Tensor, draw: ViewDraw, crop: int) -> Tensor:
    """The drawn windows of ``images`` (n, channels, height, width): (n, channels, crop, crop) of the same type.

    Pixels are copied, never interpolated. ``draw`` lies on the device of the images.
    """
    count, channels = images.shape[:2]
    steps = torch.arange(crop, device=images.device)
    across = torch.where(draw.flipped[:, None], crop - 1 - steps, steps)
    columns = (draw.left[:, None] + across)[:, None, None, :]
    rows = (draw.top[:, None] + steps)[:, None, :, None]
    image = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    return images[image, channel, rows, columns]


def normalise(images: Tensor) -> Tensor:
    """uint8 images (n, 3, height, width), red green blue, as float32: over ImageNet, mean 0 and deviation 1 per channel."""
    # Python numbers, not a constant tensor: creating that on a device would wait for it.
    channels = [(images[:, i].float() / 255 - IMAGENET_MEAN[i]) / IMAGENET_STD[i] for i in range(3)]
    return torch.stack(channels, 1)


def draw_strong(count: int, size: int, augmentation: str, generator: Generator) -> StrongDraw:
    """Draw ``count`` strong augmentations S of views of ``size`` x ``size`` pixels (paper 4.3, method notes 20).

    ``augmentation`` is a subset of scale, translation and flip joined by ``+``, or ``none``. Scale: a factor per axis,
    uniform in 0.8 to 1.2. Translation: for half of the images each side is, independently, cropped (below 0) or padded
    (above 0) by a uniform -25 to +25% of the view, rounded to whole pixels, halves to even, as imgaug's CropAndPad does.
    Flip: one half per direction.

    Nine numbers are taken from the CPU ``generator`` per image whatever the subset, so that trials that differ in it alone
    meet the same scales, translations and flips wherever they share them. Raises ValueError for an unknown name.
    """
    names = set() if augmentation == "none" else set(augmentation.split("+"))
    if not names <= {"scale", "translation", "flip"}:
        raise ValueError(f"augmentation {augmentation!r}: write none, or scale, translation, flip joined by '+'")
    drawn = torch.rand(count, 9, generator=generator, dtype=torch.float32)
    scale = SCALE[0] + (SCALE[1] - SCALE[0]) * drawn[:, :2]
    moved = drawn[:, 2:3] < TRANSLATION_PROBABILITY
    padding = torch.round((2 * drawn[:, 3:7] - 1) * TRANSLATION * size).long() * moved
    flipped = drawn[:, 7:] < FLIP_PROBABILITY
    return StrongDraw(
        size,
        scale if "scale" in names else torch.ones_like(scale),
        padding if "translation" in names else torch.zeros_like(padding),
        flipped if "flip" in names else torch.zeros_like(flipped),
    )


def strong_boxes(boxes: Tensor, draw: StrongDraw) -> Tensor:
    """The boxes (n, 4) of the strong views: corners follow the image, and what leaves the view is clipped at the end.

    A box that left the view altogether has area 0.
    """
    scale, padding = draw.scale.to(boxes.dtype), draw.padding.to(boxes.dtype) / draw.size
    before, after = padding[:, [3, 0]], padding[:, [1, 2]]
    corners = boxes.reshape(-1, 2, 2)
    corners = (corners - 0.5) * scale[:, None] + 0.5
    corners = (corners + before[:, None]) / (1 + before + after)[:, None]
    corners = torch.where(draw.flipped[:, None], 1 - corners.flip(1), corners)
    return clip(corners.flatten(1))


def _sampling(draw: StrongDraw, axis: int) -> tuple[Tensor, Tensor]:
    """Where each output column (axis 0) or row (axis 1) samples the source, in pixel indices, and the share of it that
    shows the canvas rather than fill: (n, size) each.

    The canvas between scaling and translation has the size of the view, and what scaling pushed over its edge is lost: the
    share is 0 where the translation reaches beyond it, and across its edge the canvas and the fill are blended.
    """
    size = draw.size
    before, after = (draw.padding[:, 3], draw.padding[:, 1]) if axis == 0 else (draw.padding[:, 0], draw.padding[:, 2])
    steps = torch.arange(size, device=draw.scale.device)
    output = torch.where(draw.flipped[:, axis, None], size - 1 - steps, steps)
    length = (size + before + after)[:, None]
    moved = ((output + 0.5) * (length / size) - 0.5).clamp(min=0)
    canvas = torch.minimum(moved, length - 1) - before[:, None]
    shown = torch.minimum(canvas + 1, size - canvas).clamp(0, 1)
    centre = (size - 1) / 2
    return (canvas.clamp(0, size - 1) - centre) / draw.scale[:, axis, None] + centre, shown


def strong(images: Tensor, boxes: Tensor, draw: StrongDraw) -> tuple[Tensor, Tensor]:
    """S on normalised views (n, channels, size, size) of any float type and their boxes (n, 4): the backend ``batched``.

    One bilinear resampling per image. What lies outside is 0 (the mean colour of a normalised image), and so is what the
    scaling pushed out of the view, even where the translation would bring it back. ``draw`` lies on the device of the images.
    """
    assert images.shape[-2:] == (draw.size, draw.size)
    (columns, across), (rows, down) = _sampling(draw, 0), _sampling(draw, 1)
    grid = torch.stack([columns[:, None, :].expand(-1, draw.size, -1), rows[:, :, None].expand(-1, -1, draw.size)], -1)
    # Coordinates in half precision would be off by pixels.
    wide = torch.promote_types(images.dtype, torch.float32)
    grid = ((2 * grid + 1) / draw.size - 1).to(wide)
    seen = grid_sample(images.to(wide), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    shown = (down[:, :, None] * across[:, None, :])[:, None]
    return (seen * shown).to(images.dtype), strong_boxes(boxes, draw)
