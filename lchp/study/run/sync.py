"""Writes into the tracking store what it lacks of a study, from the study's files alone."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lchp.at_work import doing
from lchp.errors import Refusal, refusing, shown
from lchp.store.study_folder import store_of
from lchp.study.run.cards import Cards
from lchp.study.run.ledger import Entry, Ledger, read
from lchp.study.run.log import StudyLog
from lchp.study.run.ownership import alone
from lchp.study.run.results import name_runs, run_or_key
from lchp.study.run.scribe import Scribe
from lchp.study.run.writer import Writer
from lchp.tracking.store import ensure_experiment, impatient, open_store


def command(folder: Path, tracking_uri: str | None = None) -> str:
    """The command line that does it."""
    words = ["lchp", "study", "sync", str(folder)]
    words += ["--tracking-uri", shown(tracking_uri)] if tracking_uri else []
    return f"`{shlex.join(words)}`"


def _places(entry: Entry) -> list[str]:
    """The places in the store of what a trial has runs for, its own last."""
    before = [entry.initialization] if entry.initialization else []
    return [*before, *entry.references.values(), entry.folder]


def sync_study(folder: Path, tracking_uri: str | None, echo: Callable[[str], None]) -> int:
    """Bring the runs of the study in ``folder`` to what its files say; gives the exit code: 0, or 1 if the store did
    not take one.

    Raises:
        Refusal: no study was run there, or one is running; the store cannot be opened.
    """
    entries, cards = read(folder), Cards(folder)
    own = cards.own()
    if own is None:
        raise Refusal(f"{folder}: holds no record of its runs, as version 0.3 writes it: run the study again")
    with alone(folder):
        with refusing(), doing("opening the tracking store"):
            uri = open_store(tracking_uri, Path.cwd())
            ensure_experiment(uri, own.name)
        log = StudyLog(folder, echo)
        scribe = Scribe(uri, own.name, folder, store_of(folder.parent), own.key, log.say, at_work=False)
        places = dict.fromkeys(place for entry in entries for place in _places(entry))
        keys = [Path(place).name for place in places if cards.has(Path(place).name)]
        told = doing(f"writing {len(keys) + 1} runs")
        with impatient(), told, Writer(scribe, log.say, log.failure) as writer:
            for key in keys:
                writer.put(key)
            writer.finish()
            ids = {entry.folder: writer.run_ids.get(Path(entry.folder).name, entry.run_id) for entry in entries}
            name_runs(folder, {run_or_key(entry): str(ids[entry.folder]) for entry in entries if ids[entry.folder]})
            ledger = Ledger(folder)
            with ledger.together():
                for entry in entries:
                    ledger.put(replace(entry, run_id=ids[entry.folder]))
            writer.put(own.key)
            writer.finish()
            left = writer.unwritten()
    if left is not None:
        log.say(f"{left}: {command(folder, tracking_uri)} writes it")
        return 1
    log.say(f"all {len(keys) + 1} runs of {own.name} are in tracking store {shown(uri)!r}")
    return 0
