from __future__ import annotations

import csv
import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import Tensor

from lchp.data.config import ViewConfig
from lchp.data.loader import ImageSource
from lchp.data.records import ImageRecord, Records, boxes_of
from lchp.method import metrics
from lchp.method.augmentation import IMAGENET_MEAN, IMAGENET_STD
from lchp.store.per_image import COLUMNS
from lchp.training.config import TrialConfig
from lchp.training.evaluation import (
    Evaluator,
    Measured,
    Split,
    evaluation_view,
    floors,
    in_whole_image,
    measure_boxes,
)
from lchp.training.initialization import make_networks, trained_networks
from lchp.training.material import Material, Runtime

from ..data.layouts import draw_cub, draw_imagenet, draw_table
from .tiny import folders, tiny, train

Box = tuple[float, float, float, float]
Birds = tuple[TrialConfig, Runtime, Path]


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Birds:
    """A finished trial on drawn birds of 80 x 64 pixels, and the dataset's folder."""
    folder = draw_cub(tmp_path_factory.mktemp("birds"), classes=6, train=5, test=3)
    config = tiny(dataset={"kind": "cub", "path": folder}, view={"evaluation": "centre_crop"})
    runtime = Runtime(tmp_path_factory.mktemp("store"), cache)
    train(config, runtime)
    return config, runtime, folder


def rows_of(birds: Birds) -> list[dict[str, str]]:
    """per_image.csv of the finished trial."""
    config, runtime, _ = birds
    with (folders(config, runtime)[1] / "per_image.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def corners(row: dict[str, str]) -> Box:
    return float(row["x1"]), float(row["y1"]), float(row["x2"]), float(row["y2"])


def bird_boxes(folder: Path) -> dict[str, Box]:
    """The true boxes in pixels from CUB's own files: x, y, width, height."""
    names = dict(line.split() for line in (folder / "images.txt").read_text(encoding="utf-8").splitlines())
    boxes = {}
    for line in (folder / "bounding_boxes.txt").read_text(encoding="utf-8").splitlines():
        image, x, y, width, height = line.split()
        boxes[f"images/{names[image]}"] = (float(x), float(y), float(x) + float(width), float(y) + float(height))
    return boxes


def iou(one: Box, two: Box) -> float:
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return width * height / (sum(areas) - width * height)


def test_per_image_holds_every_image_of_val_and_test_once_a_method(birds: Birds) -> None:
    config, runtime, _ = birds
    rows, splits = rows_of(birds), Material.prepare(config, runtime).splits
    assert tuple(rows[0]) == COLUMNS
    records = [("val", record) for record in splits.val] + [("test", record) for record in splits.test]
    methods = ("pseudo_label", "lchp_i", "lchp_r", "whole_image", "centred_box")
    expected = {(m, name, record.path, str(record.label)) for m in methods for name, record in records}
    assert {(row["method"], row["split"], row["path"], row["label"]) for row in rows} == expected
    assert len(rows) == len(expected)


def test_per_image_boxes_are_pixels_of_the_original_image(birds: Birds) -> None:
    config, runtime, _ = birds
    material = Material.prepare(config, runtime)
    evaluator = Evaluator(config, "cpu", 0)
    weights = torch.load(folders(config, runtime)[1] / "networks.pt", weights_only=True)
    regressor = trained_networks(config, 6, {**first_weights(birds), **weights}).regressor.eval()
    found = {row["path"]: corners(row) for row in rows_of(birds) if row["method"] == "lchp_r"}
    for index, record in enumerate(material.test.source.records):
        view = evaluation_view(material.test.source.batch(torch.tensor([index])), evaluator.config.view)
        with torch.no_grad():
            x1, y1, x2, y2 = regressor(view)[0].double().clamp(0, 1).tolist()
        # The view is the middle 32 of 36 pixels, of an image of 80 x 64.
        expected = [(x1 * 32 + 2) / 36 * 80, (y1 * 32 + 2) / 36 * 64, (x2 * 32 + 2) / 36 * 80, (y2 * 32 + 2) / 36 * 64]
        np.testing.assert_allclose(found[record.path], expected, atol=1e-3)
    assert max(box[2] for box in found.values()) > 64


def first_weights(birds: Birds) -> dict[str, Any]:
    config, runtime, _ = birds
    weights: dict[str, Any] = torch.load(folders(config, runtime)[0] / "networks.pt", weights_only=True)
    return weights


def test_per_image_iou_equals_that_of_its_box_with_the_true_box_in_pixels(birds: Birds) -> None:
    truth = bird_boxes(birds[2])
    rows = rows_of(birds)
    found = [float(row["iou"]) for row in rows]
    np.testing.assert_allclose(found, [iou(corners(row), truth[row["path"]]) for row in rows], atol=1e-6)
    assert len(set(found)) > 10


BIAS = ("log_area_mean", "log_area_spread", "centre_offset_mean", "centre_offset_spread")


def test_bias_equals_its_recomputation_from_per_image_and_the_true_boxes(birds: Birds) -> None:
    config, runtime, _ = birds
    scores = json.loads((folders(config, runtime)[1] / "scores.json").read_text(encoding="utf-8"))
    material = Material.prepare(config, runtime)
    truth = material.pixel_boxes(material.splits.test)
    assert truth is not None
    rows = [row for row in rows_of(birds) if (row["method"], row["split"]) == ("lchp_i", "test")]
    ratios, offsets = [], []
    for row in rows:
        width, height = 80, 64
        x1, y1, x2, y2 = np.array([float(row[key]) for key in ("x1", "y1", "x2", "y2")]) / np.tile([width, height], 2)
        ((left, top, right, bottom),) = np.array(truth[row["path"]]) / np.tile([width, height], 2)
        ratios.append(np.log((x2 - x1) * (y2 - y1) / ((right - left) * (bottom - top))))
        offset = (x1 + x2 - left - right) / 2, (y1 + y2 - top - bottom) / 2
        offsets.append(np.hypot(*offset) / np.hypot(right - left, bottom - top))
    found = [scores[f"lchp_i/test/{metric}"] for metric in BIAS]
    expected = [np.mean(ratios), np.std(ratios), np.mean(offsets), np.std(offsets)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_scores_equal_their_recomputation_from_per_image(birds: Birds) -> None:
    config, runtime, _ = birds
    scores = json.loads((folders(config, runtime)[1] / "scores.json").read_text(encoding="utf-8"))
    groups: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows_of(birds):
        groups[f"{row['method']}/{row['split']}"].append(row)
    expected = {}
    for name, rows in groups.items():
        ious, top1, top5 = (np.array([float(row[key]) for row in rows]) for key in ("iou", "top1", "top5"))
        at = {percent: np.mean(ious >= percent / 100) for percent in (30, 50, 70)}
        expected |= {
            f"{name}/gt_known": at[50],
            f"{name}/box_acc_30": at[30],
            f"{name}/box_acc_70": at[70],
            f"{name}/mean_box_acc": np.mean(list(at.values())),
            f"{name}/mean_iou": np.mean(ious),
            f"{name}/top1_loc": np.mean((ious >= 0.5) & (top1 == 1)),
            f"{name}/top5_loc": np.mean((ious >= 0.5) & (top5 == 1)),
            f"{name}/top1_cls": np.mean(top1),
        }
        assert (top1 <= top5).all()
    bias = {f"{name}/{metric}" for name in groups for metric in BIAS}
    assert scores.keys() == expected.keys() | bias
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=1e-12), name


def test_classes_of_every_method_are_those_of_the_momentum_network_on_the_whole_view(birds: Birds) -> None:
    config, runtime, _ = birds
    material = Material.prepare(config, runtime)
    network = trained_networks(config, 6, first_weights(birds)).momentum
    with torch.no_grad():
        views = evaluation_view(material.test.source.batch(torch.arange(18)), config.view)
        order = (-network(views).logits.numpy()).argsort(1, kind="stable")
    labels = material.test.source.labels.tolist()
    expected = {
        record.path: (str(int(label == ranks[0])), str(int(label in ranks[:5])))
        for record, label, ranks in zip(material.test.source.records, labels, order.tolist(), strict=True)
    }
    rows = [row for row in rows_of(birds) if row["split"] == "test"]
    assert [(row["top1"], row["top5"]) for row in rows] == [expected[row["path"]] for row in rows]


def test_floors_are_the_whole_image_and_the_best_centred_box_of_the_training_boxes(birds: Birds) -> None:
    config, runtime, folder = birds
    truth = bird_boxes(folder)
    train_paths = [record.path for record in Material.prepare(config, runtime).splits.train]
    sides = np.arange(1, 101) / 100
    hits = np.zeros((100, 100), int)
    for path in train_paths:
        box = np.array(truth[path]) / (80, 64, 80, 64)
        across = np.clip(np.minimum(box[2], 0.5 + sides / 2) - np.maximum(box[0], 0.5 - sides / 2), 0, None)
        down = np.clip(np.minimum(box[3], 0.5 + sides / 2) - np.maximum(box[1], 0.5 - sides / 2), 0, None)
        both = across[:, None] * down
        union = (box[2] - box[0]) * (box[3] - box[1]) + sides[:, None] * sides - both
        hits += both / union >= 0.5 - 1e-12
    rows = rows_of(birds)
    assert {corners(row) for row in rows if row["method"] == "whole_image"} == {(0, 0, 80, 64)}
    (centred,) = {corners(row) for row in rows if row["method"] == "centred_box"}
    width, height = (centred[2] - centred[0]) / 80, (centred[3] - centred[1]) / 64
    np.testing.assert_allclose([centred[0] + centred[2], centred[1] + centred[3]], [80, 64])
    assert hits[round(width * 100) - 1, round(height * 100) - 1] == hits.max()
    assert width * height == pytest.approx((sides[:, None] * sides)[hits == hits.max()].min())


VIEWS = [
    ViewConfig(resize=40, crop=30, evaluation="centre_crop"),
    ViewConfig(resize=37, crop=32, evaluation="centre_crop"),
    ViewConfig(resize=40, crop=20, evaluation="whole"),
    ViewConfig(resize=32, crop=32, evaluation="whole"),
]


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_in_whole_image_gives_back_the_place_of_what_the_view_shows(view: ViewConfig) -> None:
    images = torch.zeros(1, 3, view.resize, view.resize, dtype=torch.uint8)
    images[:, :, 8:20, 12:28] = 255
    shown = evaluation_view(images, view)
    assert shown.shape == (1, 3, view.crop, view.crop)
    bright = (shown[0, 0] > 0).nonzero()
    (top, left), (bottom, right) = bright.min(0).values.tolist(), (bright.max(0).values + 1).tolist()
    found = in_whole_image(torch.tensor([[left, top, right, bottom]], dtype=torch.float64) / view.crop, view)
    np.testing.assert_allclose(found[0] * view.resize, [12, 8, 28, 20], atol=1e-9)


def test_evaluation_view_is_normalised_as_in_training() -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    found = evaluation_view(images, ViewConfig(resize=32, crop=32))
    mean, deviation = (np.array(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    np.testing.assert_allclose(found.numpy(), (images.numpy() / 255 - mean) / deviation, atol=1e-5)


def source(folder: Path, count: int) -> ImageSource:
    """The drawn birds' first images, 32 px a side, in no cache."""
    root = draw_cub(folder, classes=2, train=count, test=1)
    names = sorted(path.relative_to(root).as_posix() for path in root.glob("images/*/*.jpg"))[:count]
    return ImageSource(root, Records.of(ImageRecord(name, 0) for name in names), 32, folder / "cache", 0, "")


def split_of(name: str, images: ImageSource, truth: dict[str, Tensor] | None) -> Split:
    """A split of drawn birds, all of 80 x 64 pixels."""
    boxes = None if truth is None else boxes_of(images.records, {path: of.tolist() for path, of in truth.items()})
    return Split(name, images, boxes, np.tile(np.array([80, 64], np.int32), (len(images), 1)))


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_views_are_in_order_whatever_the_batch_size(batch_size: int, tmp_path: Path) -> None:
    images = source(tmp_path, 5)
    config = tiny(view={"resize": 32, "crop": 32}, evaluation={"batch_size": batch_size})
    found = Evaluator(config, "cpu", 0).views(images, lambda views, *_: views.mean((2, 3)))
    expected = torch.cat([evaluation_view(images.batch(torch.tensor([i])), config.view).mean((2, 3)) for i in range(5)])
    torch.testing.assert_close(found, expected)


def test_views_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    images = source(tmp_path, 3)
    name = images.records[1].path
    answers = iter([torch.zeros(1, 4), torch.full((1, 4), float("nan")), torch.zeros(1, 4)])
    evaluator = Evaluator(tiny(evaluation={"batch_size": 1}), "cpu", 0)
    with pytest.raises(FloatingPointError, match=f"answer to {name} is not finite: lower the learning rate"):
        evaluator.views(images, lambda views, *_: next(answers))


def test_measure_boxes_with_several_true_boxes_counts_the_best(tmp_path: Path) -> None:
    images = source(tmp_path, 2)
    first, second = (record.path for record in images.records)
    truth: dict[str, Tensor] = {
        first: torch.tensor([[0.0, 0.0, 0.1, 0.1], [0.0, 0.0, 1.0, 0.5]], dtype=torch.float64),
        second: torch.tensor([[0.0, 0.0, 0.25, 1.0]], dtype=torch.float64),
    }
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    measured = measure_boxes("lchp_i", torch.tensor([[0.0, 0, 1, 1]] * 2), split_of("test", images, truth), logits)
    assert [row[8:] for row in measured.rows] == [(0.5, 1, 1), (0.25, 0, 1)]
    assert measured.scores["lchp_i/test/gt_known"] == 0.5
    assert measured.scores["lchp_i/test/mean_iou"] == 0.375


def test_measure_boxes_of_a_partly_annotated_split_localizes_the_annotated_images_and_classifies_all(
    tmp_path: Path,
) -> None:
    images = source(tmp_path, 5)
    outside = torch.tensor([[2.0, 2, 3, 3]])
    truth = {images.records[1].path: torch.tensor([[0.0, 0, 1, 1]]), images.records[4].path: outside}
    split = split_of("test", images, truth)
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    measured = measure_boxes("lchp_i", torch.tensor([[0.0, 0, 1, 1]] * 5), split, logits)
    assert [row[8:] for row in measured.rows] == [("", 1, 1), (1.0, 0, 1), ("", 1, 1), ("", 1, 1), (0.0, 1, 1)]
    scores = {name.rpartition("/")[2]: value for name, value in measured.scores.items()}
    # One of the two annotated images is hit, and it is the one that is not classified.
    assert scores == {
        "gt_known": 0.5, "box_acc_30": 0.5, "box_acc_70": 0.5, "mean_box_acc": 0.5, "mean_iou": 0.5,
        "top1_loc": 0.0, "top5_loc": 0.5, "top1_cls": 0.8,
        "log_area_mean": 0.0, "log_area_spread": 0.0, "centre_offset_mean": 1.0, "centre_offset_spread": 1.0,
    }  # fmt: skip


def test_measure_boxes_touches_no_file(tmp_path: Path) -> None:
    images = source(tmp_path, 2)
    split = split_of("test", images, {images.records[0].path: torch.tensor([[0.0, 0, 1, 1]])})
    shutil.rmtree(images.root)
    measured = measure_boxes("lchp_i", torch.tensor([[0.0, 0, 0.5, 1]] * 2), split, torch.eye(2))
    assert [row[4:8] for row in measured.rows] == [(0, 0, 40, 64)] * 2


@pytest.mark.parametrize("truth", [None, {}])
def test_measure_boxes_without_any_true_box_knows_classification_alone(truth: Any, tmp_path: Path) -> None:
    split = split_of("test", source(tmp_path, 2), truth)
    measured = measure_boxes("lchp_i", torch.tensor([[0.0, 0, 1, 1]] * 2), split, torch.eye(2))
    assert measured.scores == {"lchp_i/test/top1_cls": 0.5}
    assert [row[8] for row in measured.rows] == ["", ""]
    assert set(floors(split)) == {"whole_image"}


def test_floors_of_a_partly_annotated_split_are_fitted_on_the_annotated_images(tmp_path: Path) -> None:
    images = source(tmp_path, 4)
    split = split_of("train", images, {images.records[2].path: torch.tensor([[0.2, 0.3, 0.8, 0.7]])})
    centred = floors(split)["centred_box"](split)[0].tolist()
    # The smallest centred box that hits the only true one is half of it.
    width, height = centred[2] - centred[0], centred[3] - centred[1]
    assert width <= 0.6
    assert height <= 0.4
    assert width * height == pytest.approx(0.12)


def test_views_at_places_are_those_images_and_named_when_not_finite(tmp_path: Path) -> None:
    images, config = source(tmp_path, 5), tiny(view={"resize": 32, "crop": 32})
    evaluator, places = Evaluator(config, "cpu", 0), torch.tensor([1, 4])
    every = evaluator.views(images, lambda views, *_: views.mean((2, 3)))
    torch.testing.assert_close(evaluator.views(images, lambda views, *_: views.mean((2, 3)), places), every[places])
    broken = torch.tensor([[0.0], [float("inf")]])
    with pytest.raises(FloatingPointError, match=f"answer to {images.records[4].path} is not finite"):
        evaluator.views(images, lambda views, *_: broken, places)


@pytest.mark.parametrize("judge", ["momentum", "classifier"])
def test_measure_reads_every_image_once_and_gives_what_separate_passes_give(
    judge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(view={"resize": 32, "crop": 32}, evaluation={"batch_size": 4}, classes_from=judge)
    networks, images = make_networks(config, 2), source(tmp_path, 6)
    evaluator, split = Evaluator(config, "cpu", 0), split_of("val", images, None)
    live = evaluator.pseudo_label(networks.momentum)
    boxes = evaluator.views(images, live.predict)
    logits = evaluator.logits(networks.judge, images)
    asked: Counter[str] = Counter()
    networks.momentum.trunk.register_forward_hook(lambda *_: asked.update(["momentum"]))
    networks.classifier.trunk.register_forward_hook(lambda *_: asked.update(["classifier"]))
    batch = ImageSource.batch
    monkeypatch.setattr(ImageSource, "batch", lambda self, part: (asked.update(["read"]), batch(self, part))[1])
    frozen: dict[str, Tensor] = {}
    measured = evaluator.measure({"pseudo_label": live}, networks.judge, [split], frozen)
    # Two batches: the raw views, by whoever classifies them too, and the masked ones.
    assert asked == {"read": 2, "momentum": 4} | ({"classifier": 2} if judge == "classifier" else {})
    assert torch.equal(frozen["val"], logits)
    assert measured == measure_boxes("pseudo_label", boxes, split, logits)
    asked.clear()
    assert evaluator.measure({"pseudo_label": live}, networks.judge, [split], frozen) == measured
    assert asked == {"read": 2, "momentum": 4}, "frozen logits are not asked for again"


def unannotated(kind: str, path: Path) -> set[str]:
    """Takes the boxes of every second training and every third test image away; gives the paths of those images."""
    if kind == "imagenet":
        files = path / "ILSVRC/Annotations/CLS-LOC"
        taken = [*sorted(files.glob("train/*/*.xml"))[::2], *sorted(files.glob("val/*.xml"))[::3]]
        labels = "".join(
            f"{file.stem},{ElementTree.parse(file).findtext('object/name')} 1 1 2 2\n"
            for file in files.glob("val/*.xml")
        )
        (path / "LOC_val_solution.csv").write_text(f"ImageId,PredictionString\n{labels}", encoding="utf-8")
        for file in taken:
            file.unlink()
        return {f"Data/CLS-LOC/{file.relative_to(files).with_suffix('.JPEG').as_posix()}" for file in taken}
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    both = [[row for row in rows if f",{split}," in row] for split in ("train", "test")]
    taken_rows = {*both[0][::2], *both[1][::3]}
    rows = [",".join([*row.split(",")[:3], "", "", "", ""]) if row in taken_rows else row for row in rows]
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return {row.split(",")[0] for row in taken_rows}


@pytest.mark.parametrize(("kind", "draw"), [("imagenet", draw_imagenet), ("table", draw_table)])
def test_trial_on_partly_annotated_images_measures_where_there_are_boxes(
    kind: str, draw: Any, tmp_path: Path, runtime: Runtime
) -> None:
    path = draw(tmp_path / "data", train=7)
    without = unannotated(kind, path)
    config = tiny(dataset={"kind": kind, "path": path})
    train(config, runtime)
    folder = folders(config, runtime)[1]
    with (folder / "per_image.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    assert {row["path"] for row in rows if row["iou"] == ""} == {row["path"] for row in rows} & without != set()
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    for method in ("pseudo_label", "lchp_i", "lchp_r", "whole_image", "centred_box"):
        mine = [row for row in rows if row["method"] == method]
        boxed = [row for row in mine if row["iou"] != ""]
        assert len(boxed) == 4 < len(mine) == 6
        hits = [float(row["iou"]) >= 0.5 for row in boxed]
        right = [row["top1"] == "1" for row in boxed]
        assert scores[f"{method}/test/gt_known"] == np.mean(hits)
        assert scores[f"{method}/test/top1_loc"] == np.mean(np.array(hits) & np.array(right))
        assert scores[f"{method}/test/top1_cls"] == np.mean([row["top1"] == "1" for row in mine])
    with (folder / "selection.csv").open(newline="", encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    images = Material.prepare(config, runtime).splits.train
    boxed_images = sum(record.path not in without for record in images)
    assert 0 < boxed_images < len(images)
    assert (first["tau"], int(first["selected"]), int(first["total"])) == ("0.0", boxed_images, boxed_images)


def test_measured_read_writes_the_same_text_again(birds: Birds) -> None:
    config, runtime, _ = birds
    text = (folders(config, runtime)[1] / "per_image.csv").read_text(encoding="utf-8")
    assert Measured.read({}, text).per_image_csv() == text


@pytest.mark.parametrize("damage", [None, "[0.1, 0.2]", "[0.1", "{}"])
def test_floors_that_are_kept_are_fitted_once_and_again_where_damaged(
    damage: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = source(tmp_path, 4)
    split = split_of("train", images, {images.records[2].path: torch.tensor([[0.2, 0.3, 0.8, 0.7]])})
    expected, kept = floors(split)["centred_box"](split), tmp_path / "kept/box.json"
    fit, fitted = metrics.fit_centred_box, []
    monkeypatch.setattr(metrics, "fit_centred_box", lambda truth: fitted.append(len(truth)) or fit(truth))
    assert torch.equal(floors(split, kept)["centred_box"](split), expected)
    if damage is not None:
        kept.write_text(damage, encoding="utf-8")
    assert torch.equal(floors(split, kept)["centred_box"](split), expected)
    assert fitted == [1] * (1 if damage is None else 2)
