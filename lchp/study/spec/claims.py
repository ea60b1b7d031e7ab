"""The claims that a study states, as a person writes them, checked against what it trains."""

from __future__ import annotations

from collections.abc import Sequence

from lchp.data.fingerprint import distinct
from lchp.reporting.claims import Claim, Space
from lchp.reporting.grammar import parse
from lchp.study.spec.parse import shortened
from lchp.study.spec.schema import StudyKeys
from lchp.study.spec.source import Source
from lchp.study.spec.values import varied_values
from lchp.training.config import TrialConfig


def space_of(
    base: TrialConfig, varied: tuple[str, ...], grid: Sequence[TrialConfig], references: tuple[str, ...]
) -> Space:
    """What claims may speak of."""
    settings = distinct([varied_values(config, varied) for config in grid])
    return Space(varied_values(base, varied), tuple(settings), references)


def read_claims(
    keys: StudyKeys,
    base: TrialConfig,
    varied: tuple[str, ...],
    grid: Sequence[TrialConfig],
    references: tuple[str, ...],
    source: Source,
) -> tuple[tuple[Claim, ...], list[str]]:
    """The claims, and what is wrong with them, one line each; ``references`` are the methods measured beside ours."""
    if keys.claims and keys.search:
        place = source.place(("claims",))
        return (), [f"{place}: claims: cannot stand beside `search`, which chooses by val: state them of what it chose"]
    space = space_of(base, varied, grid, references)
    claims, mistakes = [], []
    narrowed = source.place(("vary",)).startswith("--set")
    for index, text in enumerate(keys.claims):
        place = f"{source.place(('claims', index))}: claims.{index} = {shortened(text)}"
        if text in keys.claims[:index]:
            mistakes.append(f"{place}: is there twice: state it once")
            continue
        try:
            claims.append(parse(text, space))
        except ValueError as error:
            mistakes.append(f"{place}: {error}" + ("; or state other claims: --set 'claims=[...]'" if narrowed else ""))
    return tuple(claims), mistakes
