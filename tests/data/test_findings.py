"""What pixels, hashes and boxes tell of a dataset: for ``data check`` and for a run alike."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from lchp.data.config import DatasetConfig, FilesDataset, SplitConfig
from lchp.data.findings import Findings, inspect
from lchp.data.image_files import read_image_files
from lchp.data.reading import open_dataset
from lchp.data.splits import split
from lchp.data.true_boxes import read_truth
from tests.data.layouts import draw_cub, draw_imagenet, draw_table, draw_tiny_imagenet, write_annotation

SIZE = (80, 64)
VAL_XML = "ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000005.xml"


def found_in(kind: str, path: Path, val: int = 0) -> Findings:
    config: DatasetConfig = FilesDataset(kind=kind, path=path)
    dataset = open_dataset(config, path.parent)
    splits = split(dataset, SplitConfig(val_per_class=val))
    files = read_image_files(dataset, path.parent / "cache")
    truth = read_truth(config, dataset, files.headers)
    return inspect(config, dataset, splits, files.hashes, truth)


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def write_rows(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def with_boxes(path: Path, boxes: dict[str, tuple[object, ...]]) -> Path:
    rows = rows_of(path)
    write_rows(path, [[*row[:3], *map(str, boxes.get(row[0], row[3:7])), *row[7:]] for row in rows])
    return path


def turn(image: Path, orientation: int) -> None:
    with Image.open(image) as opened:
        exif = opened.getexif()
        exif[ExifTags.Base.Orientation] = orientation
        opened.save(image, exif=exif)


@pytest.mark.parametrize("kind", ["cub", "tiny-imagenet", "imagenet", "table"])
def test_findings_of_a_sound_dataset_are_facts_alone(kind: str, tmp_path: Path) -> None:
    drawers = {"cub": draw_cub, "tiny-imagenet": draw_tiny_imagenet, "imagenet": draw_imagenet, "table": draw_table}
    found = found_in(kind, drawers[kind](tmp_path / "set"), val=1)
    assert found.facts == ["true boxes: 14 of 14 images; 0 overhang"]
    assert found.wrong() == []
    assert found.for_a_run() == ()
    found.require_meaning()


def test_findings_same_image_in_train_and_test_is_a_problem_that_a_run_warns_of(tmp_path: Path) -> None:
    path = draw_table(tmp_path / "set")
    for number in (1, 2):
        shutil.copy(path.parent / f"pictures/0_train_{number}.png", path.parent / f"pictures/0_test_{number}.png")
    found = found_in("table", path)
    where = "pictures/0_train_1.png (train), pictures/0_test_1.png (test): keep one"
    assert found.wrong()[0] == f"one image in several splits: {where}"
    assert len(found.wrong()) == 2
    assert found.for_a_run() == (f"one image in several splits: {where}; 1 more, named by `lchp data check`",)
    found.require_meaning()


def test_findings_one_image_with_two_labels_is_a_problem_that_a_run_warns_of(tmp_path: Path) -> None:
    path = draw_table(tmp_path / "set")
    shutil.copy(path.parent / "pictures/0_train_1.png", path.parent / "pictures/1_train_1.png")
    (line,) = (found := found_in("table", path)).for_a_run()
    assert line.startswith("one image with several labels: pictures/0_train_1.png (train), pictures/1_train_1.png")
    assert found.wrong() == [line]


@pytest.mark.parametrize(("kept", "missing"), [(5, 1), (0, 6)])
def test_findings_missing_test_boxes_are_counted(kept: int, missing: int, tmp_path: Path) -> None:
    path = draw_table(tmp_path / "set")
    gone = [row[0] for row in rows_of(path) if row[2] == "test"][kept:]
    found = found_in("table", with_boxes(path, dict.fromkeys(gone, ("", "", "", ""))))
    assert found.for_a_run() == (f"test: {missing} of 6 images have no true box",)
    assert found.wrong() == []


def test_findings_missing_training_boxes_are_a_fact(tmp_path: Path) -> None:
    path = draw_table(tmp_path / "set")
    found = found_in("table", with_boxes(path, {"pictures/0_train_0.png": ("", "", "", "")}))
    assert found.facts[-1] == "train: 1 of 8 images have no true box"
    assert found.for_a_run() == ()


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        (("nan", 2, 30, 40), "(nan, 2, 30, 40) is not finite"),
        (("inf", 2, 30, 40), "(inf, 2, 30, 40) is not finite"),
        ((30, 2, 10, 40), "(30, 2, 10, 40) has no area"),
        ((1, 2, 1, 40), "(1, 2, 1, 40) has no area"),
        ((80, 2, 90, 40), "(80, 2, 90, 40) lies outside the 80 x 64 image"),
        ((-9, 2, 0, 40), "(-9, 2, 0, 40) lies outside the 80 x 64 image"),
    ],
)
def test_findings_bad_boxes_are_refused_by_line_in_a_table_and_left_out_in_imagenet(
    box: tuple[object, ...], fault: str, tmp_path: Path
) -> None:
    path = with_boxes(draw_table(tmp_path / "set", size=SIZE), {"pictures/0_test_1.png": box})
    found = found_in("table", path)
    (line,) = found.wrong()
    assert line.startswith(f"a bad true box: {path}, line 7: pictures/0_test_1.png: {fault}: ")
    assert line.endswith("remove it")
    with pytest.raises(ValueError, match=r"a bad true box: .*table\.csv, line 7"):
        found.require_meaning()
    path = draw_imagenet(tmp_path / "imagenet", size=SIZE)
    write_annotation(path / VAL_XML, [("n00000010", box)])  # type: ignore[list-item]
    found = found_in("imagenet", path)
    missing, bad = found.for_a_run()
    assert missing == "test: 1 of 6 images have no true box"
    assert bad.endswith(f"ILSVRC2012_val_00000005.JPEG: {fault}: left out")
    assert found.wrong() == [bad]
    found.require_meaning()


@pytest.mark.parametrize("line", ["1 nan 10 20 20", "1 90 10 20 20", "1 10 10 0 20", "1 10 10 -5 20"])
def test_findings_bad_boxes_of_cub_are_refused_by_image(line: str, tmp_path: Path) -> None:
    path = draw_cub(tmp_path / "set", size=SIZE)
    (path / "bounding_boxes.txt").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"a bad true box: .*Bird_0_train_0\.jpg: \("):
        found_in("cub", path).require_meaning()


def fractions(path: Path, among: tuple[str, ...]) -> Path:
    """Boxes of some splits as fractions of their image."""
    rows = rows_of(path)
    boxes = {
        row[0]: tuple(int(cell) / side for cell, side in zip(row[3:], SIZE * 2, strict=True))
        for row in rows[1:]
        if row[2] in among
    }
    return with_boxes(path, boxes)


@pytest.mark.parametrize("among", [("train", "test"), ("test",), ("train",)])
def test_findings_boxes_as_fractions_are_refused(among: tuple[str, ...], tmp_path: Path) -> None:
    found = found_in("table", fractions(draw_table(tmp_path / "set", size=SIZE), among))
    counts = {"train": 8, "test": 6}
    assert [line.rpartition("; ")[2] for line in found.wrong()] == [
        f"so do all {counts[one]} boxes of {one}" for one in among
    ]
    with pytest.raises(ValueError, match=r"look like fractions of the image: .*table\.csv, line \d+: .*multiply x by"):
        found.require_meaning()


def test_findings_some_boxes_as_fractions_are_problems_and_a_warning(tmp_path: Path) -> None:
    boxes = {"pictures/0_test_1.png": (0.1, 0.2, 0.5, 0.75), "pictures/0_test_2.png": (0, 0, 1, 1)}
    found = found_in("table", with_boxes(draw_table(tmp_path / "set"), boxes))
    (line,) = found.wrong()
    assert "line 7: pictures/0_test_1.png: (0.1, 0.2, 0.5, 0.75) (test): multiply x by the width" in line
    assert found.for_a_run() == (line,)
    found.require_meaning()


def test_findings_boxes_of_tiny_images_are_no_fractions(tmp_path: Path) -> None:
    path = draw_table(tmp_path / "set", size=(6, 6))
    write_rows(path, [rows_of(path)[0], *([*row[:3], "0", "0", "1", "1"] for row in rows_of(path)[1:])])
    assert found_in("table", path).wrong() == []


def test_findings_tagged_images_with_boxes_are_counted_and_told_what_is_meant(tmp_path: Path) -> None:
    path = draw_cub(tmp_path / "set", size=SIZE)
    for number, orientation in ((0, 6), (1, 3), (2, 1)):
        turn(path / f"images/001.Bird_0/Bird_0_train_{number}.jpg", orientation)
    found = found_in("cub", path)
    (line,) = found.for_a_run()
    assert line.startswith(
        "images with true boxes and an EXIF orientation other than 1: 2 (images/001.Bird_0/Bird_0_train_0.jpg, "
        "images/001.Bird_0/Bird_0_train_1.jpg): boxes count in the stored pixels, whatever EXIF says: give them so"
    )
    assert found.wrong() == []


def test_findings_box_that_fits_only_the_turned_picture_is_a_problem(tmp_path: Path) -> None:
    path = with_boxes(draw_table(tmp_path / "set", size=SIZE), {"pictures/0_test_1.png": (10, 10, 60, 78)})
    turn(path.parent / "pictures/0_test_1.png", 6)
    found = found_in("table", path)
    (line,) = found.wrong()
    assert line.startswith("true boxes look drawn on the turned picture: pictures/0_test_1.png, stored as 80 x 64: ")
    assert line.endswith("or write `exif` into the column `orientation` of a table")
    assert line in found.for_a_run()


def test_findings_box_outside_the_stored_picture_names_the_tag(tmp_path: Path) -> None:
    path = with_boxes(draw_table(tmp_path / "set", size=SIZE), {"pictures/0_test_1.png": (10, 66, 60, 78)})
    turn(path.parent / "pictures/0_test_1.png", 6)
    with pytest.raises(ValueError, match=r"outside the 80 x 64 image as it is stored; boxes count in the stored"):
        found_in("table", path).require_meaning()


def test_findings_table_that_says_exif_is_turned_back_and_not_warned_of(tmp_path: Path) -> None:
    path = with_boxes(draw_table(tmp_path / "set", size=SIZE), {"pictures/0_test_1.png": (10, 66, 60, 78)})
    turn(path.parent / "pictures/0_test_1.png", 6)
    header, *rows = rows_of(path)
    write_rows(path, [[*header, "orientation"], *([*row, "exif" if "0_test_1" in row[0] else ""] for row in rows)])
    found = found_in("table", path)
    assert (found.wrong(), found.for_a_run()) == ([], ())


def test_findings_what_is_left_out_is_counted_and_said(tmp_path: Path) -> None:
    path = draw_imagenet(tmp_path / "set")
    folder = path / "ILSVRC/Data/CLS-LOC/train/n00000010"
    for name in ("._n00000010_1.JPEG", "Thumbs.db", "a.txt", "b.txt", "c.txt", "d.xml"):
        (folder / name).write_bytes(b"")
    found = found_in("imagenet", path)
    at = "Data/CLS-LOC/train/n00000010"
    assert found.facts[0] == f"hidden entries among the images, skipped: 2 ({at}/._n00000010_1.JPEG, {at}/Thumbs.db)"
    assert found.for_a_run() == (
        f"entries among the images that are not read as images: 4 ({at}/a.txt, {at}/b.txt, {at}/c.txt, ...)",
    )
    assert found.wrong() == []


def test_findings_classes_that_differ_in_case_alone_are_warned_of(tmp_path: Path) -> None:
    path = draw_table(tmp_path / "set")
    path.write_text(path.read_text().replace("class 1", "Class  0"))
    assert found_in("table", path).for_a_run() == (
        "classes that differ in case, spaces or the way of writing accents alone: 'Class  0', 'class 0'",
    )


def test_findings_tiny_imagenet_image_without_annotation_is_left_out_and_said(tmp_path: Path) -> None:
    path = draw_tiny_imagenet(tmp_path / "set")
    shutil.copy(path / "val/images/val_4.JPEG", path / "val/images/val_99.JPEG")
    (line,) = found_in("tiny-imagenet", path).for_a_run()
    assert line == "entries among the images that are not read as images: 1 (val/images/val_99.JPEG)"


@pytest.mark.parametrize(("wrong", "is_told"), [(6, True), (0, False)])
def test_findings_boxes_that_leave_their_images_by_far_are_warned_of(wrong: int, is_told: bool, tmp_path: Path) -> None:
    path = draw_table(tmp_path / "set", size=SIZE)
    tests = [row[0] for row in rows_of(path) if row[2] == "test"]
    assert len(tests) == 6
    boxes: dict[str, tuple[object, ...]] = dict.fromkeys(tests, (10, 10, 83, 67))
    boxes |= dict.fromkeys(tests[:wrong], (10, 10, 85, 64))
    found = found_in("table", with_boxes(path, boxes))
    assert found.facts[0] == "true boxes: 14 of 14 images; 6 overhang"
    first = ", ".join(tests[:3])
    told = (
        f"test: 6 of 6 true boxes leave their images by more than 5% of a side, and are clipped: 6 ({first}, ...): "
        "boxes are pixels of the image as it is stored, and neither of another size nor percent"
    )
    assert found.warnings == ([told] if is_told else [])
    found.require_meaning()
