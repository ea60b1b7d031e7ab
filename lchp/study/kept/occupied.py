"""What studies occupy on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lchp.errors import Refusal, counted
from lchp.store.study_folder import store_of
from lchp.study.kept.needs import places_of, studies_in
from lchp.study.kept.sizes import bytes_of, shown_size
from lchp.study.run.ledger import read


@dataclass(frozen=True)
class Occupied:
    """What one study occupies, in bytes."""

    name: str
    trials: int
    finished: int
    own: int
    """Its own folder: tables, figures, report, records of its runs."""
    stages: int
    """How many stages of the store its trials have."""
    trained: int
    """Those stages."""
    shared: int
    """What of that other studies have, too."""

    def __str__(self) -> str:
        shared = f", {shown_size(self.shared)} of it shared with other studies" if self.shared else ""
        of_store = f"{shown_size(self.trained)} in {counted(self.stages, 'stage')} of the store{shared}"
        return f"occupies {shown_size(self.own)} in its folder and {of_store}"


@dataclass(frozen=True)
class Space:
    """What all studies of a folder occupy, in bytes."""

    studies: tuple[Occupied, ...]
    milestones: int
    """What longer trainings can go on from."""
    store: int
    """The whole store, milestones included."""
    damaged: tuple[str, ...]
    """Why a study could not be looked into, one line each."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "studies": {one.name: asdict(one) for one in self.studies}}

    def text(self) -> str:
        """For people."""
        width = max((len(one.name) for one in self.studies), default=0)
        lines = [
            f"{one.name:<{width}}  {one.finished} of {counted(one.trials, 'trial')} finished  {one}"
            for one in self.studies
        ]
        rest = f"the store: {shown_size(self.store)}, {shown_size(self.milestones)} of it milestones"
        return "\n".join([*lines, *self.damaged, f"{rest}; `lchp study gc --dry-run` tells what nobody needs"])


def space_of(output: Path) -> Space:
    """What the studies in ``output`` occupy."""
    store, damaged = store_of(output), list[str]()
    places = _places(output, damaged)
    having = _having(places)
    sizes = {place: bytes_of(store / place) for place in having}
    found = tuple(_occupied(study, places[study], having, sizes) for study in places)
    return Space(found, bytes_of(store / "milestones"), bytes_of(store), tuple(damaged))


def occupied_by(study: Path) -> Occupied | None:
    """What the study in a folder occupies, by its own stages, and by the lists of trials of the others alone; None
    where its trials cannot be told.
    """
    places = _places(study.parent, [])
    if study not in places:
        return None
    sizes = {place: bytes_of(store_of(study.parent) / place) for place in places[study]}
    return _occupied(study, places[study], _having(places), sizes)


def _places(output: Path, damaged: list[str]) -> dict[Path, frozenset[str]]:
    """Where in the store the stages of each study lie; what is wrong with one goes to ``damaged``."""
    places = dict[Path, frozenset[str]]()
    for study in studies_in(output):
        try:
            places[study] = places_of(study)
        except Refusal as error:
            damaged.append(str(error))
    return places


def _having(places: Mapping[Path, frozenset[str]]) -> Counter[str]:
    """How many studies have each place."""
    return Counter(place for several in places.values() for place in several)


def _occupied(study: Path, own: frozenset[str], having: Counter[str], sizes: Mapping[str, int]) -> Occupied:
    """What a study with these places occupies, of which ``sizes`` has the bytes."""
    entries, there = read(study), [place for place in own if sizes[place]]
    return Occupied(
        study.name, len(entries), sum(entry.state == "finished" for entry in entries), bytes_of(study),
        len(there), sum(sizes[place] for place in there),
        sum(sizes[place] for place in there if having[place] > 1),
    )  # fmt: skip
