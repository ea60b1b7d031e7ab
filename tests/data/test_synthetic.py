from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from lchp.data import synthetic
from lchp.data.config import SYNTHETIC_CLASSES, SyntheticDataset
from lchp.data.reading import open_dataset, read_pixel_boxes
from lchp.data.synthetic import CLASSES, draw_dataset, draw_image

SMALL = {"train_per_class": 3, "test_per_class": 2, "size": 40}


def drawn(folder: Path, **changes: int) -> dict[str, bytes]:
    """Every file of a drawn set by its path."""
    draw_dataset(SyntheticDataset(**{**SMALL, **changes}), folder)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(text: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(text.decode().splitlines()))


def test_draw_dataset_same_seed_same_files_and_another_seed_others(tmp_path: Path) -> None:
    one, two = drawn(tmp_path / "one"), drawn(tmp_path / "two")
    assert one == two
    other = drawn(tmp_path / "other", seed=1)
    assert other.keys() == one.keys()
    assert all(other[path] != one[path] for path in one)


def test_draw_dataset_larger_set_begins_with_the_smaller(tmp_path: Path) -> None:
    small, large = drawn(tmp_path / "small"), drawn(tmp_path / "large", train_per_class=5, test_per_class=4)
    images = {path for path in small if path.endswith(".png")}
    assert images < large.keys()
    assert all(small[path] == large[path] for path in images)
    boxes = {row["path"]: row for row in rows(large["dataset.csv"])}
    assert all(boxes[row["path"]] == row for row in rows(small["dataset.csv"]))


def test_draw_dataset_draws_every_class_and_no_image_twice(tmp_path: Path) -> None:
    files = drawn(tmp_path / "set")
    counts: dict[tuple[str, str], int] = {}
    for row in rows(files["dataset.csv"]):
        counts[row["label"], row["split"]] = counts.get((row["label"], row["split"]), 0) + 1
    assert counts == {(name, split): n for name in CLASSES for split, n in (("train", 3), ("test", 2))}
    images = [content for path, content in files.items() if path.endswith(".png")]
    assert len(set(images)) == len(images) == 40
    assert len(CLASSES) == SYNTHETIC_CLASSES == 8


def test_open_dataset_reads_what_was_drawn(tmp_path: Path) -> None:
    config = SyntheticDataset(**SMALL)
    dataset = open_dataset(config, tmp_path)
    assert set(dataset.classes) == set(CLASSES)
    assert (len(dataset.train), len(dataset.test)) == (24, 16)
    boxes = read_pixel_boxes(config, dataset, dataset.train)
    assert boxes is not None
    for record in dataset.train:
        with Image.open(dataset.root / record.path) as image:
            assert (image.size, image.mode) == ((40, 40), "RGB")
        ((x1, y1, x2, y2),) = boxes[record.path]
        assert 0 <= x1 < x2 <= 40
        assert 0 <= y1 < y2 <= 40
        assert record.path.split("/")[1] == dataset.classes[record.label]


@pytest.mark.parametrize("size", [24, 72, 128])
@pytest.mark.parametrize("label", range(8))
def test_draw_image_box_is_the_tightest_around_the_creatures_pixels(
    label: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, box = draw_image(size, label, np.random.default_rng([size, label]))
    creature = synthetic._creature

    def unseen(canvas: Any, image: npt.NDArray[np.float64], random: np.random.Generator, label: int) -> Any:
        return creature(canvas, image.copy(), random, label)

    monkeypatch.setattr(synthetic, "_creature", unseen)
    without, same = draw_image(size, label, np.random.default_rng([size, label]))
    assert same == box
    y, x = np.nonzero((pixels != without).any(2))
    assert (x.min(), y.min(), x.max() + 1, y.max() + 1) == box
    assert pixels.shape == (size, size, 3)
    assert pixels.dtype == np.uint8


def test_draw_image_boxes_differ_widely_in_size_and_place() -> None:
    boxes = np.array([draw_image(40, seed % 8, np.random.default_rng(seed))[1] for seed in range(60)]) / 40
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert areas.max() > 3 * areas.min()
    assert np.ptp(boxes[:, :2] + boxes[:, 2:], axis=0).min() > 0.5


def test_draw_image_of_one_class_is_another_picture_with_every_seed() -> None:
    images = [draw_image(40, 0, np.random.default_rng(seed))[0].tobytes() for seed in range(5)]
    assert len(set(images)) == 5
