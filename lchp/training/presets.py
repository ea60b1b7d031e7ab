"""The paper's recipe for each dataset (4.3), the quickstart's, and one for some hundred pictures of one's own.

``small`` is what ``studies/birds-sources.yaml`` chose on val, of 20 classes of birds with 22 training images each.
"""

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
    "small": {
        "dataset": {"kind": "table"},
        "delta": 0.5,
        "augmentation": "scale+translation",
        "backbone": "mobilenet_v2",
        "classifier": "mobilenet_v2",
        "view": {"resize": 224, "crop": 224},
        "regressor": {"head": "profiles", "maps": "fine", "omit": 1, "frozen": True},
        "pseudo_boxes": {
            "source": "ddt",
            "size": 320,
            "further_sizes": [448],
            "network": "mobilenet_v2",
            "omit": 1,
            "descriptors": "unit",
            "axis": "all",
            "axes": 3,
            "threshold": 0.4,
            "enlargement": "centred",
            "mirror": True,
        },
        "initialization": {
            "epochs": 12,
            "classifier_epochs": 3,
            "batch_size": 8,
            "bap_scale": 60.0,
            "augmentation": "scale+translation",
            "regressor_rate": 0.004,
            "schedule": "cosine",
            "warmup": 55,
            "report": "average",
            "average_momentum": 0.98,
        },
        "refinement": {
            "epochs": 3,
            "batch_size": 8,
            "rate": 0.001,
            "alpha": 20.0,
            "teacher": "ema",
            "teacher_momentum": 0.99,
            "weak_statistics": "running",
            "schedule": "cosine",
            "report": "average",
            "average_momentum": 0.98,
        },
        "evaluation": {"every": 3},
        "compute": {"channels_last": True},
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
