"""Augmentation (paper 4.3): the general view of an image, and the strong augmentation S of a view and its box.

Random numbers are drawn on the CPU into small frozen values (:class:`ViewDraw`, :class:`StrongDraw`), so that a draw
can be repeated, moved to a device and carried out by either backend of S: :func:`strong` here (``batched``: one
resampling per image, on the device of the images) or ``lchp.data.imgaug_backend.strong`` (the paper's library, image by
image). imgaug's meaning is the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from lchp.method.boxes import clip, mirrored
from lchp.vocabulary import STRONG_AUGMENTATIONS

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
        return ViewDraw(*_moved((self.left, self.top, self.flipped), device))

    def at(self, rows: Tensor) -> ViewDraw:
        """The draws of the images at ``rows`` (m,) int64, each as often as it is named."""
        return ViewDraw(self.left[rows], self.top[rows], self.flipped[rows])


@dataclass(frozen=True)
class StrongDraw:
    """One strong augmentation per image, carried out in this order: scale, crop or pad, flip. Axes are x, y."""

    size: int
    """Side of the view in pixels, in which ``before`` and ``after`` count."""
    scale: Tensor
    """Factor along each axis about the centre of the view: (n, 2), float32, 1 leaves as is."""
    before: Tensor
    """Whole pixels added at the left and the top, negative ones cropped: (n, 2), int64, 0 leaves as is."""
    after: Tensor
    """Whole pixels added at the right and the bottom, negative ones cropped: (n, 2), int64, 0 leaves as is."""
    flipped: Tensor
    """Whether the view is mirrored left to right, top to bottom: (n, 2), bool."""

    def to(self, device: torch.device | str) -> StrongDraw:
        """The same draw on ``device``."""
        return StrongDraw(self.size, *_moved((self.scale, self.before, self.after, self.flipped), device))


def _moved(tensors: Sequence[Tensor], device: torch.device | str) -> list[Tensor]:
    """Tensors that all lie on one device, on ``device``; from the CPU to another they travel as one copy."""
    if tensors[0].device.type != "cpu" or torch.device(device).type == "cpu":
        return [tensor.to(device) for tensor in tensors]
    return _unpacked(_packed(tensors).to(device, non_blocking=True), tensors)


def _packed(tensors: Sequence[Tensor]) -> Tensor:
    """The bytes of all tensors, one behind the other."""
    return torch.cat([tensor.flatten().contiguous().view(torch.uint8) for tensor in tensors])


def _unpacked(packed: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of the types and shapes of ``like`` from the bytes of :func:`_packed`; what lies before one fills a whole
    number of its values.
    """
    parts = torch.split(packed, [tensor.nbytes for tensor in like])
    return [part.view(tensor.dtype).view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


def draw_view(count: int, resize: int, crop: int, flip: float, generator: Generator) -> ViewDraw:
    """Draw ``count`` general views (paper 4.3): a window of ``crop`` x ``crop`` pixels anywhere in an image of
    ``resize`` x ``resize``, every place as likely, mirrored left to right with probability ``flip``.

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
    if images.device.type == "cpu" and not torch.compiler.is_compiling():
        return _sliced(images, draw, crop)
    count, channels = images.shape[:2]
    steps = torch.arange(crop, device=images.device)
    across = torch.where(draw.flipped[:, None], crop - 1 - steps, steps)
    columns = (draw.left[:, None] + across)[:, None, None, :]
    rows = (draw.top[:, None] + steps)[:, None, :, None]
    image = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    return images[image, channel, rows, columns]


def _sliced(images: Tensor, draw: ViewDraw, crop: int) -> Tensor:
    """What a gather of single pixels gives, row by row: it costs a twentieth, but wants the draw as numbers."""
    views = images.new_empty(*images.shape[:2], crop, crop)
    for index, (left, top, flipped) in enumerate(
        zip(draw.left.tolist(), draw.top.tolist(), draw.flipped.tolist(), strict=True)
    ):
        window = images[index, :, top : top + crop, left : left + crop]
        views[index] = window.flip(-1) if flipped else window
    return views


def view_boxes(boxes: Tensor, draw: ViewDraw, resize: int, crop: int) -> Tensor:
    """Boxes (n, 4) of whole images, as boxes of the drawn windows of those images resized to ``resize`` pixels a side.

    Corners follow the pixels of :func:`general_view`; what lies outside the window is clipped. A box that lies outside
    altogether becomes a line or point at the window's edge, of area 0. ``draw`` lies on the device of the boxes.
    """
    start = torch.stack([draw.left, draw.top, draw.left, draw.top], 1)
    inside = clip((boxes * resize - start) / crop)
    return torch.where(draw.flipped[:, None], mirrored(inside), inside)


def normalised_view(images: Tensor, draw: ViewDraw, crop: int) -> Tensor:
    """The drawn windows of red-green-blue uint8 images (:func:`general_view`) as networks take them, float32."""
    return normalise(general_view(images, draw, crop))


def normalise(images: Tensor) -> Tensor:
    """Red-green-blue uint8 images (n, 3, height, width) as float32: mean 0 and deviation 1 a channel over ImageNet."""
    # Python numbers, not a constant tensor: creating that on a device would wait for it.
    views = images.to(torch.float32, copy=True)
    for channel in range(3):
        views[:, channel].div_(255).sub_(IMAGENET_MEAN[channel]).div_(IMAGENET_STD[channel])
    return views


def draw_strong(count: int, size: int, augmentation: str, generator: Generator, share: float = 1.0) -> StrongDraw:
    """Draw ``count`` strong augmentations S of views of ``size`` x ``size`` pixels (paper 4.3, method notes 20).

    ``augmentation`` is a subset of scale, translation and flip joined by ``+``, or ``none``. Scale: a factor per axis,
    uniform in 0.8 to 1.2. Translation: for half of the images each side is, independently, cropped (below 0) or padded
    (above 0) by a uniform -25 to +25% of the view, rounded to whole pixels, halves to even, like imgaug's CropAndPad.
    Flip: one half per direction.

    Nine numbers are taken from the CPU ``generator`` per image whatever the subset, so that trials that differ in it
    alone meet the same scales, translations and flips wherever they share them. With a ``share`` below 1 a tenth says
    whether the view is changed at all, which it is with that probability. ValueError for an unknown name.
    """
    names = set() if augmentation == "none" else set(augmentation.split("+"))
    if not names <= {*STRONG_AUGMENTATIONS}:
        raise ValueError(
            f"augmentation {augmentation!r}: write none, or {', '.join(STRONG_AUGMENTATIONS)} joined by '+'"
        )
    drawn = torch.rand(count, 9, generator=generator, dtype=torch.float32)
    scale = SCALE[0] + (SCALE[1] - SCALE[0]) * drawn[:, :2]
    moved = drawn[:, 2:3] < TRANSLATION_PROBABILITY
    sides = torch.round((2 * drawn[:, 3:7] - 1) * TRANSLATION * size).long() * moved
    flipped = drawn[:, 7:] < FLIP_PROBABILITY
    if "scale" not in names:
        scale = torch.ones_like(scale)
    if "translation" not in names:
        sides = torch.zeros_like(sides)
    if "flip" not in names:
        flipped = torch.zeros_like(flipped)
    if share < 1:
        changed = torch.rand(count, 1, generator=generator, dtype=torch.float32) < share
        scale = torch.where(changed, scale, 1.0)
        sides, flipped = sides * changed, flipped & changed
    return StrongDraw(size, scale, sides[:, :2], sides[:, 2:], flipped)


def strong_boxes(boxes: Tensor, draw: StrongDraw) -> Tensor:
    """The boxes (n, 4) of the strong views: corners follow the image, and what leaves the view is clipped at the end.

    A box that left the view altogether has area 0. A box given with crossed ends is read as the rectangle between
    its two corners, as imgaug does.
    """
    before, after = draw.before.to(boxes.dtype) / draw.size, draw.after.to(boxes.dtype) / draw.size
    corners = boxes.reshape(-1, 2, 2)
    corners = (corners - 0.5) * draw.scale.to(boxes.dtype)[:, None] + 0.5
    corners = (corners + before[:, None]) / (1 + before + after)[:, None]
    corners = torch.where(draw.flipped[:, None], 1 - corners, corners)
    return clip(torch.cat([corners.amin(1), corners.amax(1)], 1))


def strong(images: Tensor, boxes: Tensor, draw: StrongDraw) -> tuple[Tensor, Tensor]:
    """S on normalised views (n, channels, size, size) of any float type and their boxes (n, 4): backend ``batched``.

    What lies outside is 0 (the mean colour of a normalised image), and so is what the scaling pushed out of the view,
    even where the translation would bring it back. ``draw`` lies on the device of the images. Half-precision images are
    resampled in float32, under autocast too.
    """
    assert images.shape[-2:] == (draw.size, draw.size)
    wide = torch.promote_types(images.dtype, torch.float32)
    resample = _by_products if images.device.type == "cpu" and draw.size > _WHOLE_SUM else _by_taps
    with torch.autocast(images.device.type, enabled=False):
        views = resample(images.to(wide), draw)
    return views.to(images.dtype), strong_boxes(boxes, draw)


_WHOLE_SUM = 192
"""Terms that MKL adds up in one go. Of longer products it adds parts, which rounds another way where the few terms that
are not 0 lie in two of them: one pixel of 500, by 2.4e-7. There the CPU keeps to the products, and so to its bits.
"""

_TAPS = 4
"""Pixels, one behind the other, that hold all an output pixel takes along an axis: two of the canvas, whose sources are
at most 1 / 0.8 apart, of two each.
"""


def _by_products(images: Tensor, draw: StrongDraw) -> Tensor:
    """The images of S, by matrices that say what each output pixel takes of each input pixel, mostly zeros."""
    pixels = torch.arange(draw.size, device=images.device)
    columns, rows = (_taken(draw, axis, pixels).to(images.dtype).unsqueeze(1) for axis in (0, 1))
    return rows @ images @ columns.mT


def _by_taps(images: Tensor, draw: StrongDraw) -> Tensor:
    """The images of S, by sums of the few rows, and then of the few columns, that each output pixel takes any of."""
    return _summed_rows(_summed_rows(images, draw, 1).mT.contiguous(), draw, 0).mT.contiguous()


def _summed_rows(images: Tensor, draw: StrongDraw, axis: int) -> Tensor:
    """S along one axis, over the rows of ``images`` (n, channels, size, size)."""
    count, channels, size, width = images.shape
    pixels = _source(_crop_or_pad(draw, axis)[0], draw, axis).floor().unsqueeze(2)
    pixels = pixels + torch.arange(_TAPS, device=images.device)
    weights = _taken(draw, axis, pixels) * ((pixels >= 0) & (pixels < size))
    planes = torch.arange(count * channels, device=images.device).reshape(count, channels, 1, 1)
    rows = planes * size + pixels.clamp(0, size - 1).long().unsqueeze(1)
    sums = functional.embedding_bag(
        rows.reshape(-1, _TAPS),
        images.reshape(-1, width),
        per_sample_weights=weights.to(images.dtype).unsqueeze(1).expand_as(rows).reshape(-1, _TAPS),
        mode="sum",
    )
    return sums.reshape(images.shape)


def _taken(draw: StrongDraw, axis: int, pixels: Tensor) -> Tensor:
    """What each output pixel takes of each of ``pixels`` along one axis, which are the same for all, (k,), or its own,
    (n, size, k): (n, size, k).

    imgaug resamples twice, bilinearly: each output pixel blends two pixels of the scaled canvas, each of those two
    pixels of the input. Blending the blends here gives its images in one step, where a single bilinear look-up would be
    sharper (on photographs of 64 px by 2/255 on average). The canvas has the size of the view, and what scaling pushed
    over its edge is lost: a canvas pixel beyond the edge takes nothing.
    """
    first, share = _crop_or_pad(draw, axis)
    taken = torch.zeros((), device=pixels.device)
    for canvas, weight in ((first, 1 - share), (first + 1, share)):
        inside = (canvas >= 0) & (canvas < draw.size)
        near = (1 - (_source(canvas, draw, axis).unsqueeze(2) - pixels).abs()).clamp(min=0)
        taken = taken + (weight * inside).unsqueeze(2) * near
    return taken


def _source(canvas: Tensor, draw: StrongDraw, axis: int) -> Tensor:
    """Where pixels (n, size) of the scaled canvas lie in the view, along one axis."""
    centre = (draw.size - 1) / 2
    return (canvas - centre) / draw.scale[:, axis, None] + centre


def _crop_or_pad(draw: StrongDraw, axis: int) -> tuple[Tensor, Tensor]:
    """The canvas pixel that each output pixel begins with (int64), and the share it takes of the next: (n, size) each.

    imgaug crops or pads, then resizes to the view: bilinearly, or, where either axis has become shorter than the view,
    by OpenCV's area interpolation, the mean over the stretch that an output pixel covers.
    """
    lengths = draw.size + draw.before + draw.after
    length = lengths[:, axis, None]
    pixels = torch.arange(draw.size, device=length.device)
    output = torch.where(draw.flipped[:, axis, None], draw.size - 1 - pixels, pixels)
    place = ((output + 0.5) * (length / draw.size) - 0.5).clamp(min=0)
    place = torch.minimum(place, length - 1)
    covered = output * length // draw.size
    beyond = ((output + 1) * length - (covered + 1) * draw.size).clamp(min=0) / length
    shorter = (lengths < draw.size).any(1)[:, None]
    first = torch.where(shorter, covered, place.long())
    share = torch.where(shorter, beyond, place - place.floor())
    return first - draw.before[:, axis, None], share
