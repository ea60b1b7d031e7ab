"""The paper's recipe for each dataset (4.3), and the quickstart's."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "cub": {
        "dataset": {"kind": "cub"},
        "delta": 0.7,
        "split": {"val_per_class": 0},
        "initialization": {"epochs": 40},
        "refinement": {"epochs": 40},
    },
    "tiny-imagenet": {
        "dataset": {"kind": "tiny-imagenet"},
        "delta": 0.8,
        "split": {"val_per_class": 0},
        "initialization": {"epochs": 40},
        "refinement": {"epochs": 40},
    },
    "imagenet": {
        "dataset": {"kind": "imagenet"},
        "delta": 0.7,
        "split": {"val_per_class": 0},
        "initialization": {"epochs": 10},
        "refinement": {"epochs": 5, "rate": 2e-4},
    },
    "quickstart": {
        "dataset": {"kind": "synthetic"},
        "delta": 0.35,
        "backbone": "small_cnn",
        "classifier": "small_cnn",
        "weights": {"classifier": "none", "regressor": "classifier"},
        "view": {"resize": 72, "crop": 64, "evaluation": "centre_crop"},
        "initialization": {
            "epochs": 7,
            "regressor_start": 3,
            "classifier_rate": 0.05,
            "attention_maps": 8,
            "bap_scale": 10.0,
        },
        "refinement": {"epochs": 5},
        "compute": {"channels_last": True},
    },
}
"""Name to the values in which it differs from TrialConfig's defaults, which are the paper's."""
