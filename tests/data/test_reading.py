"""Opening datasets of every kind, their true boxes, and the independence of the two."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from lchp.data.config import DatasetConfig, FilesDataset, SyntheticDataset
from lchp.data.headers import header
from lchp.data.reading import open_dataset
from lchp.data.records import Dataset, ImageRecord, TrueBoxes
from lchp.data.true_boxes import read_truth
from tests.data.layouts import draw_cub, draw_imagenet, draw_table, draw_tiny_imagenet

DRAWERS = {"cub": draw_cub, "tiny-imagenet": draw_tiny_imagenet, "imagenet": draw_imagenet, "table": draw_table}


def configured(kind: str, path: Path | None) -> DatasetConfig:
    return FilesDataset.model_validate({"kind": kind, "path": path})


def all_boxes(config: DatasetConfig, dataset: Dataset) -> TrueBoxes | None:
    return boxes_of(config, dataset, (*dataset.train, *dataset.test))


def boxes_of(config: DatasetConfig, dataset: Dataset, records: tuple[ImageRecord, ...]) -> TrueBoxes | None:
    headers = {record.path: header(dataset.root / record.path) for record in records}
    truth = read_truth(config, dataset, records, headers)
    return None if truth is None else truth.sound


def delete_boxes(kind: str, path: Path) -> None:
    match kind:
        case "cub":
            (path / "bounding_boxes.txt").unlink()
        case "tiny-imagenet":
            for file in path.glob("train/*/*_boxes.txt"):
                file.unlink()
            annotations = path / "val/val_annotations.txt"
            lines = annotations.read_text().splitlines()
            annotations.write_text("".join("\t".join(line.split("\t")[:2]) + "\n" for line in lines))
        case "imagenet":
            solution = ["ImageId,PredictionString"]
            for xml in sorted(path.glob("ILSVRC/Annotations/CLS-LOC/val/*.xml")):
                wnid = xml.read_text().split("<name>")[1].split("<")[0]
                solution.append(f"{xml.stem},{wnid} 1 2 3 4 ")
            (path / "LOC_val_solution.csv").write_text("\n".join(solution) + "\n")
            shutil.rmtree(path / "ILSVRC/Annotations")
        case "table":
            lines = path.read_text().splitlines()
            path.write_text("".join(",".join(line.split(",")[:3]) + "\n" for line in lines))


@pytest.mark.parametrize("kind", DRAWERS)
def test_open_dataset_every_layout_gives_images_labels_and_splits(kind: str, tmp_path: Path) -> None:
    path = DRAWERS[kind](tmp_path / "set", classes=3, train=4, test=2)
    dataset = open_dataset(configured(kind, path), tmp_path / "cache")
    assert len(dataset.classes) == 3
    assert [sum(record.label == label for record in dataset.train) for label in range(3)] == [4, 4, 4]
    assert [sum(record.label == label for record in dataset.test) for label in range(3)] == [2, 2, 2]
    paths = [record.path for record in (*dataset.train, *dataset.test)]
    assert len(set(paths)) == 18
    assert all((dataset.root / name).is_file() for name in paths)
    assert list(dataset.train) == sorted(dataset.train, key=lambda record: record.path)


@pytest.mark.parametrize("kind", DRAWERS)
def test_true_boxes_every_layout_surround_the_drawn_rectangle(kind: str, tmp_path: Path) -> None:
    """An independent reference: the rectangle is the only part of an image without noise."""
    config = configured(kind, DRAWERS[kind](tmp_path / "set"))
    dataset = open_dataset(config, tmp_path / "cache")
    boxes = all_boxes(config, dataset)
    assert boxes is not None
    assert len(boxes) == 14
    for path, found in boxes.items():
        with Image.open(dataset.root / path) as image:
            grey = torch.tensor(list(image.convert("L").tobytes())).reshape(image.height, image.width).double()
        smooth = ((grey[1:, 1:] - grey[:-1, 1:]).abs() < 12) & ((grey[1:, 1:] - grey[1:, :-1]).abs() < 12)
        columns, rows = smooth.double().mean(0) > 0.28, smooth.double().mean(1) > 0.28
        seen = [columns.nonzero().min(), rows.nonzero().min(), columns.nonzero().max() + 2, rows.nonzero().max() + 2]
        scale = torch.tensor([image.width, image.height] * 2)
        assert found.shape == (1, 4)
        assert (found[0] * scale - torch.tensor(seen)).abs().max() <= 4, path


@pytest.mark.parametrize("kind", DRAWERS)
def test_open_dataset_box_files_deleted_gives_the_same_dataset(kind: str, tmp_path: Path) -> None:
    config = configured(kind, path := DRAWERS[kind](tmp_path / "set"))
    before = open_dataset(config, tmp_path / "cache")
    assert all_boxes(config, before)
    delete_boxes(kind, path)
    after = open_dataset(config, tmp_path / "cache")
    assert after == before
    assert all_boxes(config, after) is None


@pytest.mark.parametrize("kind", DRAWERS)
@pytest.mark.parametrize("given", [None, "absent"])
def test_open_dataset_path_missing_names_kind_path_and_remedy(kind: str, given: str | None, tmp_path: Path) -> None:
    path = tmp_path / given if given else None
    with pytest.raises(ValueError, match=f"dataset {kind}: .*--data PATH or dataset.path; expected") as refused:
        open_dataset(configured(kind, path), tmp_path / "cache")
    assert path is None or str(path) in str(refused.value)


@pytest.mark.parametrize("kind", ["cub", "tiny-imagenet", "imagenet"])
def test_open_dataset_other_folder_says_what_is_expected(kind: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match=f"dataset {kind}: .*other holds no .*expected"):
        open_dataset(configured(kind, tmp_path / "other"), tmp_path / "cache")


@pytest.mark.parametrize("kind", ["cub", "tiny-imagenet"])
def test_open_dataset_archive_with_files_beside_its_folder_opens(kind: str, tmp_path: Path) -> None:
    """CUB's own archive holds attributes.txt beside CUB_200_2011/."""
    DRAWERS[kind](tmp_path / "any_name")
    (tmp_path / "attributes.txt").write_text("1 bill\n")
    with tarfile.open(tmp_path / "set.tgz", "w:gz") as archive:
        archive.add(tmp_path / "attributes.txt", "attributes.txt")
        archive.add(tmp_path / "any_name", "any_name")
    folder = open_dataset(configured(kind, tmp_path / "any_name"), tmp_path / "cache")
    dataset = open_dataset(configured(kind, tmp_path / "set.tgz"), tmp_path / "cache")
    assert (dataset.classes, dataset.train, dataset.test) == (folder.classes, folder.train, folder.test)
    assert dataset.root.is_relative_to(tmp_path / "cache")


def test_open_dataset_imagenet_as_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "imagenet.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"dataset imagenet: .*imagenet\.tar is not a folder"):
        open_dataset(configured("imagenet", tmp_path / "imagenet.tar"), tmp_path / "cache")


def test_open_dataset_imagenet_accepts_ilsvrc_itself(tmp_path: Path) -> None:
    path = draw_imagenet(tmp_path / "set")
    outer = open_dataset(configured("imagenet", path), tmp_path / "cache")
    assert open_dataset(configured("imagenet", path / "ILSVRC"), tmp_path / "cache") == outer


def test_open_dataset_without_test_images_is_refused(tmp_path: Path) -> None:
    path = draw_table(tmp_path / "set", test=0)
    with pytest.raises(ValueError, match="no test images"):
        open_dataset(configured("table", path), tmp_path / "cache")


def test_true_boxes_overhanging_are_clipped_to_the_image(tmp_path: Path) -> None:
    path = draw_cub(tmp_path / "set", size=(80, 64))
    (path / "bounding_boxes.txt").write_text("1 -2.0 10.0 42.0 56.0\n")
    config = configured("cub", path)
    dataset = open_dataset(config, tmp_path)
    boxes = all_boxes(config, dataset)
    assert boxes is not None
    assert list(boxes) == ["images/001.Bird_0/Bird_0_train_0.jpg"]
    torch.testing.assert_close(
        next(iter(boxes.values())), torch.tensor([[0, 10 / 64, 0.5, 1]]).double(), atol=0, rtol=0
    )


def test_true_boxes_tiny_imagenet_single_pixel_has_area(tmp_path: Path) -> None:
    path = draw_tiny_imagenet(tmp_path / "set", classes=1, train=1, test=1)
    (path / "train/n00000090/n00000090_boxes.txt").write_text("n00000090_0.JPEG\t0\t5\t63\t5\n")
    config = configured("tiny-imagenet", path)
    boxes = all_boxes(config, open_dataset(config, tmp_path))
    assert boxes is not None
    assert boxes["train/n00000090/images/n00000090_0.JPEG"].tolist() == [[0, 5 / 64, 1, 6 / 64]]


def test_true_boxes_are_given_for_the_asked_records_alone(tmp_path: Path) -> None:
    config = configured("table", draw_table(tmp_path / "set"))
    dataset = open_dataset(config, tmp_path)
    boxes = boxes_of(config, dataset, dataset.test[:2])
    assert boxes is not None
    assert list(boxes) == [record.path for record in dataset.test[:2]]


def test_synthetic_is_drawn_once_and_read_as_a_table(tmp_path: Path) -> None:
    config = SyntheticDataset(train_per_class=2, test_per_class=1, size=24)
    dataset = open_dataset(config, tmp_path)
    times = {file: file.stat().st_mtime_ns for file in dataset.root.rglob("*.png")}
    assert open_dataset(config, tmp_path) == dataset
    assert {file: file.stat().st_mtime_ns for file in dataset.root.rglob("*.png")} == times
    assert (dataset.name, len(dataset.train), len(dataset.test)) == ("synthetic", 16, 8)
    boxes = all_boxes(config, dataset)
    assert boxes is not None
    assert len(boxes) == 24
    other = open_dataset(config.model_copy(update={"seed": 1}), tmp_path)
    assert other.root != dataset.root


def real(variable: str) -> Path:
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no real dataset (folder or archive)")
    return Path(os.environ[variable])


def test_real_cub_subset_known_answers(tmp_path: Path) -> None:
    config = configured("cub", real("LCHP_TEST_CUB"))
    dataset = open_dataset(config, tmp_path)
    boxes = all_boxes(config, dataset)
    assert boxes is not None
    assert (len(dataset.classes), len(dataset.train), len(dataset.test)) == (20, 600, 546)
    assert len(boxes) == 1146
    assert all((box[:, :2] < box[:, 2:]).all() and box.min() >= 0 and box.max() <= 1 for box in boxes.values())


def test_real_tiny_imagenet_subset_known_answers(tmp_path: Path) -> None:
    config = configured("tiny-imagenet", real("LCHP_TEST_TINY_IMAGENET"))
    dataset = open_dataset(config, tmp_path)
    boxes = all_boxes(config, dataset)
    assert boxes is not None
    assert (len(dataset.classes), len(dataset.train), len(dataset.test), len(boxes)) == (20, 6000, 1000, 7000)
    # One pixel wide or high, so of no size at all if their ends were exclusive .
    assert sum(bool(((box[0, 2:] - box[0, :2]) * 64 == 1).any()) for box in boxes.values()) == 23
    whole = [
        (box[0, 2] - box[0, 0]) * (box[0, 3] - box[0, 1]) >= 0.5
        for path, box in boxes.items()
        if path.startswith("val")
    ]
    assert sum(map(bool, whole)) / len(whole) == pytest.approx(0.501)
