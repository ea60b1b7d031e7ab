"""Values of a trial's configuration by dotted keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lchp.errors import Refusal
from lchp.study.spec.complaints import check
from lchp.study.spec.source import Source
from lchp.training.config import TrialConfig


def config_value(config: TrialConfig, key: str) -> Any:
    """The plain value at a dotted key, None where the key does not exist in this configuration.

    A dataset as a whole is shown by its kind and what of it is not the default of that kind, its path apart.
    """
    if key == "dataset":
        own = config.dataset.model_dump(mode="json", exclude={"kind", "path"}, exclude_defaults=True)
        return " ".join([config.dataset.kind, *(f"{name}={value}" for name, value in own.items())])
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def with_values(config: TrialConfig, values: Mapping[str, Any]) -> TrialConfig:
    """``config`` with other values at some dotted keys.

    Raises:
        Refusal: a key that does not exist or a value out of its range.
    """
    changed = Source(config.model_dump(mode="json"), {}, "the suggested values")
    for key, value in values.items():
        changed = changed.put(tuple(key.split(".")), value, changed.whole)
    built, mistakes = check(TrialConfig, changed)
    if built is None:
        raise Refusal("\n".join(mistakes))
    return built


def varied_values(config: TrialConfig, varied: Sequence[str]) -> dict[str, Any]:
    """The plain values at the dotted keys that vary."""
    return {key: config_value(config, key) for key in varied}
