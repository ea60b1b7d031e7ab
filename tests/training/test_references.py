from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lchp
from lchp.data.records import boxes_of
from lchp.method import augmentation
from lchp.store.folder import StageFolder
from lchp.training.config import TrialConfig
from lchp.training.evaluation import true_boxes_of
from lchp.training.identity import reference_key
from lchp.training.material import Material, Runtime, Split
from lchp.training.references import (
    Reference,
    largest_boxes,
    reference_epochs,
    repeated_order,
    shown_images,
)
from lchp.training.stages import EpochReport
from lchp.training.trial import run_trial
from lchp.vocabulary import METHODS

from .tiny import assert_same_results, folders, tiny

REFERENCES = [name for name, method in METHODS.items() if method.reference]
EPOCHS = 3
# A whole view of the image as it is, so that a step can be followed by hand.
PLAIN: dict[str, Any] = {"view": {"resize": 32, "crop": 32, "flip": 0.0}, "evaluation": {"batch_size": 64}}


def material_of(config: TrialConfig, runtime: Runtime) -> Material:
    return Material.prepare(config, runtime)


def trained(method: str, config: TrialConfig, runtime: Runtime) -> tuple[list[EpochReport], StageFolder]:
    material = material_of(config, runtime)
    reports = list(reference_epochs(method, config, runtime, material))
    return reports, StageFolder(material.reference_folder(config, method))


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Runtime:
    """A store that the tests of this module share."""
    return Runtime(tmp_path_factory.mktemp("references"), cache)


def test_shown_images_of_supervised_are_all_training_images_with_true_boxes(runtime: Runtime) -> None:
    material = material_of(tiny(), runtime)
    split, places = shown_images("supervised", tiny(), material)
    assert split.name == "train"
    assert places.tolist() == list(range(8 * 5))


@pytest.mark.parametrize(("held_out", "expected"), [(1, ("val", "train")), (5, ("val", "val")), (0, ("train",) * 2)])
def test_shown_images_of_few_shots_come_from_val_where_it_has_enough(
    runtime: Runtime, held_out: int, expected: tuple[str, str]
) -> None:
    dataset = {"kind": "synthetic", "train_per_class": 11, "test_per_class": 2, "size": 40}
    config = tiny(split={"val_per_class": held_out}, dataset=dataset)
    material = material_of(config, runtime)
    found = [shown_images(method, config, material) for method in ("few_shot_1", "few_shot_5")]
    assert tuple(split.name for split, _ in found) == expected
    for (split, places), count in zip(found, (1, 5), strict=True):
        assert places.tolist() == sorted(set(places.tolist()))
        assert np.bincount(split.source.labels[places].numpy()).tolist() == [count] * 8
    if expected[0] == expected[1]:
        assert set(found[0][1].tolist()) < set(found[1][1].tolist())
    other = shown_images("few_shot_1", config.model_copy(update={"seed": 1}), material)
    if expected[0] == "train":
        assert other[1].tolist() != found[0][1].tolist()


def test_shown_images_and_largest_boxes_leave_out_what_has_no_true_box(runtime: Runtime) -> None:
    material = material_of(tiny(), runtime)
    paths = [record.path for record in material.train.records]
    small, large = [0.1, 0.1, 0.3, 0.3], [0.2, 0.2, 0.9, 0.8]
    known = boxes_of(material.train.records, {paths[3]: [large], paths[7]: [small, large, small]})
    split = Split("train", material.train, known, material.train_split.sizes)
    assert true_boxes_of(split)[0].tolist() == [3, 7]
    boxes = largest_boxes(split)
    assert boxes.shape == (len(paths), 4)
    np.testing.assert_allclose(boxes[[3, 7]], [large, large], rtol=1e-6)
    assert not boxes[[0, 1, 2, 4, 5, 6]].any()


def test_repeated_order_shows_every_image_as_often_as_it_takes() -> None:
    places = torch.tensor([4, 9, 2])
    order = repeated_order(places, 8, torch.Generator().manual_seed(0))
    for start in (0, 3):
        assert sorted(order[start : start + 3].tolist()) == [2, 4, 9]
    assert len(order) == 8
    assert set(order[6:].tolist()) < {2, 4, 9}


def test_step_descends_from_equation_2_on_true_boxes(runtime: Runtime) -> None:
    config = tiny(**PLAIN, alpha=3.0)
    material = material_of(config, runtime)
    stage = Reference("supervised", config, material)
    stage.regressor.train()
    with torch.no_grad():
        stage.regressor.head.weight.normal_(std=0.01, generator=torch.Generator().manual_seed(0))
    places = torch.arange(6)
    images = material.train.batch(places)
    truth = torch.stack(true_boxes_of(material.train_split)[1][:6])[:, 0].numpy()
    with torch.no_grad():
        predicted = stage.regressor(augmentation.normalise(images)).double().numpy()
    loss = stage._step(images, material.train.labels[places], places)
    distances = ((predicted - truth) ** 2).sum(1)
    np.testing.assert_allclose(loss.item(), distances.mean(), rtol=1e-5)
    bias = 3.0 * 2 * (predicted - truth).mean(0)  # d loss / d bias
    assert stage.regressor.head.bias.grad is not None
    np.testing.assert_allclose(stage.regressor.head.bias.grad.numpy(), bias, rtol=1e-4)


def test_reference_trains_as_many_steps_as_an_epoch_of_initialization(runtime: Runtime) -> None:
    stage, steps = Reference("few_shot_1", tiny(), material_of(tiny(), runtime)), []
    step = stage._step
    stage._step = lambda *batch: steps.append(batch[2].tolist()) or step(*batch)  # type: ignore[method-assign]
    stage.train_epoch()
    assert [len(places) for places in steps] == [8] * 5
    assert all(sorted(places) == stage.places.tolist() for places in steps), "eight images, one a class, in each batch"


@pytest.mark.parametrize("method", REFERENCES)
def test_reference_is_measured_on_what_it_did_not_learn_from_and_knows_no_classes(
    method: str, runtime: Runtime
) -> None:
    reports, folder = trained(method, tiny(), runtime)
    assert [(report.stage, report.epoch, report.step) for report in reports] == [
        (method, epoch, epoch) for epoch in range(1, EPOCHS + 1)
    ]
    assert all(report.metrics.keys() == {f"train/{method}/loss"} for report in reports)
    scores = folder.scores()
    splits = {"test"} if method == "few_shot_1" else {"val", "test"}
    assert {tuple(key.split("/")[:2]) for key in scores} == {(method, split) for split in splits}
    assert {key.split("/")[2] for key in scores} >= {"gt_known", "mean_iou"}
    assert not any(key.split("/")[2].startswith("top") for key in scores)
    assert {row["top1"] for row in folder.per_image()} == {""}
    assert folder.whole


@pytest.mark.parametrize("boundary", range(1, EPOCHS + 1))
def test_reference_stopped_at_a_boundary_and_continued_has_the_same_bits(
    boundary: int, runtime: Runtime, tmp_path: Path, cache: Path
) -> None:
    options = {"report": "average", "schedule": "cosine", "warmup": 7, "clip": 1.0, "augmentation": "scale+flip"}
    config, own = tiny(initialization=options), Runtime(tmp_path, cache)
    _, through = trained("supervised", config, runtime)
    epochs = reference_epochs("supervised", config, own, material_of(config, own))
    for _ in range(boundary):
        next(epochs)
    epochs.close()  # type: ignore[attr-defined]
    reports, folder = trained("supervised", config, own)
    assert [report.reused for report in reports] == [True] * boundary + [False] * (EPOCHS - boundary)
    (folder.path / "selection.csv").write_text("", encoding="utf-8")
    (through.path / "selection.csv").write_text("", encoding="utf-8")
    assert_same_results(folder.path, through.path)


def test_reference_that_is_there_is_read_and_a_damaged_one_set_aside(runtime: Runtime, tmp_path: Path) -> None:
    own = Runtime(tmp_path, runtime.cache)
    _, folder = trained("supervised", tiny(), own)
    assert all(report.reused for report in trained("supervised", tiny(delta=0.6, tau=0.1), own)[0])
    scores = folder.path / "scores.json"
    before = scores.read_bytes()
    scores.write_text(json.dumps({"supervised/test/gt_known": 1.0}), encoding="utf-8")
    said: list[str] = []
    material = material_of(tiny(), own)
    reports = list(reference_epochs("supervised", tiny(), own, material, said.append))
    assert not any(report.reused for report in reports)
    assert "set aside as" in said[0]
    assert scores.read_bytes() == before


def test_trial_is_the_same_whatever_references_stand_beside_it(
    finished: TrialConfig, shared: Runtime, tmp_path: Path
) -> None:
    own = Runtime(tmp_path, shared.cache)
    trained("few_shot_1", finished, own)
    run_trial(finished, own, lambda report: None)
    assert_same_results(folders(finished, own)[1], folders(finished, shared)[1])


SHARED: list[dict[str, Any]] = [
    {"delta": 0.1},
    {"tau": 0.5},
    {"beta": 0.5},
    {"augmentation": "flip"},
    {"classifier": "mobilenet_v2"},
    {"pseudo_boxes": {"maps": "attention"}},
    {"initialization": {"classifier_rate": 0.5, "regressor_start": 0, "attention_maps": 3, "bap_scale": 1.0}},
    {"refinement": {"rate": 0.5}},
    {"evaluation": {"every": 3}},
    {"weights": {"classifier": "imagenet"}, "classifier": "mobilenet_v2"},
]
APART: list[dict[str, Any]] = [
    {"seed": 3},
    {"alpha": 2.0},
    {"backbone": "mobilenet_v2"},
    {"box_format": "centre_size"},
    {"regressor": {"frozen": True}},
    {"view": {"flip": 0.0}},
    {"split": {"seed": 3}},
    {"initialization": {"regressor_rate": 0.5}},
    {"initialization": {"epochs": 4}},
    {"initialization": {"schedule": "cosine"}},
    {"compute": {"cpu_threads": 2}},
]


def test_reference_key_is_shared_by_trials_that_differ_in_what_no_reference_reads() -> None:
    keys = [reference_key(tiny(**changes), "supervised") for changes in ({}, *SHARED)]
    assert all(key == keys[0] for key in keys)
    apart = [reference_key(tiny(**changes), "supervised") for changes in APART]
    assert [changes for changes, key in zip(APART, apart, strict=True) if key == keys[0]] == []
    assert reference_key(tiny(), "few_shot_1") != keys[0]


def test_reference_of_a_regressor_that_starts_from_the_classifier_starts_from_its_weights() -> None:
    config = tiny(weights={"classifier": "none", "regressor": "classifier"})
    assert reference_key(config, "supervised") == reference_key(tiny(), "supervised")


SEERS = {"evaluation", "selection", "references", "material"}
"""The modules of training that may speak of true boxes: two measure, one learns, material carries them."""
NAMES = {"true_boxes", "true_boxes_of", "pixel_boxes"}


def test_true_boxes_are_named_in_training_by_those_alone_that_may_see_them() -> None:
    found = set()
    for path in (Path(lchp.__file__).parent / "training").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None
            if name in NAMES:
                found.add(path.stem)
    assert found == SEERS
