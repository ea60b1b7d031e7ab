"""Tiny-ImageNet's files: order and names of classes, labels without boxes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lchp.data.tiny_imagenet import read, read_boxes
from tests.data.layouts import draw_tiny_imagenet

ANNOTATIONS = "val/val_annotations.txt"


def test_tiny_imagenet_classes_are_in_the_order_of_wnids_with_names(tmp_path: Path) -> None:
    draw_tiny_imagenet(tmp_path, classes=3, train=1, test=1)
    dataset = read(tmp_path)
    assert dataset.classes == ("n00000090 thing 0", "n00000089 thing 1", "n00000088 thing 2")
    assert {record.path.split("/")[1]: record.label for record in dataset.train} == {
        "n00000090": 0,
        "n00000089": 1,
        "n00000088": 2,
    }
    (tmp_path / "words.txt").unlink()
    assert read(tmp_path).classes == ("n00000090", "n00000089", "n00000088")


def test_tiny_imagenet_labels_are_read_where_boxes_are_unreadable(tmp_path: Path) -> None:
    draw_tiny_imagenet(tmp_path, classes=1, train=1, test=1)
    name, wnid = (tmp_path / ANNOTATIONS).read_text().split("\t")[:2]
    (tmp_path / ANNOTATIONS).write_text(f"{name}\t{wnid}\tno\tbox\tin\there\n")
    dataset = read(tmp_path)
    assert [record.path for record in dataset.test] == [f"val/images/{name}"]
    with pytest.raises(ValueError, match=r"val_annotations\.txt, line 1: the box .* is not four whole numbers"):
        read_boxes(dataset, dataset.test)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("val_1.JPEG\tn77777777", r"line 1: class 'n77777777' is not in wnids\.txt: add it"),
        ("val_1.JPEG", r"line 1: 'val_1\.JPEG' has fewer than 2 tab-separated cells"),
    ],
)
def test_tiny_imagenet_bad_annotation_is_refused(line: str, message: str, tmp_path: Path) -> None:
    draw_tiny_imagenet(tmp_path, classes=1, train=1, test=1)
    (tmp_path / ANNOTATIONS).write_text(f"{line}\n")
    with pytest.raises(ValueError, match=rf"val_annotations\.txt, {message}"):
        read(tmp_path)


def test_tiny_imagenet_missing_annotations_or_class_folder_are_refused(tmp_path: Path) -> None:
    draw_tiny_imagenet(tmp_path)
    (tmp_path / ANNOTATIONS).unlink()
    with pytest.raises(ValueError, match=r"val_annotations\.txt is missing: restore it"):
        read(tmp_path)
    with (tmp_path / "wnids.txt").open("a") as file:
        file.write("n12345678\n")
    with pytest.raises(ValueError, match=r"n12345678/images is missing: wnids\.txt names n12345678"):
        read(tmp_path)


@pytest.mark.parametrize("file", ["wnids.txt", "words.txt", ANNOTATIONS])
def test_tiny_imagenet_text_in_another_encoding_is_refused_by_name(file: str, tmp_path: Path) -> None:
    draw_tiny_imagenet(tmp_path)
    with (tmp_path / file).open("ab") as stream:
        stream.write("Möwe\n".encode("latin1"))
    with pytest.raises(ValueError, match=r"\.txt, line \d+: the byte 0xf6 is not UTF-8: save the file in UTF-8"):
        read(tmp_path)


@pytest.mark.parametrize("place", ["val/{wnid}", "val/{wnid}/images", "val/images/{wnid}"])
def test_tiny_imagenet_val_sorted_into_class_folders_is_read(place: str, tmp_path: Path) -> None:
    draw_tiny_imagenet(tmp_path)
    before = read(tmp_path)
    boxes = read_boxes(before, before.test)
    for record in before.test:
        folder = tmp_path / place.format(wnid=before.classes[record.label].split()[0])
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / record.path).rename(folder / Path(record.path).name)
    after = read(tmp_path)
    assert [(Path(r.path).name, r.label) for r in after.test] == [(Path(r.path).name, r.label) for r in before.test]
    assert all((tmp_path / record.path).is_file() for record in after.test)
    assert after.left_out == ()
    found = read_boxes(after, after.test)
    assert boxes is not None
    assert found is not None
    assert {Path(path).name: box for path, box in found.items()} == {Path(p).name: box for p, box in boxes.items()}


def test_tiny_imagenet_marks_line_ends_and_spaces_do_not_count(tmp_path: Path) -> None:
    draw_tiny_imagenet(tmp_path)
    before = read(tmp_path)
    boxes = read_boxes(before, before.test)
    for file in tmp_path.rglob("*.txt"):
        text = file.read_text().replace("\t", " \t").replace("\n", " \r\n")
        file.write_bytes(f"\ufeff{text}".encode())
    after = read(tmp_path)
    assert after == before
    assert read_boxes(after, after.test) == boxes
