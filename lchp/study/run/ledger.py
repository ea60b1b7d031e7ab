"""The trials of one study's folder and how far each is: one JSON file, replaced as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lchp.data.files import read_json, write_json
from lchp.errors import Refusal

FILE = "trials.json"

State = Literal["waiting", "running", "finished", "failed", "stopped"]


@dataclass(frozen=True)
class Entry:
    """One trial.

    ``folder`` is its place in the store, which its configuration and data determine; ``run_id`` is MLflow's; ``epochs``
    counts finished epochs over both stages, of ``of``; ``number`` is its place in the plan or in the search.
    """

    name: str
    seed: int
    varied: dict[str, Any]
    folder: str
    of: int
    number: int
    epochs: int = 0
    state: State = "waiting"
    run_id: str | None = None
    message: str | None = None


class Ledger:
    """The entries by folder, written to ``<study>/trials.json`` with every change."""

    def __init__(self, study: Path, entries: Iterable[Entry] = ()) -> None:
        self.folder = study
        self.file = study / FILE
        self.entries: dict[str, Entry] = {entry.folder: entry for entry in entries}

    def put(self, entry: Entry) -> Entry:
        """Add or replace one entry."""
        self.entries[entry.folder] = entry
        self.write()
        return entry

    def change(self, folder: str, **values: Any) -> Entry:
        """Change some values of an entry."""
        return self.put(replace(self.entries[folder], **values))

    def write(self) -> None:
        """Write all entries."""
        write_json(self.file, [asdict(entry) for entry in self.entries.values()])


def read(study: Path) -> list[Entry]:
    """The entries of a study's folder.

    Raises:
        Refusal: the study was never run there, or the file is broken.
    """
    file = study / FILE
    if not file.exists():
        raise Refusal(f"{study}: holds no run of the study: start it with `lchp study run`, or give its --output DIR")
    remedy = "run the study again, which writes it from its finished trials"
    try:
        entries = [Entry(**entry) for entry in read_json(file, remedy)]
    except TypeError as error:
        raise Refusal(f"{file} is no list of trials ({error}): {remedy}") from error
    except ValueError as error:
        raise Refusal(str(error)) from error
    return sorted(entries, key=lambda entry: entry.number)


def as_text(entries: Iterable[Entry]) -> str:
    """One line a trial, and a line that counts them. After a kill, a trial shows as running until the study goes on."""
    entries = list(entries)
    width = max((len(entry.name) for entry in entries), default=0)
    lines = [
        f"{entry.name:<{width}}  {entry.state:<8}  epoch {entry.epochs}/{entry.of}"
        + (f"  {entry.message}" if entry.message else "")
        for entry in entries
    ]
    states = [entry.state for entry in entries]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return "\n".join([*lines, f"{len(entries)} trials: {counts}" if entries else "no trials yet"])
