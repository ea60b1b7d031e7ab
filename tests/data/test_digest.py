"""Digests: what changes them, what does not, and that a changed image is named."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from lchp.data.config import FilesDataset
from lchp.data.digest import Digest, boxes_digest, changed, total_of
from lchp.data.image_files import read_image_files
from lchp.data.reading import open_dataset
from lchp.data.records import Boxes, Dataset, ImageRecord, Records
from tests.data.layouts import draw_cub

FIRST = "images/001.Bird_0/Bird_0_train_0.jpg"


def birds(folder: Path) -> Dataset:
    return open_dataset(FilesDataset(kind="cub", path=folder), folder)


def digest_of(dataset: Dataset, cache: Path) -> Digest:
    return read_image_files(dataset, cache).digest


def test_digest_changed_image_is_named_even_with_length_and_time_kept(tmp_path: Path) -> None:
    dataset = birds(draw_cub(tmp_path / "set"))
    before = digest_of(dataset, tmp_path)
    image = dataset.root / FIRST
    times = image.stat()
    data = bytearray(image.read_bytes())
    data[-10] ^= 1
    image.write_bytes(data)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = digest_of(dataset, tmp_path)
    assert changed(before.files, after.files) == [f"{FIRST}: changed"]
    assert before.total != after.total


def test_digest_missing_and_new_images_are_named_in_order(tmp_path: Path) -> None:
    before = digest_of(birds(draw_cub(tmp_path / "set", train=4)), tmp_path)
    after = digest_of(birds(draw_cub(tmp_path / "other", train=5, classes=1)), tmp_path)
    lines = changed(before.files, after.files)
    assert "images/001.Bird_0/Bird_0_train_4.jpg: new" in lines
    assert "images/003.Bird_1/Bird_1_test_0.jpg: missing" in lines
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    ("file", "old", "new"), [("image_class_labels.txt", "1 1", "1 3"), ("train_test_split.txt", "1 1", "1 0")]
)
def test_digest_changed_label_or_split_is_named(file: str, old: str, new: str, tmp_path: Path) -> None:
    folder = draw_cub(tmp_path / "set")
    before = digest_of(birds(folder), tmp_path)
    lines = (folder / file).read_text().splitlines()
    (folder / file).write_text("\n".join(new if line == old else line for line in lines) + "\n")
    assert changed(before.files, digest_of(birds(folder), tmp_path).files) == [f"{FIRST}: changed"]


def test_digest_depends_neither_on_place_nor_on_boxes_nor_on_times(tmp_path: Path) -> None:
    folder = draw_cub(tmp_path / "set")
    before = digest_of(birds(folder), tmp_path)
    shutil.copytree(folder, tmp_path / "moved", copy_function=shutil.copyfile)
    (tmp_path / "moved/bounding_boxes.txt").unlink()
    after = digest_of(birds(tmp_path / "moved"), tmp_path / "other cache")
    assert after.total == before.total
    assert changed(before.files, after.files) == []


def test_digest_is_that_of_its_lines_whatever_the_order_of_the_paths(tmp_path: Path) -> None:
    """Those of CUB mix the splits: what is test comes before what is train."""
    dataset = birds(draw_cub(tmp_path / "set"))
    found = digest_of(dataset, tmp_path)
    hashes = {path: hashlib.sha256((dataset.root / path).read_bytes()).hexdigest() for path in dataset.images.paths}
    expected = {
        record.path: hashlib.sha256(f"{hashes[record.path]} {split} {record.label}".encode()).hexdigest()
        for split, records in (("train", dataset.train), ("test", dataset.test))
        for record in records
    }
    assert found.files == expected
    assert found.total == total_of(expected)
    text = "".join(f"{path}\0{expected[path]}\n" for path in sorted(expected))
    assert found.total == hashlib.sha256(text.encode()).hexdigest()


def test_boxes_digest_depends_on_values_and_not_on_order() -> None:
    one, two = [0.0, 0.0, 0.5, 1.0], [0.1, 0.0, 0.5, 1.0]

    def digested(*of_images: tuple[str, list[float]]) -> str:
        records = Records.of(ImageRecord(path, 0) for path, _ in of_images)
        return boxes_digest(records, Boxes.of([box] for _, box in of_images))

    assert digested(("a", one), ("b", two)) == digested(("b", two), ("a", one))
    assert digested(("a", one), ("b", two)) != digested(("a", two), ("b", one))
    assert digested(("a", one)) != digested(("a", [*one[:3], 1 + 1e-12]))
    assert digested(("a", one)) == hashlib.sha256(f"a\0{[one]}\n".encode()).hexdigest()
