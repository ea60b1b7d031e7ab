from __future__ import annotations

import json
from pathlib import Path

import pytest

from lchp.study.reproduce.compare import BOX_TOLERANCE, METRIC_TOLERANCE, Comparison, compare
from lchp.study.reproduce.selfcheck import contradicting
from lchp.tracking.stored import StoredRun

HEAD = "path,label,split,method,x1,y1,x2,y2,iou,top1,top5\n"
ROW = "a.png,0,test,lchp_r,0.0,0.0,10.0,10.0,0.5,1,1\n"


def folder(at: Path, scores: dict[str, float], rows: str = ROW) -> Path:
    at.mkdir()
    (at / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
    (at / "per_image.csv").write_text(HEAD + rows, encoding="utf-8")
    return at


def compared(at: Path, stored: float, shown: float, again: float, rows: str, exact: bool) -> Comparison:
    kept = folder(at / "stored", {"lchp_r/test/mean_iou": stored})
    metrics = {"lchp_r/test/mean_iou": shown, "train/loss": 1.0}
    run = StoredRun("id", "s", "name", {}, {}, {"lchp_r/test/mean_iou": stored}, metrics, kept)
    return compare(run, folder(at / "again", {"lchp_r/test/mean_iou": again}, rows), exact)


def test_compare_equal_numbers_and_boxes_agree(tmp_path: Path) -> None:
    assert compared(tmp_path, 0.5, 0.5, 0.5, ROW, exact=True).disagreements == []


@pytest.mark.parametrize(
    ("stored", "shown", "again"),
    [(0.5, 0.5, 0.5 + 1e-16 * 4), (0.5, 0.6, 0.5), (0.5, 0.6, 0.6)],
)
def test_compare_any_other_number_disagrees_when_exact(
    tmp_path: Path, stored: float, shown: float, again: float
) -> None:
    (line,) = compared(tmp_path, stored, shown, again, ROW, exact=True).disagreements
    assert line.startswith("metric lchp_r/test/mean_iou")


def test_compare_within_tolerance_only_where_bits_are_not_promised(tmp_path: Path) -> None:
    (tmp_path / "loose").mkdir()
    (tmp_path / "far").mkdir()
    near, far = 0.5 + METRIC_TOLERANCE / 2, 0.5 + METRIC_TOLERANCE * 2
    moved = ROW.replace("10.0,10.0", f"10.0,{10 * (BOX_TOLERANCE + 0.05)}")
    loose = compared(tmp_path / "loose", 0.5, 0.5, near, moved, exact=False)
    assert loose.disagreements == []
    assert loose.boxes[0].mean_iou == pytest.approx(BOX_TOLERANCE + 0.05)
    assert compared(tmp_path / "far", 0.5, 0.5, far, ROW, exact=False).disagreements


def test_compare_leaves_out_what_the_version_that_made_the_run_did_not_measure(tmp_path: Path) -> None:
    old = {"lchp_r/test/mean_iou": 0.5}
    run = StoredRun("id", "s", "name", {}, {}, old, old, folder(tmp_path / "stored", old))
    again = folder(tmp_path / "again", {**old, "lchp_r/test/log_area_mean": 0.3})
    assert compare(run, again, True).disagreements == []
    other = folder(tmp_path / "other", {**old, "lchp_r/test/gt_known": 0.3})
    assert len(compare(run, other, True).disagreements) == 1


def test_compare_bias_has_a_tolerance_of_its_own(tmp_path: Path) -> None:
    name = "lchp_r/test/log_area_mean"
    run = StoredRun("id", "s", "name", {}, {}, {name: 0.5}, {name: 0.5}, folder(tmp_path / "stored", {name: 0.5}))
    near, far = (folder(tmp_path / str(value), {name: value}) for value in (0.7, 0.8))
    assert compare(run, near, False).disagreements == []
    assert compare(run, far, False).disagreements


@pytest.mark.parametrize(
    ("rows", "example"),
    [
        ("", "box a.png test lchp_r: not predicted again"),
        (ROW + ROW.replace("a.png", "b.png"), "box b.png test lchp_r: not stored"),
        (ROW.replace("10.0,10.0", "10.0,10.000000000000002"), "box a.png test lchp_r: y2 10.0 -> 10.000000000000002"),
        (ROW.replace(",1,1\n", ",0,1\n"), "box a.png test lchp_r: top1 1 -> 0"),
    ],
)
def test_compare_any_other_row_disagrees_and_is_named(tmp_path: Path, rows: str, example: str) -> None:
    found = compared(tmp_path, 0.5, 0.5, 0.5, rows, exact=True)
    assert example in found.disagreements
    assert "DIFFERS" in found.text()


def test_compare_missing_box_disagrees_even_within_tolerance(tmp_path: Path) -> None:
    assert compared(tmp_path, 0.5, 0.5, 0.5, "", exact=False).disagreements


def test_write_gives_one_row_per_metric_and_group(tmp_path: Path) -> None:
    compared(tmp_path, 0.5, 0.5, 0.5, ROW, exact=True).write(tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_text(encoding="utf-8").splitlines() == [
        "what,stored,mlflow,again,agrees",
        "lchp_r/test/mean_iou,0.5,0.5,0.5,True",
        "boxes lchp_r/test,1,,1,True",
    ]


SELECTION = "tau,selected,gt_known,total\n0.0,100,0.5,100\n0.9,{},0.75,100\n"


def test_compare_selection_differs_exactly_or_beyond_tolerance(tmp_path: Path) -> None:
    kept = folder(tmp_path / "stored", {})
    again = folder(tmp_path / "again", {})
    run = StoredRun("id", "s", "name", {}, {}, {}, {}, kept)
    (kept / "selection.csv").write_text(SELECTION.format(40), encoding="utf-8")
    assert compare(run, again, exact=True).disagreements == ["selection: not measured again"]
    for count, exact, agrees in ((40, True, True), (41, True, False), (44, False, True), (50, False, False)):
        (again / "selection.csv").write_text(SELECTION.format(count), encoding="utf-8")
        lines = compare(run, again, exact).disagreements
        assert lines == (
            []
            if agrees
            else [f"selection tau=0.9: 40 of 100 selected, GT-Known 0.75 -> {count} of 100 selected, GT-Known 0.75"]
        )


NEW = """tau,selected,gt_known,total,views,keep,auc,own
0.0,100,0.5,100,evaluated,,0.5,0
0.9,{},0.75,100,evaluated,,0.5,1
0.9,{},0.75,96,training,,0.5,1
,48,0.75,96,training,0.5,0.5,0
"""


def test_compare_selection_of_version_0_1_with_one_of_now_goes_as_far_as_the_old_one(tmp_path: Path) -> None:
    kept, again = folder(tmp_path / "stored", {}), folder(tmp_path / "again", {})
    run = StoredRun("id", "s", "name", {}, {}, {}, {}, kept)
    (kept / "selection.csv").write_text(SELECTION.format(40), encoding="utf-8")
    for count, lines in ((40, 0), (41, 1)):
        (again / "selection.csv").write_text(NEW.format(count, 7), encoding="utf-8")
        assert len(compare(run, again, exact=True).disagreements) == lines


def test_compare_selection_names_the_rule_and_the_views(tmp_path: Path) -> None:
    kept, again = folder(tmp_path / "stored", {}), folder(tmp_path / "again", {})
    run = StoredRun("id", "s", "name", {}, {}, {}, {}, kept)
    (kept / "selection.csv").write_text(NEW.format(40, 30), encoding="utf-8")
    (again / "selection.csv").write_text(NEW.format(40, 31).replace(",48,", ",47,"), encoding="utf-8")
    assert compare(run, again, exact=True).disagreements == [
        "selection tau=0.9 training views: 30 of 96 selected, GT-Known 0.75 -> 31 of 96 selected, GT-Known 0.75",
        "selection keep=0.5 training views: 48 of 96 selected, GT-Known 0.75 -> 47 of 96 selected, GT-Known 0.75",
    ]


def test_compare_one_edited_stored_box_disagrees_within_tolerance_too(tmp_path: Path) -> None:
    scores = {"lchp_r/test/mean_iou": 0.5, "lchp_r/test/gt_known": 1.0, "lchp_r/test/top1_loc": 1.0}
    truth = {f"{name}.png": [(0.0, 0.0, 10.0, 5.0)] for name in "abcd"}
    rows = "".join(ROW.replace("a.png", f"{name}.png") for name in "abcd")
    again = folder(tmp_path / "again", scores, rows)
    for name, edited, message in (
        ("same", rows, None),
        (
            "box",
            rows.replace("b.png,0,test,lchp_r,0.0", "b.png,0,test,lchp_r,1.0"),
            "stored box b.png test lchp_r: its IoU",
        ),
        (
            "iou",
            rows.replace("10.0,0.5,1,1", "10.0,0.4,1,1", 1),
            "stored score lchp_r/test/mean_iou: scores.json says 0.5",
        ),
    ):
        kept = folder(tmp_path / name, scores, edited)
        lines = compare(StoredRun("id", "s", "n", {}, {}, scores, scores, kept), again, False, truth).disagreements
        assert [line for line in lines if message and line.startswith(message)] or (lines == [] and message is None)


def test_contradicting_counts_the_images_that_have_a_true_box() -> None:
    row = {"x1": "0", "y1": "0", "x2": "8", "y2": "8", "top1": "1", "top5": "1"}
    rows = {
        ("a.png", "test", "lchp_r"): {**row, "iou": "0.75"},
        ("b.png", "test", "lchp_r"): {**row, "iou": "", "top1": "0"},
    }
    right = {"lchp_r/test/gt_known": 1.0, "lchp_r/test/top1_loc": 1.0, "lchp_r/test/top1_cls": 0.5}
    assert contradicting(rows, right, None) == []
    (wrong,) = contradicting(rows, {**right, "lchp_r/test/gt_known": 0.123}, None)
    assert "lchp_r/test/gt_known: scores.json says 0.123, per_image.csv gives 1.0" in wrong
