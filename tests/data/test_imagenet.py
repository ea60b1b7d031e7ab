"""ImageNet's layout: where labels of validation images come from, several boxes, and what is refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from lchp.data import imagenet
from lchp.data.imagenet import read
from lchp.data.records import Dataset, PixelBoxes, Records
from tests.data.layouts import draw_imagenet, write_annotation

VAL = "Annotations/CLS-LOC/val/ILSVRC2012_val_00000005.xml"
VAL_IMAGE = "Data/CLS-LOC/val/ILSVRC2012_val_00000005.JPEG"


def read_boxes(dataset: Dataset, records: Records, cache: Path | None = None) -> PixelBoxes | None:
    found = imagenet.read_boxes(dataset, records, cache)
    return None if found is None else found.by_path(records)


def drawn(folder: Path) -> Path:
    return draw_imagenet(folder) / "ILSVRC"


def test_imagenet_several_objects_are_several_boxes_as_written(tmp_path: Path) -> None:
    root = drawn(tmp_path)
    write_annotation(root / VAL, [("n00000010", (1, 2, 30, 40)), ("n00000010", (5, 6, 70, 64))])
    dataset = read(root)
    boxes = read_boxes(dataset, dataset.test)
    assert boxes is not None
    assert boxes[VAL_IMAGE] == [(1, 2, 30, 40), (5, 6, 70, 64)]


def test_imagenet_objects_of_another_class_are_left_out(tmp_path: Path) -> None:
    root = drawn(tmp_path)
    write_annotation(root / VAL, [("n00000010", (1, 2, 30, 40)), ("n00000011", (5, 6, 70, 64))])
    dataset = read(root)
    boxes = read_boxes(dataset, dataset.test)
    assert boxes is not None
    assert boxes[VAL_IMAGE] == [(1, 2, 30, 40)]


def test_imagenet_images_without_annotation_have_no_box(tmp_path: Path) -> None:
    root = drawn(tmp_path)
    dataset = read(root)
    (root / "Annotations/CLS-LOC/train/n00000010/n00000010_0.xml").unlink()
    boxes = read_boxes(dataset, dataset.train)
    assert boxes is not None
    assert {record.path for record in dataset.train} - set(boxes) == {"Data/CLS-LOC/train/n00000010/n00000010_0.JPEG"}


def test_imagenet_solution_csv_comes_before_annotations(tmp_path: Path) -> None:
    root = drawn(tmp_path)
    before = read(root)
    lines = [f"{Path(record.path).stem},n{11 - record.label:08d} 1 2 3 4 " for record in before.test]
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *lines]) + "\n")
    after = read(root)
    assert [record.label for record in after.test] == [1 - record.label for record in before.test]


def test_imagenet_names_come_from_the_synset_mapping(tmp_path: Path) -> None:
    root = drawn(tmp_path)
    assert read(root).classes == ("n00000010", "n00000011")
    (tmp_path / "LOC_synset_mapping.txt").write_text("n00000010 tench, Tinca tinca\nn00000011 goldfish\n")
    dataset = read(root)
    assert dataset.classes == ("n00000010 tench", "n00000011 goldfish")
    assert len(read_boxes(dataset, dataset.test) or {}) == len(dataset.test)


def test_imagenet_without_any_labels_of_validation_images_is_refused(tmp_path: Path) -> None:
    root = drawn(tmp_path)
    (root / VAL).unlink()
    with pytest.raises(ValueError, match=r"00000005\.xml is missing, and so is .*LOC_val_solution\.csv.*put one back"):
        read(root)


def test_imagenet_solution_that_lacks_an_image_is_refused(tmp_path: Path) -> None:
    root = drawn(tmp_path)
    (tmp_path / "LOC_val_solution.csv").write_text("ImageId,PredictionString\nILSVRC2012_val_1,n00000010 1 2 3 4\n")
    with pytest.raises(
        ValueError, match=r"LOC_val_solution\.csv: no line for validation image ILSVRC2012_val_00000005"
    ):
        read(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", "is not an annotation in XML"),
        ("<annotation></annotation>", "holds no object"),
        ("<annotation><object/></annotation>", "an object has no name"),
        ("<annotation><object><name>n00000099</name></object></annotation>", r"class n00000099 has no folder"),
    ],
)
def test_imagenet_bad_annotation_is_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    root = drawn(tmp_path)
    (root / VAL).write_text(text)
    with pytest.raises(ValueError, match=rf"ILSVRC2012_val_00000005.*{message}"):
        read(root)


def test_imagenet_box_that_is_not_four_numbers_is_refused(tmp_path: Path) -> None:
    root = drawn(tmp_path)
    dataset = read(root)
    (root / VAL).write_text((root / VAL).read_text().replace("<xmax>", "<xmax>x"))
    with pytest.raises(ValueError, match=r"00000005\.xml: an object has no box of four numbers"):
        read_boxes(dataset, dataset.test)


def test_imagenet_annotation_with_an_external_entity_is_refused(tmp_path: Path) -> None:
    root = drawn(tmp_path)
    (tmp_path / "secret").write_text("n00000010")
    (root / VAL).write_text(
        f'<!DOCTYPE a [<!ENTITY e SYSTEM "{(tmp_path / "secret").as_uri()}">]>'
        "<annotation><object><name>&e;</name></object></annotation>"
    )
    with pytest.raises(ValueError, match="is not an annotation in XML"):
        read(root)


@pytest.mark.parametrize("name", ["LOC_val_solution.csv", "LOC_synset_mapping.txt"])
def test_imagenet_list_in_another_encoding_is_refused_by_name(name: str, tmp_path: Path) -> None:
    root = drawn(tmp_path)
    (root.parent / name).write_bytes("ImageId,PredictionString\nMöwe\n".encode("latin1"))
    with pytest.raises(ValueError, match=rf"{name}, line 2: the byte 0xf6 is not UTF-8: save the file in UTF-8"):
        read(root)


def sort_val(root: Path, annotations: bool = False) -> None:
    """The validation images, and the annotations if asked, sorted into class folders."""
    for record in read(root).test:
        wnid, file = f"n{record.label + 10:08d}", root / record.path
        moved = [(file, file.parent / wnid / file.name)]
        if annotations:
            xml = root / VAL.rpartition("/")[0] / f"{file.stem}.xml"
            moved.append((xml, xml.parent / wnid / xml.name))
        for old, new in moved:
            new.parent.mkdir(exist_ok=True)
            old.rename(new)


@pytest.mark.parametrize("annotations", [False, True])
def test_imagenet_val_sorted_into_class_folders_is_read(annotations: bool, tmp_path: Path) -> None:
    root = drawn(tmp_path)
    before = read(root)
    boxes = read_boxes(before, before.test)
    sort_val(root, annotations)
    after = read(root)
    assert [(Path(r.path).name, r.label) for r in after.test] == [(Path(r.path).name, r.label) for r in before.test]
    found = read_boxes(after, after.test)
    assert found is not None
    assert boxes is not None
    assert {Path(path).name: box for path, box in found.items()} == {Path(p).name: box for p, box in boxes.items()}


def test_imagenet_val_folder_of_another_class_is_refused(tmp_path: Path) -> None:
    root = drawn(tmp_path)
    sort_val(root)
    (root / "Data/CLS-LOC/val/n00000011").rename(root / "Data/CLS-LOC/val/n00000099")
    with pytest.raises(ValueError, match=r"its class n00000099 has no folder in .*train: add the folder or remove"):
        read(root)


def solution(root: Path, text: str) -> None:
    (root.parent / "LOC_val_solution.csv").write_text(text, encoding="utf-8")


def test_imagenet_solution_with_mark_spaces_and_more_columns_is_read(tmp_path: Path) -> None:
    root = drawn(tmp_path)
    before = read(root)
    rows = [f'x, {Path(r.path).stem} ,"n{r.label + 10:08d} 1 2 3 4"' for r in before.test]
    solution(root, "\ufeff" + "\r\n".join(["Usage, ImageId ,PredictionString", *rows]) + "\r\n")
    assert read(root).test == before.test


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1: columns ImageId and PredictionString are missing"),
        ("ImageId;PredictionString\n", r"line 1: columns ImageId and PredictionString are missing: restore it"),
        ("ImageId,Label\nILSVRC2012_val_00000005,n1\n", r"line 1: column PredictionString is missing"),
        ("ImageId,PredictionString\n\nILSVRC2012_val_00000005\n", r"line 3: 'ILSVRC2012_val_00000005' does not give"),
        ("ImageId,PredictionString\na,n1\na,n1\na,n2\n", r"line 4: a has class n1 further up: keep one line"),
        ("ImageId,PredictionString\nILSVRC2012_val_00000005, \n", r"line 2: .* does not give an image and its class"),
    ],
)
def test_imagenet_broken_solution_is_refused_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    root = drawn(tmp_path)
    solution(root, text)
    with pytest.raises(ValueError, match=rf"LOC_val_solution\.csv, {message}"):
        read(root)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', r"is not an annotation in XML \(.*encoding"),
        (b'<?xml version="1.0" encoding="utf-16"?><annotation/>', r"is not an annotation in XML"),
        (b"<annotation>M\xf6we</annotation>", r"is not an annotation in XML"),
        (b"", r"is not an annotation in XML"),
        (b"<html><object><name>n00000010</name></object></html>", r"is not an annotation, its root is <html>"),
    ],
)
def test_imagenet_annotation_that_is_none_is_refused_by_name(data: bytes, message: str, tmp_path: Path) -> None:
    root = drawn(tmp_path)
    (root / VAL).write_bytes(data)
    with pytest.raises(ValueError, match=rf"ILSVRC2012_val_00000005\.xml {message}"):
        read(root)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the annotations that are parsed from now on."""
    parsed: list[str] = []
    parse = ElementTree.parse

    def counting(file: Path) -> Any:
        parsed.append(file.name)
        return parse(file)

    monkeypatch.setattr(ElementTree, "parse", counting)
    return parsed


def test_imagenet_boxes_that_are_remembered_are_the_same_and_parse_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = drawn(tmp_path)
    write_annotation(root / VAL, [("n00000010", (1, 2, 30, 40)), ("n00000010", (5, 6, 70, 64))])
    (root / VAL).write_text((root / VAL).read_text().replace(">30<", ">0.1<"))
    (root / "Annotations/CLS-LOC/train/n00000010/n00000010_0.xml").unlink()
    dataset = read(root)
    records = dataset.images
    expected = read_boxes(dataset, records)
    parsed = counted(monkeypatch)
    assert read_boxes(dataset, records, tmp_path / "cache") == expected
    assert len(parsed) == len(records) - 1
    assert read_boxes(dataset, records, tmp_path / "cache") == expected
    assert len(parsed) == len(records) - 1


@pytest.mark.parametrize("change", ["edited", "removed", "added", "another class"])
def test_imagenet_boxes_are_read_again_where_an_annotation_or_class_changed(change: str, tmp_path: Path) -> None:
    root = drawn(tmp_path)
    first = root / "Annotations/CLS-LOC/train/n00000010/n00000010_0.xml"
    text = first.read_text()
    if change == "added":
        first.unlink()
    dataset = read(root)
    before = read_boxes(dataset, dataset.train, tmp_path / "cache")
    if change == "another class":
        dataset = replace(dataset, classes=dataset.classes[::-1])
    elif change == "removed":
        first.unlink()
    else:
        times = first.stat() if first.exists() else None
        write_annotation(first, [("n00000010", (1, 2, 3, 4))])
        first.write_text(first.read_text().ljust(len(text)))
        if times:  # the length and the time of modification are kept
            os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = read_boxes(dataset, dataset.train, tmp_path / "cache")
    assert after == read_boxes(dataset, dataset.train)
    assert after != before


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "others"])
def test_imagenet_damaged_memory_of_boxes_is_made_again(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = read(drawn(tmp_path))
    expected = read_boxes(dataset, dataset.train, tmp_path / "cache")
    (memory,) = (tmp_path / "cache/boxes").glob("*.npz")
    whole = memory.read_bytes()
    middle = len(whole) * 2 // 3
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    memory.write_bytes({"cut": whole[:middle], "flipped": flipped, "empty": b"", "others": whole}[damage])
    if damage == "others":
        np.savez(memory, counts=np.zeros(3, np.int64), boxes=np.zeros((0, 4)))
    assert read_boxes(dataset, dataset.train, tmp_path / "cache") == expected
    assert f"{memory} is damaged (it " in capsys.readouterr().err


def test_imagenet_refused_annotation_is_not_remembered(tmp_path: Path) -> None:
    root = drawn(tmp_path)
    dataset = read(root)
    (root / VAL).write_text("<annotation>")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"00000005\.xml is not an annotation in XML"):
            read_boxes(dataset, dataset.test, tmp_path / "cache")
    assert list((tmp_path / "cache/boxes").glob("*.npz")) == []
