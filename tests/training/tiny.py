"""A trial that trains in half a second, and what a finished one left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from lchp.training.config import TrialConfig
from lchp.training.material import Material, Runtime
from lchp.training.stages import EpochReport
from lchp.training.trial import run_trial

TINY: dict[str, Any] = {
    "dataset": {"kind": "synthetic", "train_per_class": 6, "test_per_class": 2, "size": 40},
    "delta": 0.75,
    "tau": 0.2,
    "backbone": "small_cnn",
    "classifier": "small_cnn",
    "weights": {"classifier": "none", "regressor": "none"},
    "split": {"val_per_class": 1},
    "view": {"resize": 36, "crop": 32},
    "initialization": {
        "epochs": 3,
        "batch_size": 8,
        "classifier_rate": 0.02,
        "regressor_start": 1,
        "attention_maps": 2,
        "bap_scale": 10.0,
    },
    "refinement": {"epochs": 2, "batch_size": 8},
    "evaluation": {"batch_size": 16},
}


def values(**changes: Any) -> dict[str, Any]:
    """The values of the tiny trial, with ``changes`` laid over, one level deep; another dataset replaces this one."""
    merged = dict(TINY)
    for name, change in changes.items():
        deep = isinstance(change, dict) and name != "dataset"
        merged[name] = {**TINY.get(name, {}), **change} if deep else change
    return merged


def tiny(**changes: Any) -> TrialConfig:
    """The configuration of :func:`values`."""
    return TrialConfig(**values(**changes))


def train(config: TrialConfig, runtime: Runtime) -> list[EpochReport]:
    """Runs a trial to its end; gives the reports of its epochs."""
    reports: list[EpochReport] = []
    run_trial(config, runtime, reports.append)
    return reports


def folders(config: TrialConfig, runtime: Runtime) -> tuple[Path, Path]:
    """Where the initialization and the trial of a configuration lie."""
    material = Material.prepare(config, runtime)
    return material.initialization_folder(config), material.trial_folder(config)


def same_tensors(first: Any, second: Any) -> bool:
    """Whether two nests of dictionaries hold the same bits under the same names."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same_tensors(first[key], second[key]) for key in first)
    return torch.equal(first, second)


def same_weights(first: Path, second: Path) -> bool:
    """Whether the networks of two finished stages have the same bits."""
    one, two = (torch.load(folder / "networks.pt", weights_only=True) for folder in (first, second))
    return same_tensors(one, two)


def history(folder: Path) -> list[dict[str, Any]]:
    """The epochs that a finished stage wrote, without the time they took and waited."""
    epochs = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    return [
        {name: value for name, value in epoch.items() if name not in ("seconds", "waiting_share")} for epoch in epochs
    ]


def assert_same_results(first: Path, second: Path) -> None:
    """Both folders hold the same weights, scores, predictions, selection and history, bit for bit."""
    assert same_weights(first, second)
    for name in ("scores.json", "per_image.csv", "selection.csv"):
        if name == "selection.csv" and not (first / name).exists():
            assert not (second / name).exists(), "an initialization selects nothing"
            continue
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert history(first) == history(second)
