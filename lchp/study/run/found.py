"""Runs and studies that people name, found in folders, without the tracking store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from lchp.errors import Refusal
from lchp.store.folder import StageFolder
from lchp.store.study_folder import StudyFolder, store_of, study_named
from lchp.study.run.ledger import Entry, read
from lchp.vocabulary import INITIALIZATION

_SHORTEST = 6
"""Of the beginning of a run's id that stands for it."""


def found_run(word: str, output: Path) -> tuple[Entry, Path]:
    """The run of that id, or of an id that begins so, of a study in ``output``; of a study in a folder, or of that name
    in ``output``, the first finished one; and the store.

    Raises:
        Refusal: there is none.
    """
    if (folder := study_named(word, output)) is not None:
        return finished_trials(folder)[0], store_of(folder.parent)
    damaged: list[str] = []
    runs = _runs_of_one(word, output, damaged)
    if not runs:
        raise Refusal(
            f"{word}: is no folder of a study or trial, and no finished run of a study in {output}: give one, or name "
            "the folder that holds the studies with --output" + "".join(f"\nnot looked into: {one}" for one in damaged)
        )
    return runs[0]


def whole_id(word: str, output: Path) -> str:
    """The id of the one run of a study in ``output`` that begins so; the word itself where none does.

    Raises:
        Refusal: several trials' runs begin so.
    """
    runs = _runs_of_one(word, output, [])
    return str(runs[0][0].run_id) if runs else word


def finished_trials(folder: Path) -> list[Entry]:
    """The finished trials of a study's folder. Refusal where there is none."""
    entries = [entry for entry in read(folder) if entry.state == "finished"]
    if not entries:
        raise Refusal(f"{folder}: no trial is finished: run the study first")
    return entries


def _runs_of_one(word: str, output: Path, damaged: list[str]) -> list[tuple[Entry, Path]]:
    """As :func:`_runs`, which are of one trial, or Refusal."""
    runs = list(_runs(word, output.absolute(), damaged))
    if len({entry.folder for entry, _ in runs}) > 1:
        raise Refusal(
            f"{word}: several runs begin so ({', '.join(str(entry.run_id) for entry, _ in runs)}): write more of it"
        )
    return runs


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


def initialization_beside(trial: StageFolder) -> StageFolder | None:
    """The initialization from which a finished trial went on, among those that lie beside it in the store: of the same
    configuration, and the one whose results the trial's own files begin with. None where it is not there.
    """
    from lchp.training.given_paths import without_paths
    from lchp.training.identity import initialization_key, stored_config

    def key(stage: StageFolder) -> dict[str, Any]:
        return without_paths(initialization_key(stored_config(stage.config())))

    own, lines = key(trial), trial.per_image_text()
    for folder in sorted((trial.path.parent.parent / INITIALIZATION).glob("*/")):
        stage = StageFolder(folder)
        with suppress(ValueError):  # of another version, or damaged
            if stage.done and key(stage) == own and lines.startswith(stage.per_image_text()):
                return stage
    return None
