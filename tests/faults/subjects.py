"""The studies that faults befall: each trains in seconds, over two initializations and two seeds."""

from __future__ import annotations

from dataclasses import dataclass

import tests.study.small as small

_TINY = small.TINY.replace("question: does a study of four trials train?\n", "")
GRID = (
    _TINY
    + "vary:\n- {delta: [0.4, 0.5], tau: 0.5}\n- {delta: 0.4, tau: 0.0}\nseeds: [0, 1]\nreferences: [supervised]\n"
    + "failures: {silent: 1}\n"
)
SEARCH = (
    _TINY
    + """
failures: {silent: 1}
resources: {concurrent: 1}
search:
  trials: 5
  seed: 5
  pruner: {kind: asha, grace: 2, reduction: 2}
  space:
    delta: {low: 0.3, high: 0.6}
    tau: {low: 0.0, high: 0.9}
"""
)
GROWN = _TINY + "vary: {delta: [0.4, 0.5], tau: 0.5}\nseeds: [0, 1]\nreferences: [supervised]\n"


@dataclass(frozen=True)
class Subject:
    """A study as YAML; ``before`` is another that is finished in its folder when it starts."""

    text: str
    before: str | None = None
    has_store: bool = True
    """Whether MLflow's tables are made already, which takes it seconds."""


SUBJECTS = {
    "grid": Subject(GRID),
    "search": Subject(SEARCH),
    "seed": Subject(GRID.replace("seeds: [0, 1]", "seeds: [0]")),
    "grown": Subject(GROWN, before="seed"),
    "fresh": Subject(_TINY, has_store=False),
}
