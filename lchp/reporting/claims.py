"""What a study claims, resolved against what it trains: the values that :mod:`lchp.reporting.grammar` reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lchp.reporting.sides import Side
from lchp.vocabulary import GT_KNOWN, SELECTED

RELATIONS = (">", ">=", "<", "<=")

SELECTED_GT_KNOWN = f"{SELECTED}_{GT_KNOWN}"
SELECTIONS = (SELECTED, SELECTED_GT_KNOWN)
"""What a confidence selects of the training images: how many boxes, and the GT-Known of those."""


@dataclass(frozen=True)
class Space:
    """What a study trains: its own values of what varies, and every setting, in the order of its trials."""

    own: Mapping[str, Any]
    settings: tuple[Mapping[str, Any], ...]
    references: tuple[str, ...] = ()
    """The methods that it measures beside the others."""

    def row(self, key: str) -> list[Mapping[str, Any]]:
        """The settings that have the study's own values of all but ``key``."""
        return [one for one in self.settings if all(one[other] == self.own[other] for other in one if other != key)]


@dataclass(frozen=True)
class Part:
    """One of the comparisons that a claim is made of; ``at`` says where, for people."""

    at: str
    left: Side
    right: Side


@dataclass(frozen=True)
class Compares:
    """Every part's left side stands in this relation to its right one."""

    relation: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Moves:
    """A series, of a method or one of SELECTIONS, rises or falls over settings, in the order of their values."""

    series: str
    key: str
    rises: bool
    settings: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Best:
    """Where a method is best: its best setting is the named one, or inside, or in a relation to another method's.

    Attributes:
        settings: in the order of their values where those are numbers.
        relation: to ``other``; None where ``value`` is named, or, with neither, inside is meant.
    """

    key: str
    method: str
    settings: tuple[Mapping[str, Any], ...]
    relation: str | None = None
    other: str | None = None
    value: Any = None
    inside: bool = False


@dataclass(frozen=True)
class Claim:
    """What a study states: the words, what they mean, and by which metric it is judged."""

    text: str
    rule: Compares | Moves | Best
    metric: str = GT_KNOWN
