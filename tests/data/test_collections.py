"""Pictures as people have them: folders of classes, and the boxes of other tools."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lchp.data.collections import Collection, Found, collect
from lchp.data.config import FilesDataset
from lchp.data.reading import open_dataset, read_pixel_boxes
from lchp.data.table_writing import with_splits, write_table


def draw(folder: Path, *paths: str, size: tuple[int, int] = (40, 20)) -> Path:
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size).save(file)
    return folder


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def labels(collection: Collection) -> dict[str, tuple[str, str | None]]:
    return {image.path: (image.label, image.split) for image in collection.images}


def coco(categories: dict[int, str], images: dict[int, str], boxes: list[tuple[int, int, list[float]]]) -> str:
    content: dict[str, Any] = {
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
        "images": [{"id": number, "file_name": name} for number, name in images.items()],
        "annotations": [{"image_id": image, "category_id": category, "bbox": box} for image, category, box in boxes],
    }
    return json.dumps(content)


SAME_IDS = (
    '{{"images": [{{"id": 1, "file_name": "{}"}}, {{"id": 1, "file_name": "{}"}}], "annotations": [], '
    '"categories": [{{"id": 1, "name": "{}"}}, {{"id": 1, "name": "{}"}}]}}'
)
"""Of COCO: two images and two categories of the same id."""


def voc(name: str, *objects: tuple[str, tuple[int, int, int, int]]) -> str:
    inner = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        "</bndbox></object>"
        for label, (x1, y1, x2, y2) in objects
    )
    return f"<annotation><filename>{name}</filename>{inner}</annotation>"


def test_collect_class_folders_are_the_labels(tmp_path: Path) -> None:
    draw(tmp_path, "owl/a.png", "owl/deep/b.JPG", "wren/a.png", ".hidden/c.png", "alone.png", "mlruns/1/d.png")
    collection = collect(tmp_path)
    assert labels(collection) == {
        "owl/a.png": ("owl", None),
        "owl/deep/b.JPG": ("owl", None),
        "wren/a.png": ("wren", None),
    }
    assert collection.told == (
        "1 pictures lie in no class folder: alone.png",
        "1 pictures lie in folders that lchp writes (analysis, cache, mlartifacts, mlruns): mlruns/1/d.png",
        "1 pictures lie deeper than right in the folder of their class: owl/deep/b.JPG",
    )


def test_collect_class_folders_below_splits_say_the_split(tmp_path: Path) -> None:
    draw(tmp_path, "train/owl/a.png", "valid/owl/b.png", "Test/owl/c.png")
    assert [split for _, split in labels(collect(tmp_path)).values()] == ["test", "train", "val"]


def test_collect_val_without_test_is_the_test_split(tmp_path: Path) -> None:
    collection = collect(draw(tmp_path, "train/owl/a.png", "val/owl/b.png"))
    assert [split for _, split in labels(collection).values()] == ["train", "test"]
    assert collection.told == ("its val images are the test split: it has none",)


def test_collect_coco_boxes_are_corners_of_the_class_that_covers_most(tmp_path: Path) -> None:
    draw(tmp_path, "pictures/a.png", "pictures/b.png", "pictures/c.png")
    text = coco(
        {3: "owl", 7: "wren"},
        {1: "a.png", 2: "/elsewhere/b.png", 3: "c.png", 4: "gone.png"},
        [(1, 3, [1, 2, 10, 5]), (1, 3, [20, 2, 4, 4]), (1, 7, [0, 0, 8, 8]), (2, 7, [0, 0, 40, 20.5])],
    )
    write(tmp_path, **{"annotations/instances.json": text, "other.json": "[1]"})
    collection = collect(tmp_path)
    assert collection.kind == "COCO boxes"
    assert collection.images == (
        Found("pictures/a.png", "owl", None, ((1, 2, 11, 7), (20, 2, 24, 6))),
        Found("pictures/b.png", "wren", None, ((0, 0, 40, 20.5),)),
    )
    assert collection.told == (
        "1 images are not there: gone.png",
        "1 images are known by the names of their files alone: /elsewhere/b.png",
        "1 images have no box: pictures/c.png",
        "1 images hold objects of several classes and count for that whose boxes cover most: pictures/a.png",
    )


def test_collect_coco_files_are_the_splits_that_their_names_say(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png")
    for split, name in (("train", "a.png"), ("val", "b.png")):
        write(tmp_path, **{f"instances_{split}2017.json": coco({1: "owl"}, {1: name}, [(1, 1, [0, 0, 5, 5])])})
    assert labels(collect(tmp_path)) == {"a.png": ("owl", "train"), "b.png": ("owl", "test")}


def test_collect_coco_file_without_a_split_is_train_where_others_name_one(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png")
    for stem, name in (("coco", "a.png"), ("coco_val", "b.png")):
        write(tmp_path, **{f"{stem}.json": coco({1: "owl"}, {1: name}, [(1, 1, [0, 0, 5, 5])])})
    collection = collect(tmp_path)
    assert labels(collection) == {"a.png": ("owl", "train"), "b.png": ("owl", "test")}
    assert collection.told[0] == "1 files name no split and count as train, as others name one: coco.json"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [], "annotations": [', "is no JSON"),
        ('{"images": [], "annotations": {}}', "lacks one of the lists images, annotations, categories"),
        (
            coco({1: "owl"}, {1: "a.png"}, [(2, 1, [0, 0, 5, 5])]),
            "annotations, number 0: image_id 2 is not listed: list",
        ),
        (coco({1: "owl"}, {1: "a.png"}, [(1, 1, [0, 0, 0, 5])]), r"annotations, number 0: bbox \[0, 0, 0, 5\] is not"),
        (
            coco({1: "owl"}, {1: "a.png"}, [(1, 1, [0, 0, 5])]),
            r"annotations, number 0: bbox \[0, 0, 5\] is not x, y",
        ),
        (coco({1: "owl"}, {1: "a.png"}, [(1, 1, [0, 0, "x", 5])]), "number 0: bbox .* is not x, y"),
        (coco({1: "owl"}, {1: "a.png"}, [(1, 1, None)]), "number 0: bbox None is not x, y"),  # type: ignore[list-item]
        (coco({1: "owl"}, {1: "a.png"}, [(1, 1, [0, 0, 10**400, 5])]), "number 0: bbox .{1,100} is not"),
        (coco({1: " "}, {1: "a.png"}, [(1, 1, [0, 0, 5, 5])]), "categories, number 0: has no name"),
        (coco({1: "owl"}, {1: ""}, [(1, 1, [0, 0, 5, 5])]), "images, number 0: has no file_name"),
        (SAME_IDS.format("a.png", "b.png", "owl", "owl"), r"images: a\.png and b\.png have one id, 1: correct it"),
        (SAME_IDS.format("a.png", "a.png", "owl", "cat"), "categories: owl and cat have one id, 1: correct it"),
        (coco({1: "owl"}, {1: "a.png"}, []), r"or give it no class \(1 images have no box: a\.png\): arrange"),
        ('{"images": [1], "annotations": [], "categories": []}', "images, number 0: 1 is no mapping"),
        (coco({1: "owl"}, {1: "a.png"}, [(1, True, [0, 0, 5, 5])]), "number 0: category_id True is neither text nor"),
        (coco({1: "owl"}, {1: "a.png"}, [([1], 1, [0, 0, 5, 5])]), r"number 0: image_id \[1\] is neither text nor"),  # type: ignore[list-item]
        (coco({1: ["owl"]}, {1: "a.png"}, []), r"categories, number 0: name \['owl'\] is neither text nor"),  # type: ignore[dict-item]
        (coco({1: "owl"}, {1: "a.png"}, []).replace('"id": 1', '"no": 1'), "images, number 0: has no id: give it one"),
        (coco({1: "owl"}, {1: "a.png", 2: "a.png"}, []), r"images: a\.png has the ids 1 and 2: keep one, or write the"),
        (coco({1: "owl"}, {1: "other.png"}, [(1, 1, [0, 0, 5, 5])]), "its COCO boxes name no picture that is there"),
    ],
)
def test_collect_damaged_coco_file_is_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    write(draw(tmp_path, "a.png"), **{"boxes.json": text})
    with pytest.raises(ValueError, match=message):
        collect(tmp_path)


def test_collect_annotation_of_several_pictures_is_refused(tmp_path: Path) -> None:
    write(draw(tmp_path, "x/a.png", "y/a.png"), **{"boxes.json": coco({1: "owl"}, {1: "a.png"}, [])})
    with pytest.raises(ValueError, match=r"a\.png may be x/a\.png or y/a\.png: give them names of their own"):
        collect(tmp_path)


def test_collect_annotation_of_an_image_that_is_gone_goes_to_no_other(tmp_path: Path) -> None:
    draw(tmp_path, "dog/1.png", "cat/2.png", "cat/3.png")
    names = {1: "cat/1.png", 2: "cat/2.png", 3: "val/2.png", 4: "/x/cat/3.png"}
    write(tmp_path, **{"boxes.json": coco({1: "cat"}, names, [(number, 1, [0, 0, 5, 5]) for number in names])})
    collection = collect(tmp_path)
    assert list(labels(collection)) == ["cat/2.png", "cat/3.png"]
    assert collection.told == (
        "2 images are not there: cat/1.png, val/2.png",
        "1 images are known by the names of their files alone: /x/cat/3.png",
        "1 pictures are in no annotation: dog/1.png",
    )


def test_collect_picture_that_two_annotations_may_mean_is_refused(tmp_path: Path) -> None:
    draw(tmp_path, "pictures/1.png")
    boxes = [(1, 1, [0.0, 0, 5, 5]), (2, 1, [0.0, 0, 9, 9])]
    write(tmp_path, **{"boxes.json": coco({1: "owl"}, {1: "a/1.png", 2: "b/1.png"}, boxes)})
    with pytest.raises(ValueError, match=r"a/1\.png and b/1\.png may both be pictures/1\.png: write them as they lie"):
        collect(tmp_path)
    write(tmp_path, **{f"{name}/1.xml": voc("1.png", ("owl", (1, 1, 4, 4))) for name in "ab"})
    with pytest.raises(ValueError, match=r"b/1\.xml: pictures/1\.png is described by another file, too: keep one"):
        collect(tmp_path, "voc")


def test_collect_voc_pixels_count_from_one_with_both_ends(tmp_path: Path) -> None:
    draw(tmp_path, "JPEGImages/a.png", "JPEGImages/b.png", "JPEGImages/c.png")
    write(
        tmp_path,
        **{
            "Annotations/a.xml": voc("a.png", ("owl", (1, 1, 40, 20)), ("owl", (3, 4, 5, 6))),
            "Annotations/b.xml": voc("", ("wren", (2, 2, 2, 2))),
            "Annotations/c.xml": voc("c.png"),
            "ImageSets/Main/train.txt": "a 1\n",
            "ImageSets/Main/test.txt": "b\n",
            "settings.xml": "<project/>",
        },
    )
    collection = collect(tmp_path)
    assert collection.images == (
        Found("JPEGImages/a.png", "owl", "train", ((0, 0, 40, 20), (2, 3, 5, 6))),
        Found("JPEGImages/b.png", "wren", "test", ((1, 1, 2, 2),)),
    )
    assert collection.told == ("1 images have no box: JPEGImages/c.png",)


def test_collect_voc_names_are_those_of_pictures_in_the_folders_of_the_annotation(tmp_path: Path) -> None:
    draw(tmp_path, "train/images/1.png", "val/images/1.png", "val/images/3.png")
    for split, label in (("train", "owl"), ("val", "wren")):
        write(tmp_path, **{f"{split}/xml/1.xml": voc("1.png", (label, (1, 1, 4, 4)))})
    write(tmp_path, **{"train/xml/3.xml": voc("3.png", ("owl", (1, 1, 4, 4)))})
    collection = collect(tmp_path)
    assert [(image.path, image.label) for image in collection.images] == [
        ("train/images/1.png", "owl"),
        ("val/images/1.png", "wren"),
    ]
    assert collection.told == (
        "1 images are not there: train/3.png",
        "1 pictures are in no annotation: val/images/3.png",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", "a.xml: is no XML"),
        ('<?xml version="1.0" encoding="foo"?><annotation/>', r"a\.xml: is no XML \(unknown encoding: foo\)"),
        ('<?xml version="1.0" encoding="gb2312"?><annotation/>', r"a\.xml: is no XML \(multi-byte encodings"),
        ("<!DOCTYPE x [<!ENTITY y 'z'>]><annotation/>", "declares entities, which no annotation needs"),
        ("<annotation><object><name>owl</name></object></annotation>", "an object owl has no bndbox of four numbers"),
        (voc("a.png", ("owl", (5, 5, 1, 9))), "the object owl has no box: correct or remove it"),
        (voc("a.png", ("", (1, 1, 5, 9))), "the object without name has no box"),
    ],
)
def test_collect_damaged_voc_file_is_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    write(draw(tmp_path, "a.png"), **{"a.xml": text})
    with pytest.raises(ValueError, match=message):
        collect(tmp_path)


def test_collect_yolo_boxes_are_fractions_around_a_centre(tmp_path: Path) -> None:
    draw(tmp_path, "train/images/a.png", "test/images/b.png", "train/images/c.png")
    write(
        tmp_path,
        **{
            "data.yaml": "names: [owl, wren]\n",
            "train/labels/a.txt": "1 0.5 0.5 0.5 0.25\n\n0 0.1 0.1 0.1 0.1\n",
            "test/labels/b.txt": "0 0 0 0.5 0.25 0.25 0.75\n",
            "train/labels/c.txt": "",
        },
    )
    collection = collect(tmp_path)
    assert collection.images == (
        Found("test/images/b.png", "owl", "test", parts=((0, 0, 0.5, 0.75),)),
        Found("train/images/a.png", "wren", "train", parts=((0.25, 0.375, 0.75, 0.625),)),
    )
    table = write_table(with_splits(collection, 0.2), tmp_path)
    config = FilesDataset(kind="table", path=table)
    dataset = open_dataset(config, tmp_path)
    assert read_pixel_boxes(config, dataset, dataset.images) == {
        "test/images/b.png": [(0, 0, 20, 15)],
        "train/images/a.png": [(10, 7.5, 30, 12.5)],
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.5", "line 1: has 3 numbers after the class: a box has 4, a polygon 6 or more"),
        ("2 0.5 0.5 0.5 0.5", "line 1: names the class 2, and the classes that have names are 0, 1: correct it"),
        ("owl 0.5 0.5 0.5 0.5", "line 1: is not `class x y width height`"),
        ("0 0.5 0.5 0 0.5", "line 1: is no box in parts of the image"),
        ("0 20 20 10 10", "line 1: is no box in parts of the image"),
        ("0 nan 0.5 0.5 0.5", "line 1: holds a number that is not finite: correct it"),
        ("0 1.5 0.5 0.4 0.6", "line 1: is no box in parts of the image"),
        ("\ufeff2 0.5 0.5 0.5 0.5", "line 1: names the class 2"),
    ],
)
def test_collect_bad_yolo_line_is_refused(line: str, message: str, tmp_path: Path) -> None:
    write(draw(tmp_path, "a.png"), **{"a.txt": line, "classes.txt": "owl\nwren\n"})
    with pytest.raises(ValueError, match=message):
        collect(tmp_path)


def test_collect_yolo_names_are_those_that_are_written(tmp_path: Path) -> None:
    names = ["no", "007", "1e3", "null"]
    draw(tmp_path, *(f"{number}.png" for number in range(4)))
    boxes = {f"{number}.txt": f"{number} 0.5 0.5 0.5 0.5" for number in range(4)}
    write(tmp_path, **boxes, **{"data.yaml": "names:\n" + "".join(f"  {n}: {name}\n" for n, name in enumerate(names))})
    assert [image.label for image in collect(tmp_path).images] == names


@pytest.mark.parametrize(
    "names", ["[owl, '']", "[owl, owl]", "[[owl]]", "", "ab", "{.inf: owl}", "3", "{owl: 0}", "[" * 3000]
)
def test_collect_bad_names_of_yolo_are_refused(names: str, tmp_path: Path) -> None:
    write(draw(tmp_path, "a.png"), **{"a.txt": "0 0.5 0.5 0.5 0.5", "data.yaml": f"names: {names}"})
    with pytest.raises(ValueError, match=r"data\.yaml: its `names` are no list of classes \(.{1,100}\): correct them"):
        collect(tmp_path)


def test_collect_yolo_boxes_without_names_of_classes_are_told(tmp_path: Path) -> None:
    write(draw(tmp_path, "images/a.png", "images/b.png"), **{"labels/a.txt": "0 0.5 0.5 0.5 0.5\n"})
    with pytest.raises(ValueError, match=r"holds boxes of YOLO, and neither data\.yaml nor classes\.txt, which names"):
        collect(tmp_path)
    assert {image.label for image in collect(tmp_path, "folders").images} == {"images"}
    write(tmp_path, **{"labels/a.txt": "a bird on a branch\n"})
    assert collect(tmp_path).kind == "class folders"


def test_collect_pictures_that_no_annotation_describes_are_told(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png")
    write(tmp_path, **{"a.xml": voc("a.png", ("owl", (1, 1, 9, 9)))})
    assert collect(tmp_path).told == ("1 pictures are in no annotation: b.png",)
    write(tmp_path, **{"boxes.json": coco({1: "owl"}, {1: "a.png"}, [(1, 1, [0, 0, 5, 5])])})
    assert collect(tmp_path, "coco").told == ("1 pictures are in no annotation: b.png",)


def test_collect_name_with_a_line_break_is_refused(tmp_path: Path) -> None:
    for name in ("owl/c\r.png", "ow\nl/c.png"):
        draw(tmp_path / repr(name)[1:4], name)
        with pytest.raises(
            ValueError, match=r"the name of '.*' holds a line break, or another control character: rename"
        ):
            collect(tmp_path / repr(name)[1:4])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"path;label\na.png;owl\n", r"list\.csv is no table: its first line, 'path;label', does not name the columns"),
        (b"Path,Label\na.png,owl\n", r"'Path,Label', does not name the columns path, label"),
        (b"\na.png,owl\n", r"list\.csv is no table: its first line, ''"),
        ("path,label\n".encode("utf-16"), r"list\.csv, line 1: is text in UTF-16: save the file in UTF-8"),
    ],
)
def test_collect_file_that_is_almost_a_table_is_told(table: bytes, message: str, tmp_path: Path) -> None:
    (draw(tmp_path, "a.png") / "list.csv").write_bytes(table)
    with pytest.raises(ValueError, match=message):
        collect(tmp_path)


def test_collect_table_without_split_keeps_its_boxes(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b/c.png")
    write(tmp_path, **{"list.csv": "path,label,x1,y1,x2,y2\na.png,owl,1,2,3,4\na.png,owl,2,2,3,4\nb/c.png,wren,,,,\n"})
    assert collect(tmp_path).images == (
        Found("a.png", "owl", None, ((1, 2, 3, 4), (2, 2, 3, 4))),
        Found("b/c.png", "wren", None),
    )


def test_collect_table_units_count_row_by_row_in_any_case(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png")
    rows = "a.png,owl,.25,.5,.5,1,Fractions\na.png,owl,1,2,3,4,pixels\nb.png,owl,1,2,3,5,\n"
    write(tmp_path, **{"list.csv": f"path,label,x1,y1,x2,y2,units\n{rows}"})
    table = write_table(with_splits(collect(tmp_path), 0.2), tmp_path)
    config = FilesDataset(kind="table", path=table)
    dataset = open_dataset(config, tmp_path)
    assert read_pixel_boxes(config, dataset, dataset.images) == {
        "a.png": [(1, 2, 3, 4), (10, 10, 20, 20)],
        "b.png": [(1, 2, 3, 5)],
    }


@pytest.mark.parametrize(
    ("head", "message"),
    [("x1,y1,x2,y2,Units", "column 'Units' is not known: write it 'units'"), ("xmin,ymin,xmax,ymax,u", "call them x1")],
)
def test_collect_table_whose_boxes_are_named_otherwise_is_refused(head: str, message: str, tmp_path: Path) -> None:
    write(draw(tmp_path, "a.png"), **{"list.csv": f"path,label,{head}\na.png,owl,1,2,3,4,\n"})
    with pytest.raises(ValueError, match=message):
        collect(tmp_path)


def test_collect_masks_stand_for_boxes(tmp_path: Path) -> None:
    draw(tmp_path, "owl/a.png", "owl/b.png", "wren/a.png", "masks/owl/a.png", "masks/wren/a.png")
    collection = collect(tmp_path, masks=tmp_path / "masks")
    assert [(image.path, image.mask) for image in collection.images] == [
        ("owl/a.png", "masks/owl/a.png"),
        ("owl/b.png", ""),
        ("wren/a.png", "masks/wren/a.png"),
    ]
    assert collection.told == ("1 pictures have no mask: owl/b.png",)


def test_collect_mask_of_a_picture_that_is_gone_goes_to_no_other(tmp_path: Path) -> None:
    draw(tmp_path, "owl/a.png", "owl/b.png", "wren/c.png", "masks/wren/a.png", "masks/deep/b.png")
    collection = collect(tmp_path, masks=tmp_path / "masks")
    assert [image.mask for image in collection.images] == ["", "masks/deep/b.png", ""]


def test_collect_mask_that_two_pictures_may_have_is_refused(tmp_path: Path) -> None:
    draw(tmp_path, "owl/a.png", "wren/a.png", "masks/a.png")
    with pytest.raises(ValueError, match=r"a\.png may be of owl/a\.png and wren/a\.png: put masks into folders"):
        collect(tmp_path, masks=tmp_path / "masks")


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ("../elsewhere", "lies outside .*, which a table may not leave: move it there"),
        ("gone", "is no folder: give that of the masks"),
        (".", "is that of the pictures: give that of the masks"),
        ("other", "none is named as one of the pictures: name them alike"),
        ("twice", r"owl/a\.png may have .*: keep one"),
    ],
)
def test_collect_masks_that_do_not_fit_are_refused(masks: str, message: str, tmp_path: Path) -> None:
    folder = draw(tmp_path / "pictures", "owl/a.png", "other/z.png", "twice/x/a.png", "twice/y/a.png")
    with pytest.raises(ValueError, match=message):
        collect(folder, masks=folder / masks)


@pytest.mark.parametrize(
    ("paths", "kind", "message"),
    [
        ((), None, "holds no picture: give a folder with .jpg, .png"),
        (("a.png",), None, "found no pictures in folders that name their classes: arrange them as"),
        (("owl/a.png",), "coco", r"found no JSON file of COCO \(images, annotations, categories\)"),
        (
            ("train/owl/a.png", "wren/b.png"),
            None,
            "holds train and wren: give every class folder a place below a split",
        ),
    ],
)
def test_collect_what_is_none_is_refused(
    paths: tuple[str, ...], kind: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        collect(draw(tmp_path, *paths), kind)


def test_collect_several_kinds_are_refused_unless_one_is_asked_for(tmp_path: Path) -> None:
    draw(tmp_path, "owl/a.png")
    boxes = coco({1: "owl"}, {1: "a.png"}, [(1, 1, [0, 0, 5, 5])])
    write(tmp_path, **{"boxes.json": boxes, "a.xml": voc("a.png", ("owl", (1, 1, 4, 4)))})
    with pytest.raises(ValueError, match="holds coco and voc: say with --from which one counts"):
        collect(tmp_path)
    assert collect(tmp_path, "voc").images == (Found("owl/a.png", "owl", None, ((0, 0, 4, 4),)),)
    assert collect(tmp_path, "folders").images == (Found("owl/a.png", "owl"),)


def test_with_splits_draws_a_share_of_every_class_and_never_all(tmp_path: Path) -> None:
    images = tuple(
        Found(f"{label}/{n}.png", label) for label, count in (("a", 10), ("b", 2), ("c", 1)) for n in range(count)
    )
    drawn = with_splits(Collection("", images), 0.3)
    test = [image.path for image in drawn.images if image.split == "test"]
    assert sorted(path[0] for path in test) == ["a", "a", "a", "b"]
    assert {image.split for image in drawn.images} == {"train", "test"}
    assert with_splits(Collection("", images), 0.3) == drawn
    assert drawn.told == ("4 of 13 images are drawn for test, a share of 0.3 of every class (seed 0)",)


def test_write_table_replaces_none(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match=r"images\.csv: is there already: remove it, or begin with it"):
        write_table(Collection("", (Found("a.png", "owl", "train"),)), tmp_path)
    assert (tmp_path / "images.csv").read_text(encoding="utf-8") == "mine"


def test_collect_links_that_lead_back_are_followed_once(tmp_path: Path) -> None:
    draw(tmp_path, "owl/a.png")
    (tmp_path / "owl" / "around").symlink_to(tmp_path)
    assert list(labels(collect(tmp_path))) == ["owl/a.png"]


def test_collect_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    draw(tmp_path, "owl/a.png")
    (tmp_path / "owl" / "a.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/owl/\xff.png"))
    with pytest.raises(ValueError, match=r"the name of 'owl/.udcff\.png' is no text in UTF-8: rename the file"):
        collect(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("gone.png,owl,,,,", r"list\.csv, line 2: gone\.png does not exist below"),
        ("a.png,owl,1,2,3_0,4", r"list\.csv, line 2, column x2: '3_0' is not a number"),
        ("a.png,,,,,", r"list\.csv, line 2: path or label is empty"),
        ("a.png,owl,1,2,x,4", r"list\.csv, line 2, column x2: 'x' is not a number: give pixels"),
        ("a.png,owl,,,,,,", None),
        ("a.png,owl, snowy,1,2,3,4", r"list\.csv, line 2: has 7 cells where the first line names 6 columns: put"),
        ("a.png,owl,,,,\na.png,wren,,,,", r"list\.csv, line 3: a\.png has the label owl, too: keep one"),
    ],
)
def test_collect_bad_row_of_a_table_is_refused(row: str, message: str | None, tmp_path: Path) -> None:
    write(draw(tmp_path, "a.png"), **{"list.csv": f"path,label,x1,y1,x2,y2\n{row}\n"})
    if message is None:
        assert labels(collect(tmp_path)) == {"a.png": ("owl", None)}
        return
    with pytest.raises(ValueError, match=message):
        collect(tmp_path)


def test_collect_coco_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png")
    write(tmp_path, **{"a.json": "\ufeff" + coco({1: "owl"}, {1: "a.png", 2: "b.png"}, [(1, 1, [0, 0, 5, 5])])})
    assert [image.path for image in collect(tmp_path).images] == ["a.png"]


@pytest.mark.parametrize("text", ['{"images": [{"file_name": "a.png", "id"', '[{"image_id": 1, "bbox": [0, 0, 5, 5]}]'])
def test_collect_file_that_is_almost_coco_is_told(text: str, tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png")
    write(tmp_path, **{"a.json": text})
    with pytest.raises(ValueError, match=r"a\.json lacks .*annotations.*, and is cut, or no file of COCO's instances"):
        collect(tmp_path)


def test_collect_sizes_are_those_that_annotations_say(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png")
    text = coco({1: "owl"}, {1: "a.png", 2: "b.png"}, [(1, 1, [0, 0, 5, 5]), (2, 1, [0, 0, 5, 5])])
    write(
        tmp_path,
        **{"a.json": text.replace('"file_name": "a.png"', '"file_name": "a.png", "width": 400, "height": 300')},
    )
    assert [image.size for image in collect(tmp_path).images] == [(400, 300), None]


def test_collect_folders_tell_files_and_folders_without_pictures(tmp_path: Path) -> None:
    draw(tmp_path, "owl/a.png", "owl/b.png", "wren/a.png")
    for name in ("finch/a.heic", "owl/c.CR2", "owl/Thumbs.db", "analysis/x/table.md", "notes.txt"):
        write(tmp_path, **{name: ""})
    told = collect(tmp_path).told
    assert any(line.startswith("2 files have no ending of a picture (.jpeg, ") for line in told)
    assert any(line.endswith(": finch/a.heic, owl/c.CR2") for line in told)
    assert "1 folders hold no picture: finch" in told


@pytest.mark.parametrize("name", [" owl/a.png", "owl /a.png", "owl/a\t.png", "owl/\u00a0a.png"])
def test_collect_name_that_no_table_keeps_is_refused(name: str, tmp_path: Path) -> None:
    draw(tmp_path, "wren/a.png", name)
    with pytest.raises(ValueError, match=r"name .*: rename the file or its folder"):
        collect(tmp_path)


def test_collect_picture_that_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    draw(tmp_path, "wren/a.png", "owl/a.png")
    os.mkfifo(tmp_path / "owl/pipe.png")
    with pytest.raises(ValueError, match=r"owl/pipe\.png is a broken link, or no plain file: remove it"):
        collect(tmp_path)


def test_collect_classes_of_yolo_that_are_there_twice_are_refused(tmp_path: Path) -> None:
    write(draw(tmp_path, "a.png"), **{"a.txt": "0 0.5 0.5 0.5 0.5", "classes.txt": "owl\nwren\nowl\n"})
    with pytest.raises(ValueError, match=r"classes\.txt: is no list of classes \(0 and 2 are both 'owl'\): correct it"):
        collect(tmp_path)


def test_collect_voc_trainval_is_train_where_no_other_list_is(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png")
    lists = {"ImageSets/Main/trainval.txt": "a\n", "ImageSets/Main/test.txt": "b\n"}
    write(tmp_path, **{f"{name}.xml": voc(f"{name}.png", ("owl", (1, 1, 4, 4))) for name in "ab"}, **lists)
    assert [image.split for image in collect(tmp_path).images] == ["train", "test"]
    write(tmp_path, **{"ImageSets/Main/train.txt": "b\n", "ImageSets/Main/test.txt": "a\n"})
    assert [image.split for image in collect(tmp_path).images] == ["test", "train"]


def test_collect_voc_trainval_of_one_year_is_train_beside_the_lists_of_another(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{name}.png" for name in "abcde"))
    years = {
        "VOC2007": {"trainval": "a\ne\n", "test": "b\n"},
        "VOC2012": {"train": "a\nc\n", "val": "d\n", "trainval": "d\n"},
    }
    for year, lists in years.items():
        write(tmp_path, **{f"{year}/ImageSets/Main/{name}.txt": text for name, text in lists.items()})
    write(tmp_path, **{f"{name}.xml": voc(f"{name}.png", ("owl", (1, 1, 4, 4))) for name in "abcde"})
    assert [image.split for image in collect(tmp_path).images] == ["train", "test", "train", "val", "train"]


def test_collect_voc_picture_in_two_splits_is_refused(tmp_path: Path) -> None:
    draw(tmp_path, "a.png")
    lists = {"ImageSets/Main/train.txt": "a\n", "ImageSets/Main/test.txt": "a\n"}
    write(tmp_path, **{"a.xml": voc("a.png", ("owl", (1, 1, 4, 4)))}, **lists)
    with pytest.raises(ValueError, match=r"test\.txt: a is in .*train\.txt, too: keep it in one"):
        collect(tmp_path)


def test_collect_row_whose_picture_has_another_ending_gets_a_hint(tmp_path: Path) -> None:
    write(draw(tmp_path, "a.png"), **{"own.csv": "path,label\na.jpg,owl\n"})
    with pytest.raises(ValueError, match=r"a\.jpg does not exist below .* \('a\.png' is: the ending differs\): put it"):
        collect(tmp_path)
