"""How many images a trial's numbers are over, and the ways in which training comes to nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lchp.reporting.evidence import Degeneration, Images, count_images, degenerations, read_evidence
from lchp.reporting.per_image import ImageRows, read_rows

CONFIG = {"view": {"resize": 40, "crop": 35, "evaluation": "whole"}}
Corners = Callable[[int], tuple[float, float, float, float]]


def spread(index: int) -> tuple[float, float, float, float]:
    """A box that is another one in every image."""
    return 0.02 * index, 0.1, 0.3 + 0.03 * index, 0.8


def rows_of(
    boxes: dict[str, Corners], count: int = 16, right: int | None = None, unknown: int = 0, split: str = "test"
) -> pd.DataFrame:
    """Rows as in per_image.csv: ``boxes`` give corners as shares of images that differ in size; of two classes each
    ``right`` images are classified; the last ``unknown`` have no true box.
    """
    rows: list[tuple[Any, ...]] = []
    for method, corners in {**boxes, "whole_image": lambda _: (0.0, 0.0, 1.0, 1.0)}.items():
        for index in range(count):
            size = np.array([40 + index, 30, 40 + index, 30])
            iou = float("nan") if index >= count - unknown else 0.5
            top1 = int(index < (count if right is None else right))
            rows.append((f"{index}.png", index % 2, split, method, *(size * corners(index)), iou, top1, 1))
    columns = ["path", "label", "split", "method", "x1", "y1", "x2", "y2", "iou", "top1", "top5"]
    return pd.DataFrame(rows, columns=columns)


def rows_on_test(rows: pd.DataFrame) -> ImageRows | None:
    """What a file of these rows says of the test split."""
    return read_rows(rows.to_csv(index=False).encode()).get("test")


def history_of(*selected: float) -> list[dict[str, Any]]:
    """Epochs of refinement with these shares of boxes above tau."""
    return [
        {
            "stage": "refinement",
            "epoch": step,
            "step": step,
            "seconds": 1.0,
            "metrics": {"train/refinement/selected": share},
        }
        for step, share in enumerate(selected, 1)
    ]


def found(history: list[dict[str, Any]], rows: pd.DataFrame, side: float = 1.0) -> list[tuple[str | None, str]]:
    return [(one.method, one.short) for one in degenerations(history, rows_on_test(rows), side)]


def test_degenerations_of_sound_training_are_none() -> None:
    rows = rows_of({"pseudo_label": spread, "lchp_i": spread, "lchp_r": spread})
    assert found(history_of(0.0, 0.25, 1.0), rows) == []


@pytest.mark.parametrize(
    ("shares", "short"),
    [((0.0, 0.0), "0 selected"), ((1.0, 0.995), "all selected"), ((0.0, 0.01), None), ((1.0, 0.9), None), ((), None)],
)
def test_degenerations_share_above_tau_is_told_where_no_epoch_is_between(
    shares: tuple[float, ...], short: str | None
) -> None:
    expected = [] if short is None else [("lchp_r", short)]
    assert found(history_of(*shares), rows_of({"lchp_r": spread})) == expected


def test_degenerations_one_box_for_images_of_any_size_is_constant() -> None:
    rows = rows_of({"pseudo_label": spread, "lchp_i": lambda index: (0.2, 0.1, 0.7 + 0.001 * (index % 2), 0.8)})
    assert found([], rows) == [("lchp_i", "constant boxes")]


def test_degenerations_boxes_that_are_nothing_or_the_whole_view_are_trivial() -> None:
    def mixed(index: int) -> tuple[float, float, float, float]:
        return (0.0, 0.0, 1.0, 1.0) if index % 2 else (0.5, 0.2, 0.5, 0.6)

    rows = rows_of({"pseudo_label": lambda _: (0.0, 0.0, 1.0, 0.995), "lchp_i": mixed, "lchp_r": spread})
    trivial = list(degenerations([], rows_on_test(rows)))
    assert [(one.method, one.short, one.detail) for one in trivial] == [
        ("pseudo_label", "trivial boxes", "0% nothing, 100% the whole view"),
        ("lchp_i", "trivial boxes", "50% nothing, 50% the whole view"),
    ]


def test_degenerations_the_whole_of_a_centre_crop_is_trivial() -> None:
    rows = rows_of({"pseudo_label": lambda _: (0.0625, 0.0625, 0.9375, 0.9375)})
    assert found([], rows, side=0.875) == [("pseudo_label", "trivial boxes")]
    assert found([], rows) == [("pseudo_label", "constant boxes")]


@pytest.mark.parametrize(("right", "at_chance"), [(8, True), (12, True), (13, False)])
def test_degenerations_classifier_within_two_standard_errors_of_a_guess_is_at_chance(
    right: int, at_chance: bool
) -> None:
    # Of 16 images of two classes a guess has 8 right, and a standard error is 2 images.
    assert found([], rows_of({"lchp_r": spread}, right=right)) == ([(None, "at chance")] if at_chance else [])


def test_degenerations_of_a_handful_of_images_or_of_val_are_not_judged() -> None:
    constant = rows_of({"lchp_r": lambda _: (0.2, 0.1, 0.7, 0.8)}, count=4, right=0)
    assert found([], constant) == []
    assert found([], rows_of({"lchp_r": lambda _: (0.2, 0.1, 0.7, 0.8)}, split="val")) == []


def test_degeneration_text_names_subject_numbers_and_meaning() -> None:
    (one,) = degenerations([], rows_on_test(rows_of({"lchp_r": spread}, right=9)))
    assert one.text == (
        "classifier, at chance (56.2% of 16 test images right, 50.0% by always naming the most frequent class): "
        "on so many images it cannot be told from a guess"
    )
    assert one.kind == Degeneration("at chance", "on so many images it cannot be told from a guess")


def test_images_line_says_what_one_image_is_worth() -> None:
    assert Images(16, 16).line("test") == "16 test images; one image is worth 6.25 points"
    assert Images(16, 0).line("val") == "16 val images; one image is worth 6.25 points; none has a true box"
    assert Images(16, 15).line("test", "GT-Known") == (
        "16 test images; one image is worth 6.25 points; GT-Known over 15 of 16 images, those with true boxes, where "
        "one is worth 6.67"
    )
    assert Images(16, 15).line("test", "") == "16 test images; one image is worth 6.25 points"


def test_count_images_counts_each_image_once_and_those_with_boxes() -> None:
    rows = pd.concat([rows_of({"lchp_r": spread}, unknown=1), rows_of({"lchp_i": spread}, count=3, split="val")])
    found = read_rows(rows.to_csv(index=False).encode())
    assert {split: count_images(one.values) for split, one in found.items()} == {
        "val": Images(3, 3), "test": Images(16, 15),
    }  # fmt: skip


def test_read_evidence_files_of_a_trial_are_enough(tmp_path: Path) -> None:
    config = {"view": {**CONFIG["view"], "evaluation": "centre_crop"}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "history.json").write_text(json.dumps(history_of(0.0)), encoding="utf-8")
    rows = rows_of({"lchp_r": lambda _: (0.0625, 0.0625, 0.9375, 0.9375)}, unknown=2)
    rows.to_csv(tmp_path / "per_image.csv", index=False)
    evidence = read_evidence(tmp_path)
    assert evidence.images == {"test": Images(16, 14)}
    assert [one.short for one in evidence.degenerations] == ["0 selected", "trivial boxes"]
    assert evidence.counts == [
        "16 test images; one image is worth 6.25 points; localization over 14 of 16 images, those with true boxes, "
        "where one is worth 7.14"
    ]
    assert [text.split(":")[0] for text in evidence.warnings] == [
        "LCHP-R, 0 selected",
        "LCHP-R, trivial boxes (0% nothing, 100% the whole view)",
    ]


def test_read_evidence_without_boxes_of_images_tells_the_selection(tmp_path: Path) -> None:
    (tmp_path / "history.json").write_text(json.dumps(history_of(0.0)), encoding="utf-8")
    evidence = read_evidence(tmp_path)
    assert evidence.images == {}
    assert [one.short for one in evidence.degenerations] == ["0 selected"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"per_image\.csv cannot be read \(it is no table\): run the study again"),
        ("path,label\na.png,0\n", r"the boxes of its images cannot be read.*run the study again"),
        ("path,label\na.png", r"per_image\.csv is cut or changed \(row 2\)"),
    ],
)
def test_read_evidence_damaged_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "history.json").write_text(json.dumps(history_of(0.0)), encoding="utf-8")
    (tmp_path / "per_image.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_evidence(tmp_path)
