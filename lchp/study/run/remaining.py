"""How long what is left takes, by what was trained so far: for people who wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from lchp.at_work import shown_time
from lchp.study.run.ledger import ENDED, Entry

_NAMED = 3
"""Trials that are named to people who wait; the others are counted."""


def epochs_left(entries: Iterable[Entry], count: int) -> int:
    """The epochs that a study of so many trials has not finished: trials of which nothing is known yet are as long as
    the longest.
    """
    known = list(entries)
    longest = max((entry.of for entry in known), default=0)
    left = sum(entry.of - entry.epochs for entry in known if entry.state not in ENDED)
    return left + longest * max(0, count - len(known))


def in_training(entries: Iterable[Entry]) -> str:
    """The trials that train now, each with its epoch, in a few words; empty where none does."""
    running = [entry for entry in entries if entry.state == "running"]
    parts = [f"{entry.name}: epoch {min(entry.epochs + 1, entry.of)} of {entry.of}" for entry in running[:_NAMED]]
    parts += [f"{len(running) - _NAMED} more"] if len(running) > _NAMED else []
    return f"training {', '.join(parts)}" if parts else ""


class Pace:
    """How fast a study trains in this process, all its workers together."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._trained = 0

    def trained(self, seconds: float) -> None:
        """One more epoch was trained, in so many seconds; what lies before the first, Ray's start, does not count."""
        if not self._trained:
            self._begun = self._clock() - seconds
        self._trained += 1

    def left(self, epochs: int, of_trial: int, seconds: float) -> str:
        """What is left of a trial, of which ``of_trial`` epochs are left and whose last took ``seconds``, and of a
        study with ``epochs`` left, as the end of a line; nothing where nothing is.
        """
        parts = [f"trial {shown_time(of_trial * seconds)}"] if of_trial else []
        if epochs and self._trained:
            parts.append(f"study {shown_time(epochs * (self._clock() - self._begun) / self._trained)}")
        return f"  left: {', '.join(parts)}" if parts else ""
