"""The picture of samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from PIL import Image

from lchp.data.config import FilesDataset
from lchp.data.reading import open_dataset
from lchp.data.showing import show
from tests.data.layouts import draw_table


def red_pixels(file: Path) -> int:
    with Image.open(file) as image:
        assert image.format == "PNG"
        pixels = np.array(image.convert("RGB"))
    return int((pixels == (224, 32, 32)).all(-1).sum())


def test_show_draws_samples_with_red_boxes(tmp_path: Path) -> None:
    config = FilesDataset(kind="table", path=draw_table(tmp_path))
    show(config, open_dataset(config, tmp_path), tmp_path / "new/samples.png", count=5, seed=0)
    assert red_pixels(tmp_path / "new/samples.png") > 500
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["samples.png"]


def test_show_is_the_same_picture_whatever_a_matplotlibrc_says(tmp_path: Path) -> None:
    config = FilesDataset(kind="table", path=draw_table(tmp_path))
    dataset = open_dataset(config, tmp_path)
    show(config, dataset, tmp_path / "plain.png", count=5)
    with rc_context({"text.usetex": True, "font.size": 30, "savefig.bbox": "tight"}):
        show(config, dataset, tmp_path / "own.png", count=5)
    assert (tmp_path / "own.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_show_without_boxes_draws_none(tmp_path: Path) -> None:
    path = draw_table(tmp_path)
    path.write_text("".join(",".join(line.split(",")[:3]) + "\n" for line in path.read_text().splitlines()))
    config = FilesDataset(kind="table", path=path)
    show(config, open_dataset(config, tmp_path), tmp_path / "samples.png", count=100, seed=0)
    assert red_pixels(tmp_path / "samples.png") == 0


def test_show_the_seed_decides_the_samples(tmp_path: Path) -> None:
    config = FilesDataset(kind="table", path=draw_table(tmp_path))
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        show(config, open_dataset(config, tmp_path), tmp_path / f"{name}.png", count=4, seed=seed)
    first, same, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == same
    assert first != other
