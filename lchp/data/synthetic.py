"""Procedurally drawn creatures: a small weakly supervised localization problem that needs no download.

A creature is a patterned disc head (the discriminative part: 2 patterns x 4 colour pairs = 8 classes), a furry
ellipse body whose hue follows the class weakly, and a shaded tail, at a random place, rotation, size, aspect and
bend, over multi-octave colour noise among class-free distractors that the same brushes paint. The body carries
some class evidence, else there is nothing to find once the head is masked; sizes vary widely, else a crop of a creature
has a scale that no training image has.
"""

from __future__ import annotations

import colorsys
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from lchp.data.config import SyntheticDataset
from lchp.vocabulary import TEST, TRAIN

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

PATTERNS = ("striped", "ringed")
HUES = (0.02, 0.28, 0.55, 0.80)
"""Hue of each colour pair: the head mixes it with its complement, the body repeats it with noise."""
CLASSES = tuple(f"{pattern}-{pair}" for pattern in PATTERNS for pair in range(len(HUES)))
BODY_HUE_NOISE = 0.04


@dataclass(frozen=True)
class _Canvas:
    """Pixel centres and the matrices that enlarge a coarse grid of noise to the canvas."""

    x: Floats
    y: Floats
    enlarge: dict[int, Floats]

    @classmethod
    def of_size(cls, size: int) -> _Canvas:
        y, x = np.mgrid[0:size, 0:size] + 0.5
        enlarge = {}
        for cells in (3, 6, 12, 24):
            position = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
            left = np.minimum(position.astype(int), cells - 2)
            weight = np.zeros((size, cells))
            weight[np.arange(size), left] = 1 - (position - left)
            weight[np.arange(size), left + 1] = position - left
            enlarge[cells] = weight
        return cls(x, y, enlarge)

    def noise(self, random: np.random.Generator, channels: int) -> Floats:
        """Multi-octave value noise in about [-1, 1], shape (size, size, channels)."""
        total = np.zeros((*self.x.shape, channels))
        for octave, (cells, weight) in enumerate(self.enlarge.items()):
            grid = random.uniform(-1, 1, (channels, cells, cells))
            total += (weight @ grid @ weight.T).transpose(1, 2, 0) * 0.62**octave
        return total / 1.4

    def local(self, centre: tuple[float, float], angle: float) -> tuple[Floats, Floats]:
        """Coordinates along and across an axis of this angle through ``centre``, in pixels."""
        dx, dy = self.x - centre[0], self.y - centre[1]
        return dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)


def _colour(hue: float, saturation: float, value: float) -> Floats:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _paint(image: Floats, mask: Mask, colour: Floats) -> None:
    image[mask] = np.broadcast_to(colour, image.shape)[mask]


def _furry_ellipse(
    canvas: _Canvas,
    image: Floats,
    random: np.random.Generator,
    centre: tuple[float, float],
    angle: float,
    half: tuple[float, float],
    bend: float,
    hue: float,
) -> Mask:
    """A bent ellipse with a ragged edge and streaks of fur along its axis; gives its mask."""
    along, across = canvas.local(centre, angle)
    across = across + bend * (along / half[0]) ** 2 * half[1]
    ragged = 1 + 0.12 * canvas.noise(random, 1)[..., 0]
    mask: Mask = (along / half[0]) ** 2 + (across / half[1]) ** 2 < ragged
    streaks = np.sin(across * random.uniform(1.2, 2.0) + 3 * canvas.noise(random, 1)[..., 0])
    shade = 0.72 + 0.14 * streaks - 0.18 * across / half[1]
    _paint(image, mask, shade[..., None] * _colour(hue, random.uniform(0.45, 0.7), random.uniform(0.75, 1.0)))
    return mask


def _patterned_disc(
    canvas: _Canvas,
    image: Floats,
    random: np.random.Generator,
    centre: tuple[float, float],
    radius: float,
    pattern: str,
    hue: float,
) -> Mask:
    """A disc of stripes or rings in a hue and its complement; gives its mask."""
    along, across = canvas.local(centre, random.uniform(0, np.pi))
    distance = np.hypot(along, across)
    mask: Mask = distance < radius
    if pattern == "striped":
        first = np.sin(along * 2 * np.pi / max(radius * 0.7, 4.0) + random.uniform(0, 2 * np.pi)) > 0
    else:
        first = np.cos(distance * 2 * np.pi / radius * 1.25) > 0
    colours = np.where(first[..., None], _colour(hue, 0.9, 0.95), _colour(hue + 0.5, 0.85, 0.35))
    _paint(image, mask, colours)
    return mask


def _tail(
    canvas: _Canvas, image: Floats, centre: tuple[float, float], angle: float, length: float, width: float, hue: float
) -> Mask:
    """A shaded wedge that narrows away from ``centre``; gives its mask."""
    along, across = canvas.local(centre, angle)
    mask: Mask = (along > 0) & (along < length) & (np.abs(across) < width * (1 - 0.8 * along / length))
    _paint(image, mask, (0.75 - 0.4 * along / length)[..., None] * _colour(hue, 0.35, 0.8))
    return mask


def _distractor(canvas: _Canvas, image: Floats, random: np.random.Generator) -> None:
    """A class-free shape by the creature's own brushes: an ellipse, a plain disc or a wedge of any hue."""
    size = canvas.x.shape[0]
    centre = (random.uniform(0, size), random.uniform(0, size))
    hue, angle = random.uniform(), random.uniform(0, 2 * np.pi)
    reach = random.uniform(0.07, 0.2) * size
    shape = random.integers(3)
    if shape == 0:
        half = (reach, reach * random.uniform(0.4, 0.9))
        _furry_ellipse(canvas, image, random, centre, angle, half, random.uniform(-0.5, 0.5), hue)
    elif shape == 1:
        along, across = canvas.local(centre, angle)
        mask = np.hypot(along, across) < reach * 0.6
        _paint(image, mask, (0.8 - 0.2 * across / reach)[..., None] * _colour(hue, 0.6, 0.85))
    else:
        _tail(canvas, image, centre, angle, 2 * reach, reach * 0.35, hue)


def _creature(canvas: _Canvas, image: Floats, random: np.random.Generator, label: int) -> Mask:
    """The creature of a class, somewhere inside the canvas; gives the mask of all its parts."""
    size = canvas.x.shape[0]
    pattern, hue = PATTERNS[label // len(HUES)], HUES[label % len(HUES)]
    half_length = random.uniform(11, 31) * size / 72
    half_width = half_length * random.uniform(0.45, 0.75)
    radius = half_length * random.uniform(0.45, 0.6)
    angle, bend = random.uniform(0, 2 * np.pi), random.uniform(-0.5, 0.5)
    margin = min(half_length * 0.85, 0.36 * size)
    centre = (random.uniform(margin, size - margin), random.uniform(margin, size - margin))
    axis = np.array([np.cos(angle), np.sin(angle)])
    body_hue = hue + random.normal(0, BODY_HUE_NOISE)
    back = tuple(np.array(centre) - 0.8 * half_length * axis)
    tail_angle = angle + np.pi + random.uniform(-0.6, 0.6)
    tail = _tail(canvas, image, back, tail_angle, half_length * random.uniform(0.6, 1.0), half_width * 0.45, body_hue)
    body = _furry_ellipse(canvas, image, random, centre, angle, (half_length, half_width), bend, body_hue)
    front = tuple(np.array(centre) + 0.85 * half_length * axis)
    head = _patterned_disc(canvas, image, random, front, radius, pattern, hue)
    return tail | body | head


def draw_image(
    size: int, label: int, random: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], tuple[int, int, int, int]]:
    """One image of class ``label`` and its creature's box.

    Returns uint8 pixels (size, size, 3) and (x1, y1, x2, y2) in pixels, ends exclusive: the tightest rectangle of its
    visible pixels.
    """
    canvas = _Canvas.of_size(size)
    image = 0.5 + 0.28 * canvas.noise(random, 3)
    for _ in range(random.integers(2, 5)):
        _distractor(canvas, image, random)
    mask = _creature(canvas, image, random, label)
    image = image * random.uniform(0.75, 1.2) + random.normal(0, 0.03, image.shape)
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return np.rint(image.clip(0, 1) * 255).astype(np.uint8), box


def draw_dataset(config: SyntheticDataset, folder: Path) -> None:
    """Draws the whole set into ``folder``: PNG images and ``dataset.csv`` in the layout of ``lchp.data.table``.

    The same configuration gives the same pixels. Every image has its own seed, so that a larger set begins with the
    smaller one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for split, count in ((TRAIN, config.train_per_class), (TEST, config.test_per_class)):
        for label, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                random = np.random.default_rng([config.seed, split == TEST, label, index])
                pixels, box = draw_image(config.size, label, random)
                path = f"{split}/{name}/{index:05d}.png"
                Image.fromarray(pixels).save(folder / path)
                rows.append((path, name, split, *box))
    with (folder / "dataset.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split", "x1", "y1", "x2", "y2"))
        writer.writerows(rows)
