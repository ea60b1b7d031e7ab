"""The report on a whole dataset: what it holds, what is wrong, and the floors."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from lchp.data import checking
from lchp.data.checking import CheckReport
from lchp.data.config import DatasetConfig, FilesDataset, SplitConfig
from lchp.data.reading import open_dataset
from tests.data.layouts import draw_cub, draw_imagenet, draw_table, write_annotation

ALL = SplitConfig(val_per_class=0)
SOME = SplitConfig(val_per_class=1)


def check(config: DatasetConfig, cache: Path, splits: SplitConfig) -> CheckReport:
    return checking.check(config, open_dataset(config, cache), cache, splits)


def checked(path: Path, splits: SplitConfig = SOME) -> CheckReport:
    return check(FilesDataset(kind="table", path=path), path.parent / "cache", splits)


def rewritten(path: Path, boxes: dict[str, tuple[object, ...]]) -> Path:
    """The table with other boxes for some images."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([*row[:3], *boxes.get(row[0], row[3:])] for row in rows)
    return path


def test_check_sound_dataset_has_no_problem_and_says_what_it_holds(tmp_path: Path) -> None:
    report = checked(draw_table(tmp_path, classes=2, train=4, test=3))
    assert report.problems == []
    text = report.text()
    for part in (
        "2 classes",
        "train: 6 images, 3 a class",
        "val: 2 images, 1 a class",
        "test: 6 images",
        "images that decode: 14 of 14 (stored as 14 RGB)",
        "true boxes: 14 of 14 images; 0 overhang",
        "problems: none",
    ):
        assert part in text


def test_check_floors_are_those_of_boxes_known_by_hand(tmp_path: Path) -> None:
    """Of the six 80 x 64 test images, two are filled to IoU >= 0.5 by the whole image, three by the centred box."""
    path = draw_table(tmp_path, classes=1, train=3, test=6, size=(80, 64))
    small, large, corner = (30, 24, 50, 40), (0, 0, 80, 40), (0, 0, 20, 16)
    train = {f"pictures/0_train_{number}.png": small for number in range(3)}
    test = {f"pictures/0_test_{number}.png": box for number, box in enumerate([small] * 3 + [large] * 2 + [corner])}
    floors = [fact for fact in checked(rewritten(path, train | test), ALL).facts if fact.startswith("floor")]
    assert floors[0] == "floor, the whole image: 0.3333 of 6 test images (IoU >= 0.5)"
    assert floors[1].endswith(": 0.5000 of 6 test images (IoU >= 0.5)")


def test_check_image_that_does_not_decode_is_a_problem(tmp_path: Path) -> None:
    path = draw_table(tmp_path)
    (tmp_path / "pictures/0_train_1.png").write_bytes(b"nothing")
    report = checked(path)
    assert len(report.problems) == 1
    assert "0_train_1.png: the image does not decode (it is of no known format)" in report.problems[0]
    assert "images that decode: 13 of 14" in report.text()


def test_check_one_image_in_two_splits_is_a_problem(tmp_path: Path) -> None:
    path = draw_table(tmp_path)
    shutil.copy(tmp_path / "pictures/0_train_1.png", tmp_path / "pictures/0_test_2.png")
    (problem,) = checked(path, ALL).problems
    assert "one image in several splits" in problem
    assert "0_train_1.png (train)" in problem
    assert "0_test_2.png (test)" in problem


def test_check_one_image_with_two_labels_is_a_problem(tmp_path: Path) -> None:
    path = draw_table(tmp_path)
    shutil.copy(tmp_path / "pictures/0_train_1.png", tmp_path / "pictures/1_train_1.png")
    (problem,) = checked(path, ALL).problems
    assert "one image with several labels" in problem


def test_check_repeated_image_of_one_class_is_a_fact(tmp_path: Path) -> None:
    path = draw_table(tmp_path)
    shutil.copy(tmp_path / "pictures/0_train_1.png", tmp_path / "pictures/0_train_2.png")
    report = checked(path, ALL)
    assert report.problems == []
    assert "repeated images within a class and split: 1" in report.facts


def test_check_too_few_images_for_val_is_a_problem_and_the_rest_is_read(tmp_path: Path) -> None:
    report = checked(draw_table(tmp_path, train=4), SplitConfig(val_per_class=4))
    (problem,) = report.problems
    assert "too few training images in class class 0 (4)" in problem
    assert "true boxes: 14 of 14 images; 0 overhang" in report.facts


def test_check_box_outside_its_image_is_a_problem_and_overhang_a_fact(tmp_path: Path) -> None:
    boxes = {"pictures/0_train_0.png": (80, 0, 90, 10), "pictures/0_train_1.png": (-3, 0, 10, 10)}
    report = checked(rewritten(draw_table(tmp_path, size=(80, 64)), boxes))
    (problem,) = report.problems
    assert "table.csv, line 2: pictures/0_train_0.png: (80, 0, 90, 10) lies outside the 80 x 64 image: cor" in problem
    assert "true boxes: 14 of 14 images; 1 overhang" in report.facts


def test_check_box_without_area_is_a_problem(tmp_path: Path) -> None:
    draw_imagenet(tmp_path, train=3)
    annotation = tmp_path / "ILSVRC/Annotations/CLS-LOC/train/n00000010/n00000010_0.xml"
    write_annotation(annotation, [("n00000010", (20, 5, 10, 50)), ("n00000010", (5, 5, 10, 50))])
    (problem,) = check(FilesDataset(kind="imagenet", path=tmp_path), tmp_path / "cache", SOME).problems
    assert problem.endswith("n00000010_0.JPEG: (20, 5, 10, 50) has no area: left out")


def test_check_unreadable_box_is_a_problem_and_the_rest_is_read(tmp_path: Path) -> None:
    report = checked(rewritten(draw_table(tmp_path), {"pictures/0_train_0.png": (1, 2, "x", 4)}))
    (problem,) = report.problems
    assert "table.csv, line 2, column x2: 'x' is not a number" in problem
    assert "images that decode: 14 of 14 (stored as 14 RGB)" in report.facts


def test_check_missing_boxes_are_counted_by_split(tmp_path: Path) -> None:
    gone = ("", "", "", "")
    report = checked(rewritten(draw_table(tmp_path), {"pictures/0_test_0.png": gone, "pictures/1_test_0.png": gone}))
    assert report.problems == []
    assert "test: 2 of 6 images have no true box" in report.warnings
    assert any(fact.endswith("of 4 test images (IoU >= 0.5)") for fact in report.facts)


def test_check_dataset_without_boxes_has_no_floor(tmp_path: Path) -> None:
    (draw_cub(tmp_path / "set") / "bounding_boxes.txt").unlink()
    report = check(FilesDataset(kind="cub", path=tmp_path / "set"), tmp_path / "cache", SOME)
    assert report.problems == []
    assert "true boxes: none, so there are no localization metrics" in report.facts
    assert not any("floor" in fact for fact in report.facts)


def test_check_class_without_test_images_is_a_fact(tmp_path: Path) -> None:
    path = draw_table(tmp_path)
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "pictures/1_test" not in line))
    assert "test: no image of 1 classes: class 1" in checked(path).facts


def test_check_stored_modes_are_counted(tmp_path: Path) -> None:
    path = draw_table(tmp_path)
    with Image.open(tmp_path / "pictures/0_train_0.png") as image:
        grey = image.convert("L")
    grey.save(tmp_path / "pictures/0_train_0.png")
    assert "images that decode: 14 of 14 (stored as 13 RGB, 1 L)" in checked(path).facts


def test_report_text_names_the_first_problems_and_counts_the_rest() -> None:
    lines = CheckReport(["a fact"], [f"problem {number}" for number in range(25)]).text().splitlines()
    assert lines[:3] == ["a fact", "problems: 25", "  problem 0"]
    assert lines[-2:] == ["  problem 19", "  ... and 5 more"]


def test_check_tells_every_finding_and_says_warnings_apart(tmp_path: Path) -> None:
    path = rewritten(draw_table(tmp_path, size=(80, 64)), {"pictures/0_test_0.png": ("", "", "", "")})
    small = {f"pictures/1_test_{number}.png": (0.1, 0.2, 0.5, 0.6) for number in range(3)}
    report = checked(rewritten(path, small))
    assert [problem.split(":")[0] for problem in report.problems] == ["true boxes look like fractions of the image"] * 3
    assert report.text().splitlines()[-5] == "warning: test: 1 of 6 images have no true box"


def test_check_every_box_without_area_is_named(tmp_path: Path) -> None:
    boxes = {f"pictures/0_train_{number}.png": (5, 5, 5, 9) for number in range(3)}
    report = checked(rewritten(draw_table(tmp_path), boxes), ALL)
    assert [problem.split(": ")[1][-8:] for problem in report.problems] == [", line 2", ", line 3", ", line 4"]
    assert "train: 3 of 8 images have no true box" in report.facts


def test_check_empty_image_is_a_problem(tmp_path: Path) -> None:
    path = draw_table(tmp_path)
    (tmp_path / "pictures/0_train_1.png").write_bytes(b"")
    (problem,) = checked(path).problems
    assert "0_train_1.png: the image does not decode (it is empty): replace or remove it" in problem


def known(config: DatasetConfig, cache: Path) -> list[str]:
    report = check(config, cache, ALL)
    assert report.problems == []
    return report.facts


def test_check_real_cub_subset_known_answers(tmp_path: Path) -> None:
    if not os.environ.get("LCHP_TEST_CUB"):
        pytest.skip("LCHP_TEST_CUB names no real dataset (folder or archive)")
    facts = known(FilesDataset(kind="cub", path=Path(os.environ["LCHP_TEST_CUB"])), tmp_path)
    assert "train: 600 images, 30 a class" in facts
    assert "true boxes: 1146 of 1146 images; 5 overhang" in facts
    assert any("the whole image: 0.187" in fact or "the whole image: 0.1868" in fact for fact in facts)
    assert any("centred box" in fact and ": 0.56" in fact for fact in facts)


def test_check_real_tiny_imagenet_subset_known_answers(tmp_path: Path) -> None:
    if not os.environ.get("LCHP_TEST_TINY_IMAGENET"):
        pytest.skip("LCHP_TEST_TINY_IMAGENET names no real dataset (folder or archive)")
    facts = known(FilesDataset(kind="tiny-imagenet", path=Path(os.environ["LCHP_TEST_TINY_IMAGENET"])), tmp_path)
    assert "images that decode: 7000 of 7000 (stored as 6904 RGB, 96 L)" in facts
    assert any("the whole image: 0.5010" in fact for fact in facts)
    assert any("centred box" in fact and ": 0.56" in fact for fact in facts)
