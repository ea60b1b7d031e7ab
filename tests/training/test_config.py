from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lchp.training.config import TrialConfig
from lchp.training.stage_config import AUGMENTATIONS

from .tiny import tiny


def refusal(**values: Any) -> str:
    """What people read of a configuration that is refused."""
    with pytest.raises(ValidationError) as caught:
        TrialConfig(**values)
    return str(caught.value)


def test_defaults_are_the_papers() -> None:
    config = TrialConfig()
    assert (config.delta, config.tau, config.alpha, config.beta) == (0.7, 0.9, 20, 0.9)
    assert (config.backbone, config.classifier) == ("inception_v3", "inception_v3")
    assert config.augmentation == "scale+translation+flip"
    assert (config.view.resize, config.view.crop, config.view.flip) == (512, 448, 0.5)
    first, second = config.initialization, config.refinement
    assert (first.batch_size, second.batch_size, first.attention_maps) == (32, 32, 32)
    assert (first.classifier_rate, first.regressor_rate, second.rate) == (2e-3, 2e-3, 2e-3)
    assert first.classifier_decay == 0.9
    for optimizer in (first.optimizer, second.optimizer):
        assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 1e-5)


def test_defaults_calm_nothing() -> None:
    for stage in (TrialConfig().initialization, TrialConfig().refinement):
        assert (stage.report, stage.schedule, stage.warmup, stage.clip) == ("last", "constant", 0, None)
    assert TrialConfig().initialization.augmentation == "none"


def test_defaults_where_the_paper_is_silent_are_the_method_notes() -> None:
    config = TrialConfig()
    assert (config.pseudo_boxes.normalization, config.pseudo_boxes.maps) == ("min_max", "features")
    assert (config.refinement.teacher, config.refinement.weak_statistics) == ("online", "batch")
    assert (config.refinement.alpha, config.refinement.backend) == (1, "batched")
    assert (config.box_format, config.view.evaluation) == ("corners", "whole")
    assert (config.weights.classifier, config.weights.regressor) == ("imagenet", "imagenet")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("flip+scale", "scale+flip"),
        (["flip", "translation", "scale"], "scale+translation+flip"),
        (" translation ", "translation"),
        ("none", "none"),
        (None, "none"),
        ([], "none"),
    ],
)
def test_augmentation_in_any_spelling_is_one_word(written: Any, meant: str) -> None:
    assert tiny(augmentation=written).augmentation == meant
    assert meant in AUGMENTATIONS


def test_augmentations_are_the_eight_subsets() -> None:
    assert len(set(AUGMENTATIONS)) == 8
    assert [tiny(augmentation=name).augmentation for name in AUGMENTATIONS] == list(AUGMENTATIONS)


@pytest.mark.parametrize("written", ["scal", "scale+scale", "none+flip", ["rotation"], "", 3])
def test_augmentation_that_is_none_is_refused(written: Any) -> None:
    message = refusal(augmentation=written)
    assert "augmentation" in message
    assert "must be a subset of scale, translation, flip" in message or "valid string" in message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"view": {"resize": 100, "crop": 120}}, "view.crop 120 is larger than view.resize 100: make it smaller"),
        (
            {"initialization": {"epochs": 2, "regressor_start": 2}},
            "initialization.regressor_start 2 leaves the regressor no epoch of initialization.epochs 2",
        ),
        (
            {"initialization": {"epochs": 9, "classifier_epochs": 2, "regressor_start": 3}},
            "initialization.regressor_start 3 is after the last of initialization.classifier_epochs 2; nothing learns",
        ),
        (
            {"compute": {"compile": "fused"}, "refinement": {"backend": "imgaug"}},
            "compute.compile is fused, but refinement.backend is imgaug, which the CPU does in the middle of a step",
        ),
        (
            {"compute": {"compile": "graphs"}, "pseudo_boxes": {"component": "largest"}},
            "compute.compile is graphs, but pseudo_boxes.component is largest, which the CPU does",
        ),
        (
            {"compute": {"compile": "graphs"}, "refinement": {"rejected": "drop"}},
            "compute.compile is graphs, but refinement.rejected is drop, and how many of a batch tau rejects changes "
            "from step to step: set confidence.keep, by which every batch keeps as many, compute.compile to none or ",
        ),
        (
            {"view": {"resize": 72, "crop": 64}},
            "a view of 64 px is too small for inception_v3, which needs at least 75 px: enlarge view.crop",
        ),
        (
            {"view": {"resize": 40, "crop": 31}, "classifier": "resnet50", "backbone": "mobilenet_v2"},
            "a view of 31 px is too small for resnet50, which needs at least 32 px",
        ),
        (
            {"confidence": {"score": "out_of_fold"}, "split": {"val_per_class": 0}},
            "confidence.score is out_of_fold, whose temperature is fitted on val, but split.val_per_class is 0: hold ",
        ),
        ({"classifier": "small_cnn"}, "weights.classifier is imagenet, but small_cnn has no such weights"),
        ({"backbone": "small_cnn"}, "weights.regressor is imagenet, but small_cnn has no such weights: set it to none"),
        (
            {"weights": {"regressor": "classifier"}, "backbone": "resnet50"},
            "weights.regressor is classifier, but backbone resnet50 is not the classifier's network inception_v3",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused_with_the_remedy(values: dict[str, Any], message: str) -> None:
    assert message in refusal(**values)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"delta": 1.1}, "delta"),
        ({"tau": -0.1}, "tau"),
        ({"alpha": 0}, "alpha"),
        ({"beta": 1.0}, "beta"),
        ({"delta": float("nan")}, "delta"),
        ({"seed": -1}, "seed"),
        ({"confidence": {"folds": 1}}, "confidence.folds"),
        ({"backbone": "vit"}, "backbone"),
        ({"refinement": {"epochs": 0}}, "refinement.epochs"),
        ({"initialization": {"epochs": 100_001}}, "initialization.epochs"),
        ({"refinement": {"epochs": 10**12}}, "refinement.epochs"),
        ({"refinement": {"teacher": "best"}}, "refinement.teacher"),
        ({"initialization": {"batch_size": 1}}, "initialization.batch_size"),
        ({"initialization": {"attention_maps": 1025}}, "initialization.attention_maps"),
        ({"initialization": {"batch_size": 65_537}}, "initialization.batch_size"),
        ({"refinement": {"batch_size": 65_537}}, "refinement.batch_size"),
        ({"evaluation": {"batch_size": 10**20}}, "evaluation.batch_size"),
        ({"evaluation": {"every": 100_001}}, "evaluation.every"),
        ({"split": {"val_per_class": 1_000_001}}, "split.val_per_class"),
        ({"split": {"seed": 2**63}}, "split.seed"),
        ({"dataset": {"kind": "synthetic", "seed": 2**63}}, "dataset.synthetic.seed"),
        ({"initialization": {"regressor_rate": 1e39}}, "initialization.regressor_rate"),
        ({"initialization": {"bap_scale": 1e30}}, "initialization.bap_scale"),
        ({"refinement": {"rate": 1e39}}, "refinement.rate"),
        ({"refinement": {"optimizer": {"weight_decay": 1e30}}}, "refinement.optimizer.weight_decay"),
        ({"alpha": 1e308}, "alpha"),
        ({"refinement": {"alpha": 1e308}}, "refinement.alpha"),
        ({"compute": {"cpu_threads": 0}}, "compute.cpu_threads"),
        ({"compute": {"cpu_threads": 257}}, "compute.cpu_threads"),
        ({"weights": {"classifier": {"file": "w.pth", "sha256": "abc"}}}, "weights.classifier.WeightsFile.sha256"),
        ({"refinemnt": {}}, "refinemnt"),
        ({"view": {"crops": 3}}, "view.crops"),
    ],
)
def test_values_out_of_range_or_unknown_are_refused_by_place(values: dict[str, Any], place: str) -> None:
    assert f"\n{place}\n" in refusal(**values)


def test_config_is_frozen_and_survives_json() -> None:
    weights = {"classifier": {"file": "weights.pth", "sha256": "0" * 64}, "regressor": "none"}
    config = tiny(weights=weights, dataset={"kind": "cub", "path": "birds"})
    with pytest.raises(ValidationError, match="frozen"):
        config.delta = 0.1  # type: ignore[misc]
    assert TrialConfig.model_validate_json(config.model_dump_json()) == config
    assert config.dataset.path == Path("birds")  # type: ignore[union-attr]
