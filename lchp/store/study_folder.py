"""The folder of a study, and the store beside it: the only place that names their files.

Who reads or writes one asks for its path; what it holds is the business of its one writer: the ledger, the search,
the report.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lchp.store.folder import PICTURE

LEDGER, WRITTEN = "trials.json", "written.yaml"
SEARCH_KEY = "search_key"
"""The field of a search's configuration that no other search has, whatever its folder and its owner."""
REPETITION = ".reproduce-"
"""How the name of a folder begins, beside those of studies, in which a trial is trained again, a scratch folder."""
_PLACE = re.compile(r"[a-z_]+/\w[\w.-]*")
_TABLE = ("csv", "md", "tex")
REPORTS = ("html", "md", "tex", "pdf")
"""What a report may be written as."""


def store_of(output: Path) -> Path:
    """The store of trained stages in the folder that holds one folder per study."""
    return output / ".store"


def is_place(text: Any) -> bool:
    """Whether that is a place in a store, ``<kind>/<key>``: it leads to nothing beside it."""
    return isinstance(text, str) and _PLACE.fullmatch(text) is not None


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study, ``<DIR>/<study>``."""

    path: Path

    @property
    def lock(self) -> Path:
        """Held by the process that works in the folder."""
        return self.path / ".lock"

    @property
    def configuration(self) -> Path:
        """What the study is: its configuration and the digests of its data."""
        return self.path / "study.json"

    @property
    def written(self) -> Path:
        """The study as a person wrote it, with the options of its last run, or as an archive has brought it."""
        return self.path / WRITTEN

    @property
    def ledger(self) -> Path:
        """The trials, and how far each is."""
        return self.path / LEDGER

    @property
    def runs(self) -> Path:
        """What the runs in a tracking store are to say, a file each."""
        return self.path / "runs"

    @property
    def log(self) -> Path:
        """What the study said, with tracebacks."""
        return self.path / "log.txt"

    @property
    def journal(self) -> Path:
        """Optuna's record of a search."""
        return self.path / "optuna.journal"

    def journal_locks(self) -> list[Path]:
        """What Optuna holds while it writes :attr:`journal`, and what a kill leaves of that."""
        return list(self.path.glob(f"{self.journal.name}.lock*"))

    @property
    def best(self) -> Path:
        """The best trial of a search."""
        return self.path / "best.json"

    @property
    def stopped(self) -> Path:
        """Why a search made fewer suggestions than it may; it is there while that is so."""
        return self.path / "stopped.txt"

    @property
    def results(self) -> Path:
        """Every number, one row each."""
        return self.path / "results.csv"

    @property
    def differences(self) -> Path:
        """What the differences in the tables are worth, a line each."""
        return self.path / "differences.csv"

    @property
    def differences_text(self) -> Path:
        """The same for people."""
        return self.path / "differences.md"

    @property
    def claims(self) -> Path:
        """What the results say of the study's claims, a line each; there where it states some."""
        return self.path / "claims.csv"

    @property
    def claims_text(self) -> Path:
        """The same for people."""
        return self.path / "claims.md"

    @property
    def contents(self) -> Path:
        """What the report is made of besides the records of trials."""
        return self.path / "report.json"

    @property
    def records(self) -> Path:
        """The records of trials in one archive, where they are kept with the tables."""
        return self.path / "records.zip"

    @property
    def training(self) -> Path:
        """The picture of how training went."""
        return self.path / "training.png"

    @property
    def ious(self) -> Path:
        """The picture of the boxes' IoU with the true ones."""
        return self.path / "ious.png"

    @property
    def confidence(self) -> Path:
        """The picture of what the confidence selects."""
        return self.path / "confidence.png"

    @property
    def search(self) -> Path:
        """The picture of what a search tried."""
        return self.path / "search.png"

    @property
    def importance(self) -> Path:
        """The picture of what mattered in a search."""
        return self.path / "importance.png"

    @property
    def predictions(self) -> Path:
        """The picture of the first trial's boxes."""
        return self.path / PICTURE

    @property
    def report(self) -> Path:
        """Tables and pictures in one file."""
        return self.path / "report.html"

    def report_as(self, form: str) -> Path:
        """The report as one of REPORTS."""
        return self.report.with_suffix(f".{form}")

    def table(self, name: str) -> tuple[Path, Path, Path]:
        """A table as CSV, Markdown and LaTeX."""
        csv, markdown, latex = (self.path / f"{name}.{ending}" for ending in _TABLE)
        return csv, markdown, latex

    def tracked(self, tables: Iterable[str]) -> list[Path]:
        """What the study's run in a tracking store keeps: results, tables of these names and what their
        differences are worth, claims, report, figures.
        """
        names = list(tables)
        of_tables = [file for name in names for file in self.table(name)[:2]]
        drawn = [*map(self.curve, names), self.ious, self.confidence, self.training, self.search, self.importance]
        drawn.append(self.predictions)
        there = [file for file in (self.claims, self.claims_text, *drawn) if file.exists()]
        return [self.results, *of_tables, self.differences, self.differences_text, *there, self.contents, self.report]

    def curve(self, name: str) -> Path:
        """The picture of a table over a number."""
        return self.path / f"{name}.png"


def study_places(word: str | Path, output: Path) -> tuple[Path, Path]:
    """Where the study that a person names may lie: the word is its folder, or its name in ``output``."""
    return Path(word).absolute(), output.absolute() / word


def study_named(word: str | Path, output: Path) -> Path | None:
    """The folder of the study that a person names: a folder of another kind that is called so, of pictures for
    instance, is passed over. None where neither place holds the trials or the report of a study.
    """
    for folder in study_places(word, output):
        files = StudyFolder(folder)
        if files.ledger.is_file() or files.contents.is_file():
            return folder
    return None
