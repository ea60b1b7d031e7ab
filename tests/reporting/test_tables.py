from __future__ import annotations

from pathlib import Path

import pytest

from lchp.reporting.build import build_report
from lchp.reporting.frame import TrialRow, collect
from lchp.reporting.statistics import Summary
from lchp.reporting.table import Table, TableSpec
from lchp.reporting.tables import make_table
from lchp.reporting.writing import to_markdown
from tests.reporting.conftest import ENVIRONMENT, MakeTrial, contents_of

PAPER = Path(__file__).parents[2] / "analysis" / "paper"


def _make(spec: TableSpec, trials: list[TrialRow], paper: Path | None = PAPER) -> Table:
    return make_table(spec, collect("study", trials), trials, paper)


def test_make_table_over_delta_has_mean_spread_and_floors_by_hand(delta_trials: list[TrialRow]) -> None:
    table = _make(TableSpec(by=("delta",)), delta_trials)
    assert [column.key for column in table.columns] == [
        "delta",
        "pseudo_label_gt_known",
        "lchp_i_gt_known",
        "lchp_r_gt_known",
        "whole_image_gt_known",
        "centred_box_gt_known",
    ]
    assert table.column("delta") == [0.7, 0.5]
    # (25 + 50) / 2, and the distance 25 over the square root of two.
    assert table.column("pseudo_label_gt_known") == [Summary(2, 37.5, (2 * 12.5**2) ** 0.5), Summary(1, 37.5, None)]
    assert table.column("lchp_r_gt_known") == [Summary(2, 81.25, (2 * 6.25**2) ** 0.5), Summary(1, 62.5, None)]
    assert table.column("centred_box_gt_known") == [Summary(2, 50.0, 0.0), Summary(1, 50.0, None)]
    assert table.made.line() == "commit abc123; lchp 0.1.0, torch 2.15.0, torchvision 0.29.2; Some CPU_X"
    assert table.notes == ()


def test_make_table_over_delta_has_the_paper_beside_ours(delta_trials: list[TrialRow]) -> None:
    table = _make(TableSpec(by=("delta",), paper="table3_delta"), delta_trials)
    assert [column.key for column in table.columns][:3] == [
        "delta",
        "pseudo_label_gt_known",
        "paper_pseudo_label_gt_known",
    ]
    assert table.column("paper_pseudo_label_gt_known") == [72.44, 78.89]
    assert table.column("paper_lchp_r_gt_known") == [94.36, 88.63]
    assert "table3_delta of Sun & Zhu (2022)" in table.notes[0]


def test_make_table_without_the_papers_file_says_so(delta_trials: list[TrialRow], tmp_path: Path) -> None:
    for folder in (tmp_path, None):
        table = _make(TableSpec(by=("delta",), paper="table3_delta"), delta_trials, folder)
        assert not any(column.key.startswith("paper") for column in table.columns)
        assert "left out: table3_delta.csv is not in" in table.notes[0]


def test_make_table_on_val_leaves_the_papers_test_numbers_out(delta_trials: list[TrialRow]) -> None:
    table = _make(TableSpec(by=("delta",), split="val", paper="table3_delta"), delta_trials)
    assert table.column("lchp_r_gt_known") == [Summary(2, 12.5, 0.0), Summary(1, 12.5, None)]
    assert table.column("lchp_i_gt_known") == [None, None]
    assert table.notes == ("The paper's numbers are left out: they are of the test split.",)


def test_make_table_paper_of_other_rows_is_refused(delta_trials: list[TrialRow]) -> None:
    with pytest.raises(ValueError, match=r"paper = table4_tau has rows by tau.*by = \['delta'\].*set by to \['tau'\]"):
        _make(TableSpec(by=("delta",), paper="table4_tau"), delta_trials)
    with pytest.raises(ValueError, match=r"has no such table"):
        _make(TableSpec(by=("delta",), paper="table9"), delta_trials)


def test_make_table_fixed_values_restrict_the_trials(make_trial: MakeTrial) -> None:
    trials = [
        make_trial(f"r{index}", 0, {"delta": delta, "tau": tau}, {"lchp_r/test/gt_known": value})
        for index, (delta, tau, value) in enumerate([(0.5, 0.9, 0.25), (0.7, 0.9, 0.5), (0.7, 0.0, 0.75)])
    ]
    table = _make(TableSpec(by=("delta",), fixed={"delta": 0.7, "tau": 0.9}), trials)
    assert table.column("delta") == [0.5, 0.7]
    assert table.column("lchp_r_gt_known") == [Summary(1, 25.0, None), Summary(1, 50.0, None)]
    assert table.notes == ("At tau = 0.9.",)
    both = _make(TableSpec(by=("delta", "tau")), trials)
    assert both.column("tau") == [0.9, 0.9, 0.0]
    with pytest.raises(ValueError, match=r"table one: its rows would mix tau = 0\.9, 0\.0: add tau to `by`"):
        _make(TableSpec("one", by=("delta",)), trials)


def test_make_table_over_methods_has_the_papers_and_cited_works(make_trial: MakeTrial) -> None:
    scores = {
        f"{method}/test/{metric}": value
        for method, value in [("pseudo_label", 0.25), ("lchp_i", 0.5), ("lchp_r", 0.75), ("whole_image", 0.125)]
        for metric in ("top1_loc", "top5_loc", "gt_known")
    }
    trials = [make_trial("r1", 0, {}, scores)]
    table = _make(TableSpec(metrics=("top1_loc", "top5_loc", "gt_known"), paper="table1_cub"), trials)
    assert [column.title for column in table.columns[:3]] == ["Method", "Top-1 Loc", "Top-1 Loc (paper)"]
    rows = {row[0]: row[1:] for row in table.rows}
    half = Summary(1, 50.0, None)
    assert rows["LCHP-I"] == (half, 73.61, half, 84.60, half, 87.12)
    assert rows["Whole image"] == (Summary(1, 12.5, None), None) * 3
    assert rows["Best centred box"] == (None,) * 6
    assert rows["ACoL (VGG-GAP)"] == (None, 45.92, None, 56.51, None, None)
    assert list(rows)[:5] == ["Pseudo Label", "LCHP-I", "LCHP-R", "Whole image", "Best centred box"]


def test_make_table_over_tau_has_the_selection_of_table_4(make_trial: MakeTrial) -> None:
    selections = [
        "tau,selected,gt_known,total\n0.0,100,0.5,100\n0.9,20,0.75,100\n",
        "tau,selected,gt_known,total\n0.0,100,0.25,100\n0.9,0,,100\n",
    ]
    trials = [
        make_trial(f"r{tau}{seed}", seed, {"tau": tau}, {"lchp_r/test/gt_known": 0.5}, selection=selections[seed])
        for tau in (0.0, 0.9)
        for seed in (0, 1)
    ]
    table = _make(TableSpec(by=("tau",), paper="table4_tau"), trials)
    assert table.column("selected") == [Summary(2, 100.0, 0.0), Summary(2, 10.0, 200.0**0.5)]
    assert table.column("selected_gt_known") == [Summary(2, 37.5, (2 * 12.5**2) ** 0.5), Summary(1, 75.0, None)]
    assert table.column("paper_selected") == [5994.0, 1778.0]
    assert table.column("paper_selected_gt_known") == [84.01, 90.55]
    assert table.column("paper_lchp_r_gt_known") == ["failed", 94.36]


OWN = """tau,selected,gt_known,total,views,keep,auc,own
0.9,{0},0.5,40,evaluated,,0.75,{1}
,20,0.625,40,evaluated,0.5,0.75,{2}
0.9,{0},0.25,36,training,,{3},{1}
,18,0.75,36,training,0.5,{3},{2}
"""
"""What a trial selects by a threshold and by a share: how many by the threshold, its own rule, its AUC."""


def test_make_table_over_the_score_has_its_auc_and_what_each_trials_own_rule_selects(make_trial: MakeTrial) -> None:
    rules = [("max_softmax", None, (30, 1, 0, 0.5)), ("contrast", 0.5, (1, 0, 1, 0.625))]
    trials = [
        make_trial(
            name,
            0,
            {"confidence.score": name, "confidence.keep": keep},
            {"lchp_r/test/gt_known": 0.5},
            selection=OWN.format(*own),
        )
        for name, keep, own in rules
    ]
    table = _make(TableSpec(by=("confidence.score", "confidence.keep")), trials)
    one = {
        key: [cell.mean if isinstance(cell, Summary) else cell for cell in table.column(key)]
        for key in (
            "confidence_auc",
            "selected",
            "selected_gt_known",
            "training_selected",
            "training_selected_gt_known",
        )
    }
    assert one == {
        "confidence_auc": [50.0, 62.5],
        "selected": [30.0, 20.0],
        "selected_gt_known": [50.0, 62.5],
        "training_selected": [30.0, 18.0],
        "training_selected_gt_known": [25.0, 75.0],
    }
    assert "over 36 training images with true boxes; 50 is chance" in " ".join(table.notes)


def test_make_table_over_another_parameter_has_the_auc_alone(make_trial: MakeTrial) -> None:
    trials = [
        make_trial(f"r{seed}", seed, {"delta": 0.5}, {"lchp_r/test/gt_known": 0.5}, selection=OWN.format(30, 1, 0, auc))
        for seed, auc in enumerate((0.5, 0.75))
    ]
    table = _make(TableSpec(by=("delta",)), trials)
    assert table.column("confidence_auc") == [Summary(2, 62.5, (2 * 12.5**2) ** 0.5)]
    assert not [column for column in table.columns if "selected" in column.key]


def test_make_table_over_methods_tells_the_auc_in_a_note(make_trial: MakeTrial) -> None:
    trial = make_trial("r", 0, {}, {"lchp_r/test/gt_known": 0.5}, selection=OWN.format(30, 1, 0, 0.625))
    note = "Confidence AUC (IoU >= 0.5) on train: 62.50 (1), over 36 training images with true boxes; 50 is chance."
    assert note in _make(TableSpec(), [trial]).notes


def test_make_table_of_trials_of_version_0_1_says_nothing_of_the_auc(make_trial: MakeTrial) -> None:
    old = "tau,selected,gt_known,total\n0.9,20,0.75,100\n"
    table = _make(
        TableSpec(by=("tau",)), [make_trial("r", 0, {"tau": 0.9}, {"lchp_r/test/gt_known": 0.5}, selection=old)]
    )
    assert [column.key for column in table.columns[-2:]] == ["selected", "selected_gt_known"]
    assert not [note for note in table.notes if "AUC" in note]


def test_make_table_of_several_metrics_has_a_row_for_each_method_at_each_value(delta_trials: list[TrialRow]) -> None:
    table = _make(TableSpec(by=("delta",), metrics=("gt_known", "mean_iou"), paper="table3_delta"), delta_trials)
    titles = ["delta", "Method", "GT-Known", "GT-Known (paper)", "Mean IoU"]
    assert [column.title for column in table.columns] == titles
    assert table.column("delta") == [0.7] * 5 + [0.5] * 5
    assert table.column("method") == ["Pseudo Label", "LCHP-I", "LCHP-R", "Whole image", "Best centred box"] * 2
    assert table.column("gt_known")[2] == Summary(2, 81.25, (2 * 6.25**2) ** 0.5)
    assert table.column("paper_gt_known")[:3] == [72.44, 87.12, 94.36]
    assert table.column("mean_iou") == [None] * 10
    assert table.is_curve
    assert table.points("lchp_r") == [(0.7, Summary(2, 81.25, (2 * 6.25**2) ** 0.5)), (0.5, Summary(1, 62.5, None))]
    wide = _make(TableSpec(by=("delta",)), delta_trials)
    assert wide.points("lchp_r") == table.points("lchp_r")
    assert wide.points("supervised") == table.points("supervised") == []


def test_make_table_of_how_boxes_are_wrong_shows_plain_numbers(make_trial: MakeTrial) -> None:
    scores = {"lchp_r/test/log_area_mean": -0.125, "lchp_r/test/gt_known": 0.5}
    trials = [make_trial("r1", 0, {"delta": 0.5}, scores), make_trial("r2", 1, {"delta": 0.5}, scores)]
    table = _make(TableSpec(by=("delta",), metrics=("gt_known", "log_area_mean")), trials)
    assert table.column("method")[2] == "LCHP-R"
    assert table.column("log_area_mean")[2] == Summary(2, -0.125, 0.0)
    assert table.column("gt_known")[2] == Summary(2, 50.0, 0.0)
    assert table.heading.startswith("GT-Known, Log area ratio on test, shares in %: mean")
    assert "| -0.125 ± 0.000 (2) |" in to_markdown(table)
    assert _make(TableSpec(metrics=("log_area_mean",)), trials).heading.startswith("Log area ratio on test: mean")


def test_make_table_trials_of_two_machines_name_both(make_trial: MakeTrial) -> None:
    other = {**ENVIRONMENT, "commit": None, "device": "Some GPU"}
    trials = [make_trial("a", 0, {}, {}), make_trial("b", 1, {}, {}, other)]
    made = _make(TableSpec(), trials).made
    assert made.hardware == "Some CPU_X and Some GPU"
    assert made.commit == "abc123"


def test_make_table_of_classification_alone_has_one_row_of_the_classifier(
    make_trial: MakeTrial, tmp_path: Path
) -> None:
    scores = {f"{method}/test/top1_cls": 0.5 for method in ("pseudo_label", "lchp_i", "lchp_r", "whole_image")}
    trials = [make_trial("r1", 0, {"delta": 0.3}, scores)]
    for by in ((), ("delta",)):
        spec = TableSpec(by=by, metrics=("top1_cls",))
        table = _make(spec, trials, None)
        assert [column.title for column in table.columns] == (
            ["delta", "Classifier"] if by else ["Method", "Top-1 classification"]
        )
        assert [row[0] for row in table.rows] == ([0.3] if by else ["Classifier"])
        build_report(contents_of("s", None, trials, [spec]), PAPER, tmp_path / "_".join(("s", *by)))


def test_make_table_of_a_split_without_true_boxes_says_so(make_trial: MakeTrial) -> None:
    scores = {"lchp_r/test/top1_cls": 0.5, "lchp_r/val/top1_cls": 0.25, "lchp_r/val/gt_known": 0.125}
    trials = [make_trial("r1", 0, {}, scores)]
    note = "test has images without true boxes, so only classification is measured"
    assert note in _make(TableSpec(metrics=("gt_known", "top1_cls")), trials).heading
    assert "without" not in _make(TableSpec(metrics=("top1_cls",)), trials).heading
    assert "without" not in _make(TableSpec(split="val"), trials).heading
