"""What studies occupy on disk."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lchp.errors import Refusal
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
        of_store = f"{shown_size(self.trained)} in {self.stages} stages of the store{shared}"
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
        lines = [f"{one.name:<{width}}  {one.finished} of {one.trials} trials finished  {one}" for one in self.studies]
        rest = f"the store: {shown_size(self.store)}, {shown_size(self.milestones)} of it milestones"
        return "\n".join([*lines, *self.damaged, f"{rest}; `lchp study gc --dry-run` tells what nobody needs"])


def space_of(output: Path) -> Space:
    """What the studies in ``output`` occupy."""
    store, places, damaged = store_of(output), dict[Path, frozenset[str]](), list[str]()
    for study in studies_in(output):
        try:
            places[study] = places_of(study)
        except Refusal as error:
            damaged.append(str(error))
    having = Counter(place for several in places.values() for place in several)
    sizes = {place: bytes_of(store / place) for place in having}
    found = []
    for study, several in places.items():
        entries = read(study)
        there = [place for place in several if sizes[place]]
        found.append(
            Occupied(
                study.name, len(entries), sum(entry.state == "finished" for entry in entries), bytes_of(study),
                len(there), sum(sizes[place] for place in there),
                sum(sizes[place] for place in there if having[place] > 1),
            )
        )  # fmt: skip
    return Space(tuple(found), bytes_of(store / "milestones"), bytes_of(store), tuple(damaged))


def occupied_by(study: Path) -> Occupied | None:
    """What the study in a folder occupies; None where its trials cannot be told."""
    return next((one for one in space_of(study.parent).studies if one.name == study.name), None)
