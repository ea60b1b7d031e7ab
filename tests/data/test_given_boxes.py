"""Boxes of one's own: pixels become parts of their images, and what is wrong is named by line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lchp.data.given_boxes import read_given_boxes
from lchp.data.records import Dataset, ImageRecord

LINES = ("a.png,8,0,80,32", "b.png,-3,10.5,40,90")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (80, 64)).save(tmp_path / name)
    return Dataset.of(
        "own", tmp_path, ("x",), (ImageRecord("a.png", 0), ImageRecord("b.png", 0)), (ImageRecord("c.png", 0),)
    )


def table(dataset: Dataset, *lines: str, header: str = "path,x1,y1,x2,y2") -> Path:
    file = dataset.root / "boxes.csv"
    file.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return file


def test_given_boxes_are_parts_of_their_images_and_clipped(dataset: Dataset) -> None:
    found = read_given_boxes(table(dataset, *LINES), dataset)
    assert set(found) == {"a.png", "b.png"}
    np.testing.assert_allclose(found["a.png"], [0.1, 0, 1, 0.5])
    np.testing.assert_allclose(found["b.png"], [0, 10.5 / 64, 0.5, 1])


def test_given_boxes_pass_over_other_columns_images_and_a_byte_order_mark(dataset: Dataset) -> None:
    lines = ("a.png,mine,8,0,80,32", "b.png,mine,0,0,40,64", "elsewhere.png,mine,no,box,at,all")
    with pytest.raises(ValueError, match=r"boxes\.csv, line 4, column x1: 'no' is not a number"):
        read_given_boxes(table(dataset, *lines, header="\ufeffpath, method ,x1,y1,x2,y2"), dataset)
    lines = (*lines[:2], "elsewhere.png,mine,1,2,3,4", "c.png,mine,0,0,1,1")
    found = read_given_boxes(table(dataset, *lines, header="\ufeffpath, method ,x1,y1,x2,y2"), dataset)
    assert set(found) == {"a.png", "b.png", "c.png"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (LINES[:1], r"1 of the 2 training images have no box \(first b\.png\): give each a line"),
        ((*LINES, "a.png,0,0,1,1"), r"line 4: a\.png has a box in line 2 already: keep one of them"),
        (("a.png,8,0,8,32", LINES[1]), r"line 2: the box \(8, 0, 8, 32\) of a\.png has no area"),
        (("a.png,81,0,90,32", LINES[1]), r"line 2: the box .* of a\.png lies outside the 80 x 64 image"),
        (("a.png,0,0,inf,32", LINES[1]), r"line 2: the box .* of a\.png is not finite"),
        (("a.png,0,0,32", LINES[1]), r"line 2, column y2: '' is not a number"),
        (("a.png,0,0,1;5,32", LINES[1]), r"line 2, column x2: '1;5' is not a number"),
        (('a.png,0,0,"1,32', LINES[1]), r"this is no CSV"),
    ],
)
def test_given_boxes_that_are_none_are_refused_by_line(dataset: Dataset, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_given_boxes(table(dataset, *lines), dataset)


@pytest.mark.parametrize("header", ["path,x1,y1,x2", "file,x1,y1,x2,y2", "path,x1,y1,x2,y2,x1", ""])
def test_given_boxes_without_their_columns_are_refused(dataset: Dataset, header: str) -> None:
    with pytest.raises(ValueError, match=r"line 1: columns? .* (is|are) missing or there twice: the first line names"):
        read_given_boxes(table(dataset, *LINES, header=header), dataset)
