"""The trials of one study's folder and how far each is: one JSON file, replaced as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from lchp.data.files import as_json, read_json, write_text
from lchp.data.locks import is_held
from lchp.errors import Refusal, counted, refusing
from lchp.store.folder import StageFolder
from lchp.store.study_folder import StudyFolder, is_place, store_of

GONE = "its process is gone: the same command continues it"
"""What is said of a trial, or of its run, that no process is at work on and that was not ended."""

_PREPARED = "is being prepared, and has no trials yet"

State = Literal["waiting", "running", "finished", "pruned", "failed", "stopped"]
ENDED = ("finished", "pruned")
"""The states of trials of which nothing is left to train."""


@dataclass(frozen=True)
class Entry:
    """One trial.

    ``folder`` is its place in the store, which its configuration and data determine; ``run_id`` is MLflow's; ``epochs``
    counts finished epochs over both stages, of ``of``; ``number`` is its place in the plan or that of its suggestion in
    the search.
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
    initialization: str | None = None
    """The place in the store of its initialization; None where its record does not say."""
    references: dict[str, str] = field(default_factory=dict)
    """The places in the store of what the study measures beside it, by method."""


_KINDS: dict[str, Any] = {
    "name": str, "seed": int, "varied": dict, "folder": str, "of": int, "number": int, "epochs": int,
    "run_id": str | None, "message": str | None, "references": dict,
}  # fmt: skip
"""What the fields of an entry are; its state and its places are looked at by themselves."""


class Ledger:
    """The entries by folder, written to ``<study>/trials.json`` with every change."""

    def __init__(self, study: Path, entries: Iterable[Entry] = ()) -> None:
        self.folder = study
        self.file = StudyFolder(study).ledger
        self.entries = {entry.folder: entry for entry in entries}
        self._texts: dict[str, str] = {}
        """Of every entry that was written: 1,000 of them are not made anew for each change of one."""
        self._waits = False

    def put(self, entry: Entry) -> Entry:
        """Add or replace one entry."""
        self.entries[entry.folder] = entry
        self._texts.pop(entry.folder, None)
        self.write()
        return entry

    def change(self, folder: str, **values: Any) -> Entry:
        """Change some values of an entry."""
        return self.put(replace(self.entries[folder], **values))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write once, at the end of the block: what was there stays whole until then, and 1,000 entries are not written
        1,000 times.
        """
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        self.write()

    def write(self) -> None:
        """Write all entries."""
        if self._waits:
            return
        for folder in self.entries.keys() - self._texts.keys():
            self._texts[folder] = as_json([vars(self.entries[folder])])[len("[\n") : -len("\n]\n")]
        texts = ",\n".join(self._texts[folder] for folder in self.entries)
        write_text(self.file, f"[\n{texts}\n]\n" if texts else "[]\n")


def read(study: Path) -> list[Entry]:
    """The entries of a study's folder.

    Raises:
        Refusal: the study was never run there, or is being prepared for its first run, or the file is broken.
    """
    file = StudyFolder(study).ledger
    if not file.exists():
        if is_held(StudyFolder(study).lock):
            raise Refusal(f"{study}: {_PREPARED}: wait for its first epoch")
        raise Refusal(
            f"{study}: holds no run of the study: start it with `lchp study run`, or give its --output DIR; "
            "one that has just begun is there in some seconds"
        )
    with refusing():
        return parsed(file)


def parsed(file: Path) -> list[Entry]:
    """The entries in a file, by number. ValueError names it, what is wrong and the remedy."""
    remedy = "run the study again, which writes it from its finished trials"
    return entries_of(read_json(file, remedy), str(file), remedy)


def entries_of(plain: Any, where: str, remedy: str) -> list[Entry]:
    """The entries that plain values are, by number. ValueError says ``where`` they stand, what is wrong and the remedy;
    a place that leads out of the store is wrong.
    """
    try:
        if not isinstance(plain, list):
            raise TypeError(f"it holds a {type(plain).__name__}")
        entries = [Entry(**entry) for entry in plain]
        for entry in entries:
            wrong = next((name for name, kind in _KINDS.items() if not isinstance(getattr(entry, name), kind)), None)
            if wrong is not None:
                raise TypeError(f"the entry {entry.name!r} has the {wrong} {getattr(entry, wrong)!r}")
            if entry.state not in get_args(State):
                raise TypeError(f"the entry {entry.name!r} has the state {entry.state!r}")
            for place in (entry.folder, entry.initialization, *entry.references.values()):
                if place is not None and not is_place(place):
                    raise TypeError(f"the entry {entry.name!r} has {place!r}, which is no place in the store")
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{where} is no list of trials ({error}): {remedy}") from error
    return sorted(entries, key=lambda entry: entry.number)


def finished(entries: Iterable[Entry], repeats: int) -> list[Entry]:
    """The finished trials, without those of a suggestion of which ``repeats`` others are wanted that are not finished:
    one trial alone says nothing of it.
    """
    entries = [entry for entry in entries if entry.state == "finished"]
    counts = Counter(entry.number for entry in entries)
    return [entry for entry in entries if counts[entry.number] == repeats]


def damaged(entries: Iterable[Entry], store: Path) -> list[str]:
    """The complaint of every finished trial, and of every reference of one, whose files in ``store`` are not whole."""
    finished = (entry for entry in entries if entry.state == "finished")
    places = dict.fromkeys(place for entry in finished for place in (entry.folder, *entry.references.values()))
    return [line for place in places if (line := StageFolder(store / place).complaint) is not None]


def require_whole(entries: Iterable[Entry], store: Path) -> None:
    """See that what tables read of the finished trials is whole.

    Raises:
        Refusal: it is not; one line as of :func:`damaged` for each.
    """
    lines = damaged(entries, store)
    if lines:
        raise Refusal("\n".join(lines))


def told(study: Path, running: bool) -> str:
    """What ``lchp study status`` says of a study's folder, in which a process is at work or not.

    Raises:
        Refusal: as :func:`read`, but for a study that is being prepared.
    """
    if _is_prepared(study, running):
        return f"{study.name}: {_PREPARED} (its data are read, and the tracking store is opened)"
    entries = read(study)
    stopped = StudyFolder(study).stopped
    told = [stopped.read_text(encoding="utf-8").strip()] if stopped.exists() else []
    return "\n".join([as_text(entries, running), *told, *damaged(entries, store_of(study.parent))])


def as_dict(study: Path, running: bool) -> dict[str, Any]:
    """The same as :func:`told` for programs: ``running``, ``counts`` by state, ``trials``, ``stopped``, ``damaged``."""
    entries = [] if _is_prepared(study, running) else [_as_it_is(entry, running) for entry in read(study)]
    stopped = StudyFolder(study).stopped
    return {
        "study": study.name,
        "running": running,
        "counts": dict(Counter(entry.state for entry in entries)),
        "trials": [vars(entry) for entry in entries],
        "stopped": stopped.read_text(encoding="utf-8").strip() if stopped.exists() else None,
        "damaged": damaged(entries, store_of(study.parent)),
    }


def _is_prepared(study: Path, running: bool) -> bool:
    """Whether a process is at work on a study that has no list of its trials yet."""
    return running and not StudyFolder(study).ledger.exists()


def _as_it_is(entry: Entry, running: bool) -> Entry:
    """An entry as it is if a process is at work or not: who was killed could not write it down."""
    return entry if running or entry.state != "running" else replace(entry, state="stopped", message=GONE)


def as_text(entries: Iterable[Entry], running: bool) -> str:
    """One line a trial, and a line that counts them; ``running`` says whether a process is at work in the folder."""
    entries = [_as_it_is(entry, running) for entry in entries]
    width = max((len(entry.name) for entry in entries), default=0)
    lines = [
        f"{entry.name:<{width}}  {entry.state:<8}  epoch {entry.epochs}/{entry.of}"
        + (f"  {entry.message}" if entry.message else "")
        for entry in entries
    ]
    states = [entry.state for entry in entries]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return "\n".join([*lines, f"{counted(len(entries), 'trial')}: {counts}" if entries else "no trials yet"])
