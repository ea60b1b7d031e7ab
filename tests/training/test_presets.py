from __future__ import annotations

import pytest

from lchp.training.config import TrialConfig
from lchp.training.presets import PRESETS

# Paper 4.3: epochs of both stages, delta, rate of the refinement.
PAPER = {
    "cub": (40, 40, 0.7, 2e-3),
    "tiny-imagenet": (40, 40, 0.8, 2e-3),
    "imagenet": (10, 5, 0.7, 2e-4),
}


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_a_valid_trial(name: str) -> None:
    config = TrialConfig(**PRESETS[name])
    assert TrialConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("name", PAPER)
def test_preset_of_a_paper_dataset_is_the_papers_recipe(name: str) -> None:
    config = TrialConfig(**PRESETS[name])
    first, second = config.initialization, config.refinement
    assert (first.epochs, second.epochs, config.delta, second.rate) == PAPER[name]
    assert config.dataset.kind == name
    assert config.split.val_per_class == 0
    # All the rest is the same for every dataset, and the configuration's default.
    common = {name: value for name, value in config.model_dump().items() if name not in PRESETS["imagenet"]}
    assert common == {key: value for key, value in TrialConfig().model_dump().items() if key in common}
    for stage, set_here in ((first, {"epochs"}), (second, {"epochs", "rate"})):
        assert stage.model_dump(exclude=set_here) == type(stage)().model_dump(exclude=set_here)


def test_preset_quickstart_needs_no_download() -> None:
    config = TrialConfig(**PRESETS["quickstart"])
    assert config.dataset.kind == "synthetic"
    assert config.weights.classifier == "none"
    assert config.weights.regressor in ("none", "classifier")
    assert config.split.val_per_class > 0
