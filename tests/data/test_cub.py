"""CUB's text files: ids with gaps, order of classes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lchp.data.cub import read, read_boxes
from tests.data.layouts import draw_cub


def test_cub_classes_are_numbered_in_the_order_of_classes_txt(tmp_path: Path) -> None:
    draw_cub(tmp_path, classes=3, train=1, test=1)
    lines = (tmp_path / "classes.txt").read_text().splitlines()
    (tmp_path / "classes.txt").write_text("\n".join(reversed(lines)) + "\n")
    dataset = read(tmp_path)
    assert dataset.classes == ("005.Bird_2", "003.Bird_1", "001.Bird_0")
    assert {record.path.split("/")[1]: record.label for record in dataset.train} == {
        "005.Bird_2": 0,
        "003.Bird_1": 1,
        "001.Bird_0": 2,
    }


def test_cub_subset_of_images_beside_the_full_lists_is_read(tmp_path: Path) -> None:
    draw_cub(tmp_path)
    lines = (tmp_path / "images.txt").read_text().splitlines()
    (tmp_path / "images.txt").write_text("\n".join(lines[1:]) + "\n")
    dataset = read(tmp_path)
    boxes = read_boxes(dataset, dataset.train)
    assert len(dataset.train) + len(dataset.test) == len(lines) - 1
    assert boxes is not None
    assert set(boxes) == {record.path for record in (*dataset.train, *dataset.test)}


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("images.txt", "2 001", "1 001", r"images\.txt, line 2: .* repeats an id"),
        ("images.txt", "1 001.Bird_0/Bird_0_train_0.jpg", "1", r"images\.txt, line 1: '1' is not '<id> <value>'"),
        (
            "image_class_labels.txt",
            "1 1\n",
            "1 2\n",
            r"image_class_labels\.txt, line 1: image 1 has class 2, which classes\.txt",
        ),
        ("image_class_labels.txt", "1 1\n", "", r"image_class_labels\.txt: image 1 of images\.txt is missing"),
        (
            "train_test_split.txt",
            "1 1\n",
            "1 yes\n",
            r"train_test_split\.txt, line 1: image 1 has 'yes': write 1 \(train\) or 0",
        ),
    ],
)
def test_cub_contradiction_is_refused_with_file_and_remedy(
    file: str, old: str, new: str, message: str, tmp_path: Path
) -> None:
    draw_cub(tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_cub_missing_list_is_refused(tmp_path: Path) -> None:
    draw_cub(tmp_path)
    (tmp_path / "train_test_split.txt").unlink()
    with pytest.raises(ValueError, match=r"train_test_split\.txt is missing: restore it"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["images", "classes", "image_class_labels", "train_test_split"])
def test_cub_list_in_another_encoding_is_refused_by_name(name: str, tmp_path: Path) -> None:
    draw_cub(tmp_path)
    (tmp_path / f"{name}.txt").write_bytes("1 Möwe\n".encode("latin1"))
    with pytest.raises(ValueError, match=rf"{name}\.txt, line 1: the byte 0xf6 is not UTF-8: save the file in UTF-8"):
        read(tmp_path)


@pytest.mark.parametrize("box", ["1 2 3", "1 2 3 four"])
def test_cub_box_that_is_not_four_numbers_is_refused(box: str, tmp_path: Path) -> None:
    draw_cub(tmp_path)
    dataset = read(tmp_path)
    (tmp_path / "bounding_boxes.txt").write_text(f"1 {box}\n")
    with pytest.raises(
        ValueError, match=r"bounding_boxes\.txt, line 1: image 1 has '.*': write x, y, width and height"
    ):
        read_boxes(dataset, dataset.train)
