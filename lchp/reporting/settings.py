"""The settings of trials, by which those of two studies are told to be the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lchp.data.fingerprint import canonical
from lchp.reporting.frame import TrialRow
from lchp.store.folder import StageFolder


def varied_keys(trials: Iterable[TrialRow]) -> list[str]:
    """The keys that the studies of some trials vary, sorted."""
    return sorted({key for trial in trials for key in trial.varied})


def setting_of(trial: TrialRow, keys: Sequence[str]) -> str:
    """The values that a trial has of some keys, for people: of those that its study does not vary by its
    configuration, `null` of one that is not there.
    """
    missing = [key for key in keys if key not in trial.varied]
    values = trial.varied | (_configured(trial, missing) if missing else {})
    return ", ".join(f"{key} = {in_words(values[key])}" for key in keys)


def in_words(value: Any) -> str:
    """A plain value, for people."""
    return value if isinstance(value, str) else canonical(value)


def _configured(trial: TrialRow, keys: Sequence[str]) -> dict[str, Any]:
    config, found = StageFolder(trial.folder).config(), dict[str, Any]()
    for key in keys:
        value: Any = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        found[key] = value
    return found
