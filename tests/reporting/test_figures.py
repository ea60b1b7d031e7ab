from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from lchp.reporting.figures import curve, losses
from lchp.reporting.frame import TrialRow, collect
from lchp.reporting.table import Table, TableSpec
from lchp.reporting.tables import make_table
from lchp.vocabulary import METHODS
from tests.reporting.conftest import HISTORY, MakeTrial


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def _count(pixels: np.ndarray, colour: str) -> int:
    wanted = np.round(np.array(to_rgb(colour)) * 255)
    return int((np.abs(pixels - wanted).max(axis=2) <= 2).sum())


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
