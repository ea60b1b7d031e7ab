"""What a report is made of, besides the records of its trials: report.json in a study's folder.

With it and those records a report is made again without the study's file, its data, Ray or torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lchp.data.files import as_json, read_json
from lchp.reporting.claims import Claim, Space
from lchp.reporting.frame import TrialRow, Unfinished
from lchp.reporting.grammar import parse
from lchp.reporting.table import TableSpec

_REMEDY = "`lchp study table` writes it again"


@dataclass(frozen=True)
class Listed:
    """A finished trial: as :class:`TrialRow`, but that folders are places below the store."""

    run_id: str
    seed: int
    varied: dict[str, Any]
    folder: str
    references: tuple[str, ...] = ()
    objective: float | None = None
    cost: float | None = None
    on_front: bool = False

    def row(self, store: Path) -> TrialRow:
        """The trial, as the reports read it."""
        folders = tuple(store / place for place in self.references)
        return TrialRow(
            self.run_id, self.seed, self.varied, store / self.folder, folders, self.objective, self.cost, self.on_front
        )


@dataclass(frozen=True)
class Contents:
    """All of it.

    Attributes:
        trials: the finished ones, in the order of the study.
        unfinished: the study's other trials; None where they are not known.
        remarks: sentences of the study that stand under every table.
        claims: what the study states, in its words, of ``space``; judged on the test split.
        runs_at: the address of the runs table in the tracking store's UI, below which the runs lie; None where no such
            address is known.
    """

    study: str
    question: str | None
    specs: tuple[TableSpec, ...]
    trials: tuple[Listed, ...] = ()
    unfinished: tuple[Unfinished, ...] | None = None
    remarks: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    space: Space = field(default_factory=lambda: Space({}, ({},)))
    runs_at: str | None = None

    def stated(self) -> list[Claim]:
        """The claims as they are judged."""
        return [parse(text, self.space) for text in self.claims]

    def places(self) -> list[str]:
        """Where below the store the records lie, each place once."""
        return list(dict.fromkeys(place for one in self.trials for place in (one.folder, *one.references)))

    def renamed(self, runs: Mapping[str, str]) -> Contents:
        """The same, with other names of runs in place of those that stand there."""
        trials = tuple(replace(one, run_id=runs.get(one.run_id, one.run_id)) for one in self.trials)
        return replace(self, trials=trials)

    def text(self) -> str:
        """The text of report.json."""
        return as_json({key: value for key, value in asdict(self).items() if key != "runs_at" or value is not None})


def read_contents(file: Path) -> Contents:
    """What report.json says.

    Raises:
        ValueError: it is missing, damaged, or says something else; names it and the remedy. A trial's place or a
            table's name that leads out of its folder is refused: others may write to the tracking store it is from.
    """
    plain = read_json(file, _REMEDY)
    try:
        unfinished = plain.pop("unfinished")
        space = plain.pop("space")
        contents = Contents(
            specs=tuple(_spec(one) for one in plain.pop("specs")),
            trials=tuple(Listed(**{**one, "references": tuple(one["references"])}) for one in plain.pop("trials")),
            unfinished=None if unfinished is None else tuple(Unfinished(**one) for one in unfinished),
            remarks=tuple(plain.pop("remarks")),
            claims=tuple(plain.pop("claims")),
            space=Space(space["own"], tuple(space["settings"]), tuple(space["references"])),
            **plain,
        )
        out = [place for place in (*contents.places(), *(spec.name for spec in contents.specs)) if _leads_out(place)]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} does not say what a report is made of ({error}): {_REMEDY}") from error
    if out:
        raise ValueError(f"{file}: {out[0]!r} leads out of the folder below which it is to lie: {_REMEDY}")
    return contents


def _leads_out(place: str) -> bool:
    return Path(place).is_absolute() or ".." in Path(place).parts


def _spec(plain: Mapping[str, Any]) -> TableSpec:
    return TableSpec(**{**plain, "by": tuple(plain["by"]), "metrics": tuple(plain["metrics"])})
