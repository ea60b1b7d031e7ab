"""Where a configuration says that something lies on this machine.

What lies there identifies a result, by its digest; the path does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from lchp.training.config import TrialConfig

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class PathField:
    """A field that says where something lies on this machine."""

    option: str
    """The option that gives it, for messages."""
    required: bool = False
    """Whether every configuration that has the field must give it."""
    folder: bool = False
    """Whether a folder may lie there."""


DATA_PATH = "dataset.path"

PATHS: dict[str, PathField] = {
    DATA_PATH: PathField("--data PATH", required=True, folder=True),
    **{
        key: PathField(f"--set {key}=PATH")
        for key in (
            "weights.classifier.file",
            "weights.regressor.file",
            "pseudo_boxes.weights.file",
            "pseudo_boxes.file",
        )
    },
}
"""Every field of TrialConfig that is a path, by its dotted key. What lies there identifies a result, by its digest; the
path does not: it is made absolute when a study is read, asked for before a start, left out of what is compared, and may
be another when a run is repeated.
"""


def paths_of(config: TrialConfig) -> dict[str, Path | None]:
    """The path at every key of :data:`PATHS` that this configuration has, None where it is not given."""
    found = {}
    for key in PATHS:
        *parents, last = key.split(".")
        holder: Any = config
        for parent in parents:
            holder = getattr(holder, parent) if isinstance(holder, BaseModel) else None
        # The drawn dataset has no path, and of weights one word may be said.
        if isinstance(holder, BaseModel) and last in type(holder).model_fields:
            found[key] = getattr(holder, last)
    return found


def with_paths(config: TrialConfig, paths: Mapping[str, Path]) -> TrialConfig:
    """The configuration with other paths, at keys that :func:`paths_of` gives."""
    for key, path in paths.items():
        config = _with_value(config, key.split("."), path)
    return config


def _with_value(model: Model, keys: Sequence[str], value: Any) -> Model:
    first, *rest = keys
    return model.model_copy(update={first: _with_value(getattr(model, first), rest, value) if rest else value})


def without_paths(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of a configuration without those at :data:`PATHS`."""
    form = deepcopy(dict(plain))
    for key in PATHS:
        *parents, last = key.split(".")
        mapping_at(form, parents).pop(last, None)
    return form


def mapping_at(plain: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The mapping below ``keys``; an empty one where there is none."""
    for key in keys:
        inner = plain.get(key)
        plain = inner if isinstance(inner, dict) else {}
    return plain
