"""Opening datasets of every kind, their true boxes, and the independence of the two."""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lchp.data.config import DatasetConfig, FilesDataset, SyntheticDataset
from lchp.data.headers import header
from lchp.data.reading import open_dataset, read_pixel_boxes
from lchp.data.records import Dataset
from lchp.data.true_boxes import read_truth
from tests.data.layouts import draw_cub, draw_imagenet, draw_table, draw_tiny_imagenet

DRAWERS = {"cub": draw_cub, "tiny-imagenet": draw_tiny_imagenet, "imagenet": draw_imagenet, "table": draw_table}


def configured(kind: str, path: Path | None) -> DatasetConfig:
    return FilesDataset.model_validate({"kind": kind, "path": path})


def all_boxes(config: DatasetConfig, dataset: Dataset) -> dict[str, np.ndarray] | None:
    """The sound true boxes of every image that has any, by path."""
    sizes = [header(dataset.root / path) for path in dataset.images.paths]
    headers = np.array([(size.width, size.height, size.orientation) for size in sizes], np.int32)
    truth = read_truth(config, dataset, headers)
    if truth is None:
        return None
    return {path: np.array(boxes) for path, boxes in truth.sound.by_path(dataset.images).items()}


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
        scale = np.array([image.width, image.height] * 2)
        assert found.shape == (1, 4)
        assert np.abs(found[0] * scale - np.array(seen)).max() <= 4, path


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


def test_open_dataset_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cub.tgz")
    with pytest.raises(ValueError, match=r"dataset cub: .*cub\.tgz is neither a folder nor a plain file\. Give --data"):
        open_dataset(FilesDataset(kind="cub", path=tmp_path / "cub.tgz"), tmp_path / "cache")


def test_open_dataset_imagenet_as_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "imagenet.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"dataset imagenet: .*imagenet\.tar is not a folder"):
        open_dataset(configured("imagenet", tmp_path / "imagenet.tar"), tmp_path / "cache")


def test_open_dataset_imagenet_accepts_ilsvrc_itself(tmp_path: Path) -> None:
    path = draw_imagenet(tmp_path / "set")
    outer = open_dataset(configured("imagenet", path), tmp_path / "cache")
    assert open_dataset(configured("imagenet", path / "ILSVRC"), tmp_path / "cache") == outer


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def refusal(kind: str, path: Path) -> str:
    """Opening is refused; the message is given."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - every test holds the message to its own words
        open_dataset(configured(kind, path), path.parent / "cache")
    return str(refused.value)


def test_open_dataset_cub_file_under_two_ids_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = draw_cub(tmp_path / "set")
    rewrite(path / "images.txt", "2 001.Bird_0/Bird_0_train_1.jpg", "2 001.Bird_0/Bird_0_train_0.jpg")
    message = "images.txt, lines 1 and 2: the image images/001.Bird_0/Bird_0_train_0.jpg is there twice: keep one"
    assert message in refusal("cub", path)


def test_open_dataset_tiny_imagenet_image_named_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = draw_tiny_imagenet(tmp_path / "set")
    file = path / "val/val_annotations.txt"
    name = file.read_text().split("\t")[0]
    file.write_text(file.read_text() + f"{name}\tn00000089\t0\t0\t5\t5\n")
    assert f"val_annotations.txt, lines 1 and 7: the image val/images/{name} is there twice" in refusal(
        "tiny-imagenet", path
    )


@pytest.mark.parametrize(
    ("kind", "file", "old", "new"),
    [
        ("cub", "images.txt", "1 001.Bird_0/Bird_0_train_0.jpg", "1 ../../outside.jpg"),
        ("cub", "images.txt", "1 001.Bird_0/Bird_0_train_0.jpg", "1 /etc/passwd"),
        ("cub", "images.txt", "1 001.Bird_0/Bird_0_train_0.jpg", "1 ./001.Bird_0/Bird_0_train_0.jpg"),
        ("cub", "images.txt", "1 001.Bird_0/Bird_0_train_0.jpg", "1 001.Bird_0/a\x07.jpg"),
        ("tiny-imagenet", "val/val_annotations.txt", "val_4.JPEG", "../../../outside.jpg"),
    ],
)
def test_open_dataset_path_that_leaves_the_root_is_refused_with_its_line(
    kind: str, file: str, old: str, new: str, tmp_path: Path
) -> None:
    path = DRAWERS[kind](tmp_path / "set")
    (tmp_path / "outside.jpg").write_bytes(b"")
    rewrite(path / file, old, new)
    message = refusal(kind, path)
    assert f"{file}, line 1: the image " in message
    assert "leaves the dataset's folder, or is no plain path: give a path relative to it" in message


@pytest.mark.parametrize("wnid", ["../../x", "a/b", "a\\b", ".."])
def test_open_dataset_tiny_imagenet_class_that_leads_elsewhere_is_refused(wnid: str, tmp_path: Path) -> None:
    path = draw_tiny_imagenet(tmp_path / "set")
    (path / "wnids.txt").write_text(f"n00000090\n{wnid}\n")
    assert f"wnids.txt, line 2: {wnid!r} is not the name of a folder in train: correct it" in refusal(
        "tiny-imagenet", path
    )


def test_open_dataset_class_named_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = draw_tiny_imagenet(tmp_path / "tiny")
    (path / "wnids.txt").write_text("n00000090\nn00000089\nn00000090\n")
    assert "wnids.txt, lines 1 and 3: the class n00000090 thing 0 is there twice" in refusal("tiny-imagenet", path)
    path = draw_cub(tmp_path / "cub")
    rewrite(path / "classes.txt", "3 003.Bird_1", "3 001.Bird_0")
    assert "classes.txt, lines 1 and 2: the class 001.Bird_0 is there twice" in refusal("cub", path)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_open_dataset_empty_list_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = draw_tiny_imagenet(tmp_path / "tiny")
    (path / "wnids.txt").write_text(text)
    assert "wnids.txt names no class" in refusal("tiny-imagenet", path)
    path = draw_cub(tmp_path / "cub")
    (path / "images.txt").write_text(text)
    assert "cub: no train images" in refusal("cub", path)


@pytest.mark.parametrize(
    ("kind", "file", "old", "message"),
    [
        (
            "cub",
            "images.txt",
            "001.Bird_0/Bird_0_train_0.jpg",
            "images.txt, line 1: the image images/gone.jpg does not",
        ),
        ("tiny-imagenet", "val/val_annotations.txt", "val_4.JPEG", "line 1: the image val/images/gone.jpg does not"),
        ("table", "", "pictures/0_train_0.png", "table.csv, line 2: the image gone.jpg does not exist below"),
    ],
)
def test_open_dataset_listed_image_that_is_missing_is_refused_with_its_line(
    kind: str, file: str, old: str, message: str, tmp_path: Path
) -> None:
    path = DRAWERS[kind](tmp_path / "set")
    rewrite(path / file if file else path, old, "gone.jpg")
    found = refusal(kind, path)
    assert message in found
    assert found.endswith("put it back, or correct or remove the line")


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("pictures\\0_train_0.png", "(write / for \\)"),
        ("pictures/0_TRAIN_0.png", "('0_train_0.png' is: upper and lower case, or the way of writing accents, differ)"),
        ("pictures", "(a folder of that name is there)"),
    ],
)
def test_open_dataset_table_path_that_nearly_exists_gets_a_hint(written: str, hint: str, tmp_path: Path) -> None:
    path = draw_table(tmp_path / "set")
    rewrite(path, "pictures/0_train_0.png", written)
    assert hint in refusal("table", path)


def test_open_dataset_table_without_rows_names_the_file(tmp_path: Path) -> None:
    path = draw_table(tmp_path / "set")
    path.write_text("path,label,split\n")
    assert f"{path}: no train images; expected a CSV file" in (message := refusal("table", path))
    assert message.endswith("it has no row")


def test_open_dataset_table_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    draw_table(tmp_path / "set")
    assert f"dataset table: {tmp_path / 'set'} is a folder. Give --data PATH" in refusal("table", tmp_path / "set")


def test_open_dataset_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = draw_imagenet(tmp_path / "set")
    image = path / "ILSVRC/Data/CLS-LOC/train/n00000010/n00000010_0.JPEG"
    image.rename(image.with_name(os.fsdecode(b"M\xf6we.JPEG")))
    message = refusal("imagenet", path)
    assert "is not UTF-8: rename the file" in message
    assert message.isprintable()


def test_open_dataset_class_of_two_lines_is_refused(tmp_path: Path) -> None:
    path = draw_table(tmp_path / "set")
    path.write_text(path.read_text().replace("class 0", '"class\n0"'))
    assert r"the class 'class\n0' cannot be written in one line: rename it" in refusal("table", path)


@pytest.mark.parametrize("kind", ["tiny-imagenet", "imagenet"])
def test_open_dataset_images_of_other_endings_are_read_and_the_rest_left_out(kind: str, tmp_path: Path) -> None:
    path = DRAWERS[kind](tmp_path / "set")
    whole = open_dataset(configured(kind, path), tmp_path)
    folder = (whole.root / whole.train[0].path).parent
    for record, ending in zip(whole.train, (".jpeg", ".jpg", ".JPG", ".png"), strict=False):
        (whole.root / record.path).rename((whole.root / record.path).with_suffix(ending))
    for name in ("._n00000010_1.JPEG", ".DS_Store", "Thumbs.db", "notes.txt"):
        (folder / name).write_bytes(b"")
    for name in (".ipynb_checkpoints", "folder.JPEG"):
        (folder / name).mkdir()
    found = open_dataset(configured(kind, path), tmp_path)
    assert [Path(record.path).stem for record in found.train] == [Path(record.path).stem for record in whole.train]
    assert {Path(record.path).suffix for record in found.train} == {".jpeg", ".jpg", ".JPG", ".png", ".JPEG"}
    assert {Path(name).name for name in found.left_out} == {
        "._n00000010_1.JPEG", ".DS_Store", "Thumbs.db", "notes.txt", ".ipynb_checkpoints", "folder.JPEG",
    }  # fmt: skip
    assert found.classes == whole.classes


def test_open_dataset_tiny_imagenet_class_folder_that_no_list_names_is_left_out(tmp_path: Path) -> None:
    path = draw_tiny_imagenet(tmp_path / "set")
    (path / "train/n00000077").mkdir()
    assert open_dataset(configured("tiny-imagenet", path), tmp_path).left_out == ("train/n00000077",)


def test_open_dataset_imagenet_hidden_folder_in_train_is_no_class(tmp_path: Path) -> None:
    path = draw_imagenet(tmp_path / "set")
    (path / "ILSVRC/Data/CLS-LOC/train/.ipynb_checkpoints").mkdir()
    (path / "ILSVRC/Data/CLS-LOC/train/n00000010.tar").write_bytes(b"")
    dataset = open_dataset(configured("imagenet", path), tmp_path)
    assert dataset.classes == ("n00000010", "n00000011")
    assert dataset.left_out == (
        "Data/CLS-LOC/train/.ipynb_checkpoints",
        "Data/CLS-LOC/train/n00000010.tar",
    )


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
    assert next(iter(boxes.values())).tolist() == [[0, 10 / 64, 0.5, 1]]


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
    boxes = read_pixel_boxes(config, dataset, dataset.test[:2])
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


@pytest.mark.parametrize("deleted", ["images.txt", "classes.txt", "images/001.Bird_0/Bird_0_train_0.jpg"])
def test_open_dataset_extracted_file_deleted_is_named_with_a_remedy_that_works(deleted: str, tmp_path: Path) -> None:
    folder = draw_cub(tmp_path / "birds")
    with tarfile.open(tmp_path / "birds.tgz", "w:gz") as archive:
        archive.add(folder, "birds")
    config = configured("cub", tmp_path / "birds.tgz")
    expected = open_dataset(config, tmp_path / "cache")
    (expected.root / deleted).unlink()
    with pytest.raises(ValueError, match=f"{deleted}.*; if something was changed there since, delete /") as refusal:
        open_dataset(config, tmp_path / "cache")
    (named,) = re.findall(r"delete (\S+), which is then made again", str(refusal.value))
    assert Path(named).parent == tmp_path / "cache/extracted"
    shutil.rmtree(named)
    assert open_dataset(config, tmp_path / "cache") == expected


@pytest.mark.parametrize("deleted", ["dataset.csv", "train/ringed-0/00000.png"])
def test_open_dataset_drawn_file_deleted_is_named_with_a_remedy_that_works(deleted: str, tmp_path: Path) -> None:
    config = SyntheticDataset(train_per_class=2, test_per_class=1, size=24)
    expected = open_dataset(config, tmp_path)
    (expected.root / deleted).unlink()
    with pytest.raises(ValueError, match=rf"{deleted}.*; if .*, delete {expected.root}, which is then made again"):
        open_dataset(config, tmp_path)
    shutil.rmtree(expected.root)
    assert open_dataset(config, tmp_path) == expected


@pytest.mark.parametrize("name", ["birds.tar.bz2", "birds.tar.xz", "birds.7z"])
def test_open_dataset_archive_of_another_kind_is_refused_with_those_that_are_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"BZh9")
    with pytest.raises(ValueError, match=rf"{name} is none of \.tar, \.tgz, \.tar\.gz, \.zip"):
        open_dataset(configured("cub", tmp_path / name), tmp_path)
