from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from PIL import Image

from lchp.reporting.evidence import Evidence, Images
from lchp.reporting.figures import confidence, curve, heat_map, ious, save, training
from lchp.reporting.frame import TrialRow, collect
from lchp.reporting.gallery import pictures_of
from lchp.reporting.per_image import read_rows
from lchp.reporting.table import Table, TableSpec
from lchp.reporting.tables import make_table
from lchp.store.selection import SelectionRow
from lchp.store.study_folder import StudyFolder
from lchp.vocabulary import METHODS
from tests.reporting.conftest import MakeTrial
from tests.reporting.test_evidence import rows_of, spread


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
        save(curve(table), tmp_path / "curve.png")
        drawn[asked] = _count(_pixels(tmp_path / "curve.png"), METHODS["supervised"].dark)
    assert drawn[True] > 100
    assert drawn[False] == 0


@pytest.fixture
def table(delta_trials: list[TrialRow]) -> Table:
    return make_table(TableSpec(by=("delta",)), collect("s", delta_trials), delta_trials)


def test_curve_draws_every_method_of_the_table(table: Table, tmp_path: Path) -> None:
    save(curve(table), tmp_path / "curve.png")
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


def test_curve_draws_the_papers_numbers_and_intervals(make_trial: MakeTrial, tmp_path: Path) -> None:
    trials = [
        make_trial(f"{delta} {seed}", seed, {"delta": delta}, {"lchp_r/test/gt_known": delta + seed / 100})
        for delta in (0.5, 0.6) for seed in (0, 1, 2)
    ]  # fmt: skip
    spec = TableSpec(by=("delta",), paper="table3_delta")
    table = make_table(spec, collect("s", trials), trials, Path(__file__).parents[2] / "analysis" / "paper")
    (axes,) = curve(table).axes
    labels = axes.get_legend_handles_labels()[1]
    assert "LCHP-R (paper)" in labels
    assert table.paper_points("lchp_r") == [(0.5, 88.63), (0.6, 93.09)]
    assert len([one for one in axes.collections if isinstance(one, PolyCollection)]) == 1


def test_heat_map_has_a_cell_for_every_pair_that_was_trained(make_trial: MakeTrial) -> None:
    pairs = [(0.5, "none"), (0.5, "flip"), (0.7, "none")]
    trials = [
        make_trial(str(number), 0, {"delta": delta, "augmentation": word}, {"lchp_r/test/gt_known": number / 10})
        for number, (delta, word) in enumerate(pairs)
    ]
    spec = TableSpec(by=("delta", "augmentation"), own={"delta": 0.5, "augmentation": "none"})
    table = make_table(spec, collect("s", trials), trials)
    assert (table.is_map, table.is_curve, table.is_search) == (True, False, False)
    (axes,) = heat_map(table).axes
    assert [text.get_text() for text in axes.texts] == ["0.0", "10.0", "20.0"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["none", "flip"]


def test_training_every_value_has_a_panel_with_a_line_for_each_trial(delta_trials: list[TrialRow]) -> None:
    axes = training(delta_trials).axes
    drawn = [one for one in axes if one.axison]
    losses = {f"{stage}/{name}" for stage in ("initialization", "refinement") for name in ("loss", "other")}
    assert {one.get_title() for one in drawn} == {*losses, "GT-Known on val"}
    assert all(len(one.collections[0].get_paths()) == len(delta_trials) for one in drawn)
    assert [one.get_title() for one in training(delta_trials[:1]).axes if one.axison] == [
        one.get_title() for one in drawn
    ]


def test_save_writes_the_same_bytes_twice_without_time_and_library(table: Table, tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        save(curve(table), tmp_path / "curve.png", vector=True)
        found.append([(tmp_path / name).read_bytes() for name in ("curve.png", "curve.svg")])
    assert found[0] == found[1]
    assert b"matplotlib.org" not in found[0][0] + found[0][1].replace(b'"http://www.w3.org', b"")
    assert b"LCHP-R" in found[0][1]


def test_ious_are_the_shares_of_images_from_an_iou_on() -> None:
    rows = rows_of({"lchp_r": spread}, count=4)
    rows.loc[rows["method"] == "lchp_r", "iou"] = [0.0, 0.25, 0.5, 1.0]
    trial = TrialRow("r", 0, {}, Path())
    vars(trial)["evidence"] = Evidence(
        {}, (), {split: one.values for split, one in read_rows(rows.to_csv(index=False).encode()).items()}
    )
    lines = {line.get_label(): line for line in ious([trial], "test").axes[0].lines}
    shares = dict(zip(*(np.round(axis, 2) for axis in lines["LCHP-R"].get_data()), strict=True))
    assert (shares[0.0], shares[0.25], shares[0.5], shares[0.51], shares[1.0]) == (100, 75, 50, 25, 25)


def test_training_draws_nothing_of_a_network_in_epochs_that_did_not_train_it(delta_trials: list[TrialRow]) -> None:
    losses = [(1.5, 0.25, 0.0), (0.75, 0.5, 0.125), (0.0, 0.0, 0.0625)]
    names = [f"train/initialization/{name}" for name in ("loss_cls", "train_cls", "loss_reg")]
    history = [
        {"stage": "initialization", "epoch": step, "step": step, "metrics": dict(zip(names, values, strict=True))}
        for step, values in enumerate(losses, 1)
    ]
    vars(delta_trials[0])["evidence"] = Evidence({}, (), history=history)
    lines = {one.get_title(): one.collections[0].get_segments()[0] for one in training(delta_trials[:1]).axes}
    assert {title: line[:, 0].tolist() for title, line in lines.items()} == {
        "initialization/loss_cls": [1, 2],
        "initialization/train_cls": [1, 2],
        "initialization/loss_reg": [2, 3],
    }


def test_confidence_is_drawn_on_either_kind_of_views() -> None:
    trial = TrialRow("r", 0, {}, Path())
    vars(trial)["selection"] = [
        SelectionRow(tau, 10 - round(10 * tau), 0.5 + tau / 2 if tau < 1 else None, 10, views, None, 0.75, tau == 0.5)
        for views in ("evaluated", "training") for tau in (0.0, 0.5, 1.0)
    ]  # fmt: skip
    figure = confidence([trial])
    pure, share = figure.axes
    assert [line.get_label() for line in pure.lines] == ["training views", "whole images"]
    assert pure.lines[0].get_xydata().tolist() == [[0.0, 50.0], [0.5, 75.0]]
    assert share.lines[0].get_xydata().tolist() == [[0.0, 100.0], [0.5, 50.0], [1.0, 0.0]]
    assert figure.get_suptitle() == "AUC 0.75; 0.5 is chance"


def test_pictures_of_images_without_true_boxes_are_none_of_ious(delta_trials: list[TrialRow], table: Table) -> None:
    rows = rows_of({"lchp_r": spread}, count=4, unknown=4)
    values = read_rows(rows.to_csv(index=False).encode())["test"].values
    trial = delta_trials[0]
    for localized in (0, 4):
        vars(trial)["evidence"] = Evidence({"test": Images(4, localized)}, (), {"test": values})
        titles = [one.title for one in pictures_of([table], [trial], StudyFolder(Path()))]
        assert ("How well boxes fit on test at delta = 0.7" in titles) == (localized > 0)
