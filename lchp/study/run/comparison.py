"""What ``lchp compare`` names: runs and studies, found in folders, without the tracking store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lchp.errors import Refusal
from lchp.reporting.compare import Group
from lchp.reporting.frame import TrialRow
from lchp.store.folder import StageFolder
from lchp.store.study_folder import StudyFolder, store_of
from lchp.study.run.ledger import Entry, read, require_whole
from lchp.study.run.results import trial_row

_SHORTEST = 6
"""Of the beginning of a run's id that stands for it."""


def found_group(word: str, output: Path) -> Group:
    """The study in a folder, or of that name in ``output``; the trial in a folder; or the run of that id, or of an id
    that begins so, of a study in ``output``.

    Raises:
        Refusal: there is none, or nothing of it is finished, or its files are damaged.
    """
    for folder in (Path(word).absolute(), output.absolute() / word):
        if StudyFolder(folder).ledger.is_file():
            return _of_study(word, folder)
    trial = StageFolder(Path(word).absolute())
    if trial.path.is_dir() and trial.done:
        if trial.complaint is not None:
            raise Refusal(trial.complaint)
        return Group(word, (TrialRow(trial.path.name, int(trial.config()["seed"]), {}, trial.path),))
    entry, store = found_run(word, output)
    require_whole([entry], store)
    return Group(word, (trial_row(entry, store),))


def found_run(word: str, output: Path) -> tuple[Entry, Path]:
    """The run of that id, or of an id that begins so, of a study in ``output``; of a study in a folder, or of that name
    in ``output``, the first finished one; and the store.

    Raises:
        Refusal: there is none.
    """
    for folder in (Path(word).absolute(), output.absolute() / word):
        if StudyFolder(folder).ledger.is_file():
            return _finished(folder)[0], store_of(folder.parent)
    damaged: list[str] = []
    runs = list(_runs(word, output.absolute(), damaged))
    if len({entry.folder for entry, _ in runs}) > 1:
        raise Refusal(
            f"{word}: several runs begin so ({', '.join(str(entry.run_id) for entry, _ in runs)}): write more of it"
        )
    if not runs:
        raise Refusal(
            f"{word}: is no folder of a study or trial, and no finished run of a study in {output}: give one, or name "
            "the folder that holds the studies with --output" + "".join(f"\nnot looked into: {one}" for one in damaged)
        )
    return runs[0]


def _finished(folder: Path) -> list[Entry]:
    entries = [entry for entry in read(folder) if entry.state == "finished"]
    if not entries:
        raise Refusal(f"{folder}: no trial is finished: run the study first")
    return entries


def _of_study(word: str, folder: Path) -> Group:
    store, entries = store_of(folder.parent), _finished(folder)
    require_whole(entries, store)
    return Group(word, tuple(trial_row(entry, store) for entry in entries))


def _runs(word: str, output: Path, damaged: list[str]) -> Iterator[tuple[Entry, Path]]:
    """The finished runs whose id is the word, or begins with it; what is wrong with lists of trials that cannot be read
    goes to ``damaged``: they may be of other studies.
    """
    for ledger in sorted(output.glob(f"*/{StudyFolder(output).ledger.name}")) if len(word) >= _SHORTEST else ():
        try:
            entries = read(ledger.parent)
        except Refusal as error:
            damaged.append(str(error))
            continue
        for entry in entries:
            if entry.state == "finished" and (entry.run_id or "").startswith(word):
                yield entry, store_of(output)
