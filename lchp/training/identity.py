"""What identifies a stage's result: the part of the configuration that determines it, and digests of what it reads."""

from __future__ import annotations

from typing import Any

from lchp.training.config import TrialConfig

RESULT_VERSION = 1
"""Raised with every change of this package that changes the results of an unchanged configuration."""

REFINEMENT_ONLY = ("tau", "augmentation", "refinement")
"""Keys of TrialConfig that the initialization does not read."""


def trial_key(config: TrialConfig) -> dict[str, Any]:
    """The whole configuration as plain values, with the paths of data and weights as people wrote them."""
    return {"result_version": RESULT_VERSION, **config.model_dump(mode="json")}


def initialization_key(config: TrialConfig) -> dict[str, Any]:
    """The part of :func:`trial_key` that determines the initialization: trials that share it share the stage."""
    return {name: value for name, value in trial_key(config).items() if name not in REFINEMENT_ONLY}


def with_digests(key: dict[str, Any], digests: dict[str, str | None]) -> dict[str, Any]:
    """The key with paths replaced by what lies there: ``digests`` names data, boxes and weight files."""
    dataset = {name: value for name, value in key["dataset"].items() if name != "path"}
    weights = {role: "file" if isinstance(source, dict) else source for role, source in key["weights"].items()}
    return {**key, "dataset": dataset, "weights": weights, "digests": digests}
