"""What every run of a study in the tracking store is to say: one file a run, ``<study>/runs/<key>.json``.

A card holds what no other file of the study says. It is written before anything is written to the tracking store, so
that a run can be made, completed or mended at any time from files alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lchp.data.files import as_json, read_json, read_or_set_aside, write_text
from lchp.store.study_folder import StudyFolder
from lchp.tracking.shown import HEADLINE

State = Literal["running", "finished", "failed", "stopped"]

_GAP = 1000
"""Milliseconds between two steps of a worker that are one period."""
OWN = "study-"
"""How the key of a study's own run begins."""


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


@dataclass(frozen=True)
class Card:
    """What one run is to say: of a trial, of a reference beside trials or, where ``folder`` is None, of the study."""

    key: str
    """What identifies the run: the tag ``lchp.key``."""
    name: str
    params: Mapping[str, Any]
    """All of a configuration."""
    tags: Mapping[str, str | None]
    """None takes one away. Those that a finished trial's files give are not here."""
    folder: str | None = None
    """The trial's place in the store."""
    state: State = "running"
    error: str | None = None
    """Why it is ``failed`` or ``stopped``, in full."""
    epochs: Sequence[Mapping[str, Any]] = ()
    """The reports of a trial's epochs, each with its ``time``, as they came; the trial's files do not tell which were
    reused.
    """
    spent: Sequence[Sequence[int]] = ()
    """When workers were at a trial: begin and end of each period, in milliseconds since 1970."""
    files: Sequence[str] = ()
    """Names of the study's files that go with its run."""
    lists: Sequence[str] = ()
    """Names of the lists of its images in the store."""
    classifier: str | None = None
    """The place in the store of the classifier that goes with a trial's regressor into its model; None where its run
    keeps no model.
    """
    shown: Mapping[str, Any] | None = None
    """What of ``params`` the run shows as MLflow's parameters, by dotted keys, in the order of its list; None: all."""
    first: Sequence[str] = HEADLINE
    """The keys of the scores that are a trial's headline."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the study's own run."""
    view: Mapping[str, Sequence[str]] | None = None
    """Of the study's own run: the ``parameters`` and ``metrics`` that its trials are read by, the first metric above
    all.
    """
    started: int = field(default_factory=now)
    """Milliseconds since 1970."""
    ended: int | None = None

    def running(self) -> Card:
        """The card of a run that goes on."""
        return replace(self, state="running", error=None, ended=None)

    def finished(self) -> Card:
        """The card of a run that is finished; it keeps when it was, if it was before."""
        return self if self.state == "finished" else replace(self, state="finished", error=None, ended=now())

    def failed(self, error: str) -> Card:
        """The card of a run that ended before its end."""
        return replace(self, state="failed", error=error, ended=now())

    def stopped(self, reason: str) -> Card:
        """The card of a run that was not to go on; it keeps when it ended, if it had ended so."""
        if self.state == "stopped" and self.error == reason:
            return self
        return replace(self, state="stopped", error=reason, ended=now())

    def with_epochs(self, reports: Sequence[Mapping[str, Any]]) -> Card:
        """The card with the epochs that it does not have yet."""
        last = self.epochs[-1]["step"] if self.epochs else 0
        new = [{**report, "time": now()} for report in reports if report["step"] > last]
        return replace(self, epochs=[*self.epochs, *new]) if new else self

    def with_time(self, seconds: float) -> Card:
        """The card of a trial of which a worker has done a step until now, for so long."""
        end, begin = now(), now() - round(1000 * seconds)
        *before, last = self.spent or [()]
        if last and begin <= last[1] + _GAP:
            return replace(self, spent=[*before, [last[0], end]])
        return replace(self, spent=[*self.spent, [begin, end]])


class Cards:
    """The cards in a study's folder. One thread writes them, another may read."""

    def __init__(self, study: Path) -> None:
        self.folder = StudyFolder(study).runs

    def write(self, card: Card) -> None:
        """Write a card over the one that is there, unless it says the same."""
        file, text = self._file(card.key), as_json(asdict(card))
        if not file.exists() or file.read_bytes() != text.encode():
            write_text(file, text)

    def read(self, key: str) -> Card:
        """The card of that key.

        Raises:
            ValueError: it is missing or damaged; names it and the remedy.
        """
        file = self._file(key)
        remedy = "run the study again, which writes it"
        plain = read_json(file, remedy)
        try:
            card = Card(**plain)
        except TypeError as error:
            raise ValueError(f"{file} does not say what a run is ({error}): {remedy}") from error
        return card

    def get(self, key: str, say: Callable[[str], None]) -> Card | None:
        """The card of that key; None where there is none, or a damaged one, which is told of and set aside."""
        return read_or_set_aside(self._file(key), lambda: self.read(key), say)

    def own(self) -> Card | None:
        """The card of the study's own run; None where it was never written."""
        key = self.own_key()
        return self.read(key) if key else None

    def own_key(self) -> str | None:
        """The key of the study's own run; None where its card was never written."""
        files = self.folder.glob(f"{OWN}*.json")
        newest = max(files, key=lambda file: file.stat().st_mtime, default=None)
        return newest.stem if newest else None

    def all(self, holding: bytes = b"") -> Iterator[Card]:
        """All cards that can be read and in whose text these bytes are."""
        for file in sorted(self.folder.glob("*.json")):
            with suppress(ValueError):  # one that is damaged is told of where it is needed
                if holding in file.read_bytes():
                    yield self.read(file.stem)

    def running(self) -> list[Card]:
        """Those that say that their run goes on, but that of the study's own run."""
        return [card for card in self.all(b'"running"') if card.state == "running" and card.folder is not None]

    def has(self, key: str) -> bool:
        """Whether there is a card of that key."""
        return self._file(key).is_file()

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.json"
