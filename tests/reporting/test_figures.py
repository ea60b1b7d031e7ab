from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from lchp.reporting.figures import COLOURS, curve, losses, predictions
from lchp.reporting.frame import TrialRow, collect
from lchp.reporting.tables import Table, TableSpec, make_table
from lchp.vocabulary import METHODS
from tests.reporting.conftest import HISTORY, MakeTrial


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def _count(pixels: np.ndarray, colour: str) -> int:
    wanted = np.round(np.array(to_rgb(colour)) * 255)
    return int((np.abs(pixels - wanted).max(axis=2) <= 2).sum())


@pytest.fixture
def photos(tmp_path: Path) -> tuple[pd.DataFrame, Path]:
    rows = []
    for index in range(3):
        Image.new("L" if index else "RGB", (40, 30), 0).save(tmp_path / f"{index}.png")
        for method, left in (("pseudo_label", 4), ("lchp_i", 12), ("lchp_r", 20), ("whole_image", 0)):
            iou = float("nan") if index == 2 else 0.5
            rows.append((f"{index}.png", 0, "test", method, left, 4, left + 6, 20, iou, 1, 1))
    rows.append(("never.png", 0, "val", "lchp_r", 0, 0, 1, 1, 0.5, 1, 1))
    columns = ["path", "label", "split", "method", "x1", "y1", "x2", "y2", "iou", "top1", "top5"]
    return pd.DataFrame(rows, columns=columns), tmp_path


def test_predictions_boxes_have_the_colours_of_the_legend(photos: tuple[pd.DataFrame, Path]) -> None:
    per_image, root = photos
    truth = pd.DataFrame({"path": ["0.png", "0.png"], "x1": [28, 2], "y1": [4, 24], "x2": [36, 38], "y2": [20, 28]})
    predictions(per_image, root, root / "with.png", count=3, truth=truth)
    predictions(per_image, root, root / "without.png", count=3)
    with_truth, without = _pixels(root / "with.png"), _pixels(root / "without.png")
    for name in ("pseudo_label", "lchp_i", "lchp_r"):
        assert _count(with_truth, COLOURS[name]) > 500
    assert _count(with_truth, COLOURS["truth"]) > 500
    assert _count(without, COLOURS["truth"]) == 0


def test_curve_draws_references_where_they_were_measured(make_trial: MakeTrial, tmp_path: Path) -> None:
    drawn = {}
    for asked in (True, False):
        scores = {"lchp_r/test/gt_known": 0.5} | ({"supervised/test/gt_known": 0.75} if asked else {})
        trials = [make_trial(f"{asked} {delta}", 0, {"delta": delta}, scores) for delta in (0.5, 0.7)]
        table = make_table(TableSpec(by=("delta",)), collect("s", trials), trials)
        curve(table, tmp_path / "curve.png")
        drawn[asked] = _count(_pixels(tmp_path / "curve.png"), METHODS["supervised"].dark)
    assert drawn[True] > 100
    assert drawn[False] == 0


def test_predictions_box_lies_at_its_pixels(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[4:12, 10:30] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    per_image = pd.DataFrame(
        [("a.png", "test", "lchp_r", 10, 4, 30, 12, float("nan"))],
        columns=["path", "split", "method", "x1", "y1", "x2", "y2", "iou"],
    )
    predictions(per_image, tmp_path, tmp_path / "out.png", count=1)
    drawn = _pixels(tmp_path / "out.png")
    photo = drawn[: drawn.shape[0] * 3 // 4, : drawn.shape[1] // 4]
    blue = np.argwhere(np.abs(photo - np.round(np.array(to_rgb(COLOURS["lchp_r"])) * 255)).max(axis=2) <= 2)
    black = np.argwhere(photo.max(axis=2) == 0)
    scale = (np.ptp(black[:, 1]) + 1) / 40
    left_top = (blue.min(axis=0) - black.min(axis=0)) / scale
    right_bottom = (blue.max(axis=0) + 1 - black.min(axis=0)) / scale
    assert left_top == pytest.approx([4, 10], abs=0.6)
    assert right_bottom == pytest.approx([12, 30], abs=0.6)


def test_predictions_choice_is_the_seeds(photos: tuple[pd.DataFrame, Path]) -> None:
    per_image, root = photos
    for name, seed in (("a.png.png", 1), ("b.png.png", 1)):
        predictions(per_image, root, root / name, count=2, seed=seed)
    assert (_pixels(root / "a.png.png") == _pixels(root / "b.png.png")).all()


def test_predictions_without_test_images_is_refused(photos: tuple[pd.DataFrame, Path]) -> None:
    per_image, root = photos
    with pytest.raises(ValueError, match="no boxes on the test split"):
        predictions(per_image[per_image["split"] == "val"], root, root / "out.png")
    assert not (root / "out.png").exists()


@pytest.fixture
def table(delta_trials: list[TrialRow]) -> Table:
    return make_table(TableSpec(by=("delta",)), collect("s", delta_trials), delta_trials)


def test_curve_draws_every_method_of_the_table(table: Table, tmp_path: Path) -> None:
    curve(table, tmp_path / "curve.png")
    drawn = _pixels(tmp_path / "curve.png")
    assert table.is_curve
    assert _count(drawn, "#1f6bff") > 50
    assert _count(drawn, "#c79a00") > 50
    assert list(tmp_path.glob(".curve*")) == []


def test_is_curve_words_and_single_rows_are_none(delta_trials: list[TrialRow], make_trial: MakeTrial) -> None:
    one = delta_trials[2:]
    words = [make_trial(name, 0, {"backbone": name}, {}) for name in ("resnet50", "vgg19_bn")]
    for spec, trials in ((TableSpec(by=("delta",)), one), (TableSpec(by=("backbone",)), words), (TableSpec(), one)):
        assert not make_table(spec, collect("s", trials), trials).is_curve


def test_losses_every_training_value_has_a_panel(tmp_path: Path) -> None:
    losses(HISTORY, tmp_path / "losses.png")
    losses([{"step": 1, "metrics": {"train/initialization/loss": 1.0}}], tmp_path / "one.png")
    assert _pixels(tmp_path / "losses.png").shape[0] == 2 * _pixels(tmp_path / "one.png").shape[0]


def test_losses_history_without_losses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no train/"):
        losses([{"step": 1, "metrics": {}}], tmp_path / "losses.png")
