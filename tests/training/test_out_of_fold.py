"""Classifiers that judge what they have not seen: how they are trained, what they are judged by, how they are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lchp.method.networks import ClassifierOutput
from lchp.store.folder import StageFolder
from lchp.training.confidence import Confidence, FoldJudges
from lchp.training.config import TrialConfig
from lchp.training.evaluation import Evaluator
from lchp.training.identity import out_of_fold_key
from lchp.training.initialization import Initialization
from lchp.training.material import Material, Runtime
from lchp.training.out_of_fold import OutOfFold, fold_judges, fold_of, out_of_fold_epochs
from lchp.training.stages import EpochReport, set_up_torch
from lchp.training.trial import run_trial

from .tiny import assert_same_results, folders, history, same_tensors, same_weights, tiny, train

FOLDS, EPOCHS = 2, 2


def asked(**changes: Any) -> TrialConfig:
    """The tiny trial by this confidence, with shorter stages."""
    given = {"confidence": {}, "initialization": {}, **changes}
    return tiny(
        **{
            **given,
            "confidence": {"score": "out_of_fold", "folds": FOLDS, **given["confidence"]},
            "initialization": {"epochs": EPOCHS, **given["initialization"]},
        }
    )


def epochs_of(config: TrialConfig, runtime: Runtime, said: list[str] | None = None) -> Iterator[EpochReport]:
    set_up_torch(config.compute, runtime.device)
    material = Material.prepare(config, runtime)
    return out_of_fold_epochs(config, material, Evaluator(config, "cpu", 0), (said if said is not None else []).append)


def folder_of(config: TrialConfig, runtime: Runtime) -> StageFolder:
    return StageFolder(Material.prepare(config, runtime).out_of_fold_folder(config))


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Runtime:
    """A store that the tests of this module share."""
    return Runtime(tmp_path_factory.mktemp("out_of_fold"), cache)


@pytest.fixture(scope="module")
def judged(runtime: Runtime) -> list[EpochReport]:
    """A whole trial by this confidence, finished in the module's store."""
    return train(asked(), runtime)


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_fold_of_deals_every_class_and_all_images_out_evenly(folds: int) -> None:
    labels = torch.tensor([3, 1, 1, 0, 1, 0, 3, 1, 3, 0, 1, 3, 0, 1, 2, 0, 3, 3])
    found = fold_of(labels, folds, seed=5).numpy()
    for label in range(4):
        counts = np.bincount(found[labels.numpy() == label], minlength=folds)
        assert counts.max() - counts.min() <= 1, "so that a class of at least so many images is in every fold"
    assert np.ptp(np.bincount(found, minlength=folds)) <= 1
    assert found.tolist() == fold_of(labels, folds, seed=5).tolist()
    assert found.tolist() != fold_of(labels, folds, seed=6).tolist()


def test_no_image_is_judged_by_a_classifier_that_saw_it(
    runtime: Runtime, judged: list[EpochReport], tmp_path: Path
) -> None:
    config = asked(initialization={"epochs": 1, "regressor_start": 0})
    material = Material.prepare(config, Runtime(tmp_path, runtime.cache))
    stage, seen = OutOfFold(config, material), []
    step = stage._step
    stage._step = lambda *batch: seen.append((stage.fold, batch[2].tolist())) or step(*batch)  # type: ignore[method-assign]
    while stage.epoch < stage.epochs:
        stage.train_epoch()
    weights = stage.judges
    by_fold = [{place for fold, places in seen if fold == one for place in places} for one in range(FOLDS)]
    assert [len(places) for places in by_fold] == [20 - 20 % 8] * FOLDS, "whole batches of half of 40 images"
    assert not same_tensors(weights["0"], weights["1"])

    places = torch.arange(len(material.train))
    boxes = torch.tensor([[0.1, 0.1, 0.9, 0.9]]).repeat(len(places), 1)
    for fold, seen_by_it in enumerate(by_fold):
        # Whom this one judges, it is sure of; the others are sure of nothing.
        classifiers = [_always(9.0 if one == fold else 0.0) for one in range(FOLDS)]
        confidence = Confidence(config, classifiers[0], FoldJudges(classifiers, stage.folds, 1.0))
        views = torch.zeros(len(places), 3, 32, 32)
        sure = confidence.score(views, boxes, material.train.labels, places, lambda others: boxes)
        judged_by_it = set((sure > 0.5).nonzero()[:, 0].tolist())
        assert len(judged_by_it) == 20
        assert not judged_by_it & seen_by_it


def _always(first: float) -> Any:
    """A classifier that has these logits for every crop: ``first``, and seven zeros."""
    row = torch.tensor([first] + [0.0] * 7)
    return lambda crops: ClassifierOutput(row.repeat(len(crops), 1), crops, crops)


def test_step_is_initializations_own_without_its_regressor(runtime: Runtime) -> None:
    config = asked()
    material = Material.prepare(config, runtime)
    stage, first = OutOfFold(config, material), Initialization(config, 8, "cpu")
    first.epoch = 1  # so that its regressor learns, too
    first.generators["view"].set_state(stage.generators["view"].get_state())
    for network in (stage.descent.classifier, first.networks.classifier, first.networks.regressor):
        network.train()
    for start in (0, 8):
        places = torch.arange(start, start + 8)
        batch = material.train.batch(places), material.train.labels[places], places
        found, expected = stage._step(*batch), first._step(*batch)
        assert found.tolist() == expected[[1, 3]].tolist()
    assert same_tensors(dict(stage.descent.classifier.state_dict()), dict(first.networks.classifier.state_dict()))
    assert same_tensors(dict(stage.descent.momentum_network.state_dict()), dict(first.networks.momentum.state_dict()))


def test_every_fold_begins_with_the_same_weights_and_rate_and_has_an_order_of_its_own(runtime: Runtime) -> None:
    stage = OutOfFold(asked(initialization={"epochs": 1, "regressor_start": 0}), Material.prepare(asked(), runtime))
    first = {name: value.clone() for name, value in stage.descent.classifier.state_dict().items()}
    states = [stage.generators["order"].get_state()]
    stage.train_epoch()
    assert stage.descent.optimizer.param_groups[0]["lr"] == pytest.approx(0.02 * 0.9)
    assert not same_tensors(dict(stage.descent.classifier.state_dict()), first)
    assert stage.fold == 1
    stage._begin()
    assert same_tensors(dict(stage.descent.classifier.state_dict()), first)
    assert stage.descent.optimizer.param_groups[0]["lr"] == 0.02
    assert not torch.equal(states[0], stage.generators["order"].get_state())


def test_trial_trains_them_between_its_stages_and_its_steps_do_not_count_them(judged: list[EpochReport]) -> None:
    told = [(report.stage, report.epoch, report.step) for report in judged]
    assert told == [
        *(("initialization", epoch, epoch) for epoch in (1, 2)),
        *(("out_of_fold", epoch, epoch) for epoch in (1, 2, 3, 4)),
        *(("refinement", epoch, EPOCHS + epoch) for epoch in (1, 2)),
    ]
    losses = [report.metrics for report in judged if report.stage == "out_of_fold"]
    assert all(metrics.keys() == {"train/out_of_fold/loss", "train/out_of_fold/train_cls"} for metrics in losses)
    for fold in range(FOLDS):
        assert losses[EPOCHS * fold + 1]["train/out_of_fold/loss"] < losses[EPOCHS * fold]["train/out_of_fold/loss"]


def test_temperature_minimises_the_cross_entropy_of_all_classifiers_on_val_by_numpy(
    runtime: Runtime, judged: list[EpochReport]
) -> None:
    material, folder = Material.prepare(asked(), runtime), folder_of(asked(), runtime)
    judges = fold_judges(asked(), material)
    assert judges is not None
    assert material.val is not None
    logits = np.concatenate(
        [Evaluator(asked(), "cpu", 0).logits(one, material.val.source).double().numpy() for one in judges.classifiers]
    )
    labels = np.tile(material.val.source.labels.numpy(), FOLDS)

    def loss(temperature: float) -> float:
        z = logits / temperature
        return float((np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), labels]).mean())

    scores = folder.scores()
    assert scores["temperature"] == judges.temperature
    assert scores["cross_entropy"] == pytest.approx(loss(judges.temperature), rel=1e-6)
    assert scores["cross_entropy_at_1"] == pytest.approx(loss(1.0), rel=1e-6)
    assert scores["cross_entropy"] <= min(map(loss, np.geomspace(0.1, 100, 301))) + 1e-9
    assert folder.whole


def test_trial_selects_by_them_and_another_one_trains_none_again(runtime: Runtime, judged: list[EpochReport]) -> None:
    config, other = asked(), asked(tau=0.3, refinement={"epochs": 1, "batch_size": 8})
    told = train(other, runtime)
    assert {report.reused for report in told if report.stage == "out_of_fold"} == {True}
    assert len(list((runtime.store / "out_of_fold").iterdir())) == 1
    first, folder = folders(config, runtime)
    plain = tiny(initialization={"epochs": EPOCHS})
    assert {report.stage for report in train(plain, runtime)} == {"initialization", "refinement"}
    assert folders(plain, runtime)[0] == first
    rows, before = (StageFolder(path).selection_rows() for path in (folder, folders(plain, runtime)[1]))
    assert {row.auc for row in rows}.isdisjoint({row.auc for row in before})
    assert not same_weights(folder, folders(plain, runtime)[1])


def test_trial_that_is_finished_does_not_tell_of_them_again(runtime: Runtime, judged: list[EpochReport]) -> None:
    assert [report.stage for report in train(asked(), runtime)] == ["initialization"] * 2 + ["refinement"] * 2


@pytest.mark.parametrize("boundary", range(1, FOLDS * EPOCHS + 1))
def test_classifiers_stopped_at_a_boundary_and_continued_have_the_same_bits(
    boundary: int, runtime: Runtime, judged: list[EpochReport], tmp_path: Path
) -> None:
    own = Runtime(tmp_path, runtime.cache)
    epochs = epochs_of(asked(), own)
    for _ in range(boundary):
        next(epochs)
    epochs.close()  # type: ignore[attr-defined]
    reused = [report.reused for report in epochs_of(asked(), own)]
    assert reused == [True] * boundary + [False] * (FOLDS * EPOCHS - boundary)
    found, expected = folder_of(asked(), own), folder_of(asked(), runtime)
    assert same_weights(found.path, expected.path)
    assert found.scores() == expected.scores()
    assert history(found.path) == history(expected.path)


def test_damaged_classifiers_are_set_aside_and_trained_again_to_the_same_bits(
    runtime: Runtime, judged: list[EpochReport], tmp_path: Path
) -> None:
    own = Runtime(tmp_path, runtime.cache)
    list(epochs_of(asked(), own))
    networks = folder_of(asked(), own).path / "networks.pt"
    networks.write_bytes(networks.read_bytes()[:-100])
    said: list[str] = []
    run_trial(asked(), own, lambda report: None, say=said.append)
    assert [line for line in said if "networks.pt" in line and "set aside as" in line] == said
    assert len(said) == 1
    assert same_weights(networks.parent, folder_of(asked(), runtime).path)
    assert_same_results(folders(asked(), own)[1], folders(asked(), runtime)[1])


def test_classifiers_judge_by_theta_1_where_classes_come_from_it(runtime: Runtime, tmp_path: Path) -> None:
    config = asked(classes_from="classifier", initialization={"epochs": 1, "regressor_start": 0})
    stage = OutOfFold(config, Material.prepare(config, Runtime(tmp_path, runtime.cache)))
    stage.train_epoch()
    assert same_tensors(stage.judges["0"], dict(stage.descent.classifier.state_dict()))
    assert not same_tensors(stage.judges["0"], dict(stage.descent.momentum_network.state_dict()))


def test_judges_of_images_outside_training_answer_by_their_mean(runtime: Runtime, judged: list[EpochReport]) -> None:
    material = Material.prepare(asked(), runtime)
    judges = fold_judges(asked(), material)
    assert judges is not None
    confidence = Confidence(asked(), judges.classifiers[0], judges)
    views = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(5, 1)
    with torch.no_grad():
        sure = confidence.score(views, boxes, torch.zeros(5, dtype=torch.int64), None, lambda views: boxes)
        z = [one(views).logits.double().numpy() / judges.temperature for one in judges.classifiers]
    mean = np.mean([np.exp(one) / np.exp(one).sum(1, keepdims=True) for one in z], 0)
    np.testing.assert_allclose(sure.numpy(), mean.max(1), rtol=1e-4)


SHARED: list[dict[str, Any]] = [
    {"tau": 0.5},
    {"alpha": 2.0},
    {"augmentation": "flip"},
    {"backbone": "mobilenet_v2"},
    {"box_format": "centre_size"},
    {"weights": {"regressor": "classifier"}},
    {"confidence": {"keep": 0.5}},
    {"refinement": {"rate": 0.5}},
    {"initialization": {"regressor_rate": 0.5}},
    {"initialization": {"regressor_start": 0}},
    {"initialization": {"augmentation": "flip"}},
    {"initialization": {"report": "average", "schedule": "cosine", "warmup": 3, "clip": 1.0}},
    {"evaluation": {"every": 2}},
]
APART: list[dict[str, Any]] = [
    {"seed": 3},
    {"delta": 0.5},
    {"beta": 0.5},
    {"classifier": "mobilenet_v2"},
    {"classes_from": "classifier"},
    {"split": {"seed": 3}},
    {"view": {"flip": 0.0}},
    {"pseudo_boxes": {"maps": "attention"}},
    {"confidence": {"folds": 3}},
    {"initialization": {"epochs": 4}},
    {"initialization": {"classifier_rate": 0.5}},
    {"initialization": {"optimizer": {"momentum": 0.5}}},
    {"compute": {"cpu_threads": 2}},
]


def test_key_is_shared_by_trials_that_differ_in_what_no_classifier_reads(runtime: Runtime) -> None:
    keys = [out_of_fold_key(asked(**changes)) for changes in ({}, *SHARED)]
    assert [changes for changes, key in zip(({}, *SHARED), keys, strict=True) if key != keys[0]] == []
    apart = [out_of_fold_key(asked(**changes)) for changes in APART]
    assert [changes for changes, key in zip(APART, apart, strict=True) if key == keys[0]] == []


def test_true_boxes_have_no_part_in_them(runtime: Runtime, judged: list[EpochReport], tmp_path: Path) -> None:
    own = Runtime(tmp_path, runtime.cache)
    material = Material.prepare(asked(), own)
    object.__setattr__(material.data.opened, "true_boxes", None)
    list(out_of_fold_epochs(asked(), material, Evaluator(asked(), "cpu", 0), lambda line: None))
    (found,) = (own.store / "out_of_fold").iterdir()
    assert same_weights(found, folder_of(asked(), runtime).path)
