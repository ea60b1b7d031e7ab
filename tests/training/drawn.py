"""Batches, networks and boxes for tests of a single step."""

from __future__ import annotations

import torch
from torch import Tensor

from lchp.training.confidence import FoldJudges
from lchp.training.config import TrialConfig
from lchp.training.initialization import drawn_classifier

CLASSES = 4
COLOURS = ((230, 30, 30), (30, 60, 230), (30, 200, 60), (230, 210, 30))


def config_of(**changes: object) -> TrialConfig:
    """A small configuration of one stage's step: views of 32 px out of 36, small networks, no weights."""
    values = {
        "delta": 0.7,
        "tau": 0.335,
        "backbone": "small_cnn",
        "classifier": "small_cnn",
        "weights": {"classifier": "none", "regressor": "none"},
        "view": {"resize": 36, "crop": 32},
        "initialization": {"attention_maps": 4, "bap_scale": 10.0},
    }
    return TrialConfig(**{**values, **changes})  # type: ignore[arg-type]


def batch(seed: int, count: int = 8, size: int = 36) -> tuple[Tensor, Tensor, Tensor]:
    """Noise with one rectangle each, whose colour is the class: uint8 (count, 3, size, size), labels and places."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(60, 180, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    corners = torch.randint(2, size // 2, (count, 2), generator=generator)
    for image, label, (x, y) in zip(images, labels.tolist(), corners.tolist(), strict=True):
        image[:, y : y + size // 3, x : x + size // 3] = torch.tensor(COLOURS[label], dtype=torch.uint8)[:, None, None]
    return images, labels, torch.arange(count)


def views(seed: int, count: int = 8, size: int = 32) -> Tensor:
    """Normalised views (count, 3, size, size)."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def fold_judges_of(config: TrialConfig, device: str = "cpu") -> FoldJudges | None:
    """Random classifiers that differ, and the folds of twelve training images; None of another confidence."""
    if not config.confidence.out_of_fold:
        return None
    folds = config.confidence.folds
    seeds = (config.model_copy(update={"seed": seed}) for seed in range(folds))
    classifiers = [drawn_classifier(seeded, CLASSES).requires_grad_(False).eval().to(device) for seeded in seeds]
    return FoldJudges(classifiers, (torch.arange(12) * 5 % folds).to(device), 0.7)
