"""What is compared: a method in a setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Side:
    """One of two results that are compared: a method in a setting, the values of all that varies."""

    setting: Mapping[str, Any]
    method: str
