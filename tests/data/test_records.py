"""Images and boxes in columns, against lists of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lchp.data.records import Boxes, Dataset, ImageRecord, Records, boxes_of

IMAGES = [ImageRecord(path, label) for path, label in (("b", 1), ("a/ä", 0), ("c", 2), ("a/b", 0))]
BOXES = {"a/ä": [(0.0, 1.0, 2.0, 3.0)], "b": [(4.0, 5.0, 6.0, 7.0), (8.0, 9.0, 10.0, 11.0)]}


def test_records_are_a_sequence_of_the_images() -> None:
    records = Records.of(IMAGES)
    assert records == IMAGES
    assert records != IMAGES[:3]
    assert records[1] == IMAGES[1]
    assert records[-1] == IMAGES[-1]
    assert records[1:3] == IMAGES[1:3]
    assert list(records[::-1].paths) == [path for path, _ in IMAGES[::-1]]
    assert records[1:].labels.tolist() == [0, 2, 0]
    assert [IMAGES[place].path for place in records.order] == sorted(path for path, _ in IMAGES)


def test_dataset_of_images_has_each_split_in_the_order_of_its_paths() -> None:
    dataset = Dataset.of("own", Path("root"), ("x", "y", "z"), IMAGES[:3], IMAGES[3:])
    assert dataset.train == sorted(IMAGES[:3])
    assert dataset.test == IMAGES[3:]
    assert dataset.images == [*sorted(IMAGES[:3]), *IMAGES[3:]]
    assert dataset.test.rows.tolist() == [3]


def test_boxes_are_those_of_each_image() -> None:
    records = Records.of(IMAGES)
    boxes = boxes_of(records, BOXES)
    expected = [BOXES.get(path, []) for path, _ in IMAGES]
    assert [[tuple(box) for box in of_image] for of_image in boxes.lists()] == expected
    assert [boxes[place].tolist() for place in range(4)] == [[list(box) for box in of_image] for of_image in expected]
    assert boxes.counts.tolist() == [2, 1, 0, 0]
    assert boxes.owners.tolist() == [0, 0, 1]
    assert boxes.by_path(records) == BOXES
    assert [len(of_image) for of_image in boxes.split()] == [2, 1]


def test_boxes_of_some_images_and_some_boxes_alone() -> None:
    boxes = boxes_of(Records.of(IMAGES), BOXES)
    first, second, *_ = boxes.lists()
    assert [*boxes.at(np.array([2, 1, 0])).lists()] == [[], second, first]
    assert [*boxes.only(np.array([False, True, True])).lists()] == [[[8, 9, 10, 11]], [[0, 1, 2, 3]], [], []]
    assert [*boxes.only(np.array([False, False, False])).lists()] == [[]] * 4
    assert len(Boxes.of([[], []]).at(np.array([], np.int64))) == 0
