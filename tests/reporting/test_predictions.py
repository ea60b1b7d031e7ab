from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from lchp.reporting.predictions import COLOURS, draw_predictions

Rows = list[dict[str, str]]


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def _is(pixels: np.ndarray, colour: str) -> np.ndarray:
    """Where pixels have a colour."""
    return np.asarray((pixels == ImageColor.getrgb(colour)).all(axis=2))


def _row(path: str, split: str, method: str, box: tuple[float, ...], iou: float = math.nan) -> dict[str, str]:
    corners = dict(zip(("x1", "y1", "x2", "y2"), map(str, box), strict=True))
    return {"path": path, "split": split, "method": method, **corners, "iou": "" if math.isnan(iou) else str(iou)}


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Rows, Path]:
    """Rows and the folder of three black photographs, of which the first two have true boxes."""
    rows = []
    for index in range(3):
        Image.new("L" if index else "RGB", (40, 30), 0).save(tmp_path / f"{index}.png")
        for method, left in (("pseudo_label", 4), ("lchp_i", 12), ("lchp_r", 20), ("whole_image", 0)):
            rows.append(_row(f"{index}.png", "test", method, (left, 4, left + 6, 20), math.nan if index == 2 else 0.5))
    return [*rows, _row("never.png", "val", "lchp_r", (0, 0, 1, 1), 0.5)], tmp_path


def test_draw_predictions_boxes_have_the_colours_of_the_legend(photos: tuple[Rows, Path]) -> None:
    rows, root = photos
    truth = {"0.png": [(28, 4, 36, 20), (2, 24, 38, 28)], "1.png": []}
    draw_predictions(rows, root, root / "with.png", count=3, truth=truth)
    draw_predictions(rows, root, root / "without.png", count=3, truth={"0.png": []})
    with_truth, without = _pixels(root / "with.png"), _pixels(root / "without.png")
    for name in ("pseudo_label", "lchp_i", "lchp_r", "truth"):
        assert _is(with_truth[:-44], COLOURS[name]).sum() > 500
        assert _is(with_truth[-44:], COLOURS[name]).sum() > 100
    assert not _is(without, COLOURS["truth"]).any()


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (900, 600)])
def test_draw_predictions_box_lies_at_its_pixels(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    box = (size[0] / 4, size[1] / 5, size[0] * 3 / 4, size[1] * 3 / 5)
    draw_predictions([_row("a.png", "test", "lchp_r", box)], tmp_path, tmp_path / "out.png", count=1)
    drawn = _pixels(tmp_path / "out.png")[:-44]
    blue, black = np.argwhere(_is(drawn, COLOURS["lchp_r"])), np.argwhere(_is(drawn, "black"))
    scale = (np.ptp(black[:, 1]) + 1) / size[0]
    assert scale == pytest.approx(312 / max(size), abs=0.01)
    start, end = blue.min(axis=0) - black.min(axis=0), blue.max(axis=0) + 1 - black.min(axis=0)
    assert start == pytest.approx([box[1] * scale - 1.5, box[0] * scale - 1.5], abs=0.51)
    assert end == pytest.approx([box[3] * scale + 1.5, box[2] * scale + 1.5], abs=0.51)


def test_draw_predictions_choice_is_the_seeds(photos: tuple[Rows, Path]) -> None:
    rows, root = photos
    for name, seed in (("a", 1), ("b", 1)):
        draw_predictions(rows, root, root / f"{name}.drawn.png", count=2, seed=seed)
    assert (root / "a.drawn.png").read_bytes() == (root / "b.drawn.png").read_bytes()


@pytest.mark.parametrize(("choice", "first"), [("best", 2), ("worst", 0), ("changed", 1)])
def test_draw_predictions_choice_by_iou_draws_the_extreme_ones_first(tmp_path: Path, choice: str, first: int) -> None:
    rows = []
    for index, (refined, pseudo) in enumerate([(0.1, 0.2), (0.5, 0.1), (0.9, 0.8)]):
        # A photograph is as grey as its number says.
        Image.new("RGB", (40, 40), (index + 1,) * 3).save(tmp_path / f"{index}.png")
        rows += [_row(f"{index}.png", "test", name, (1, 1, 9, 9), iou) for name, iou in
                 (("lchp_r", refined), ("pseudo_label", pseudo))]  # fmt: skip
    draw_predictions(rows, tmp_path, tmp_path / "out.png", count=1, choice=choice)
    assert _is(_pixels(tmp_path / "out.png")[:-44], f"rgb({first + 1},{first + 1},{first + 1})").sum() > 10_000
    unknown = [{**row, "iou": ""} for row in rows]
    with pytest.raises(ValueError, match="no test image has an IoU of LCHP-R"):
        draw_predictions(unknown, tmp_path, tmp_path / "out.png", choice=choice)


def test_draw_predictions_without_test_images_is_refused(photos: tuple[Rows, Path]) -> None:
    rows, root = photos
    with pytest.raises(ValueError, match="no boxes on the test split"):
        draw_predictions([row for row in rows if row["split"] == "val"], root, root / "out.png")
    assert not (root / "out.png").exists()


def test_draw_predictions_imports_nothing_that_takes_seconds() -> None:
    code = "import sys, lchp.reporting.predictions; print(sorted({'matplotlib', 'pandas', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
