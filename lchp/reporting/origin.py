"""What the numbers of a table were made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lchp.data.fingerprint import distinct
from lchp.reporting.frame import TrialRow
from lchp.store.folder import StageFolder


@dataclass(frozen=True)
class Made:
    """What the numbers were made with; several values where trials differ."""

    commit: str
    versions: str
    hardware: str

    def line(self) -> str:
        """All of it in one line."""
        return f"commit {self.commit}; {self.versions}; {self.hardware}"


def describe_origin(trials: Sequence[TrialRow]) -> Made:
    """Commit, versions and hardware of the trials, from their environment.json."""
    all_of = [StageFolder(trial.folder).environment() for trial in trials]

    def joined(values: list[Any]) -> str:
        return " and ".join(distinct([str(value) for value in values if value])) or "unknown"

    versions = [
        ", ".join(
            f"{name} {one['versions'][name]}" for name in ("lchp", "torch", "torchvision") if name in one["versions"]
        )
        for one in all_of
    ]
    hardware = [one["cpu"] if one["device"] == "cpu" else one["device"] for one in all_of]
    return Made(joined([one["commit"] for one in all_of]), joined(versions), joined(hardware))
