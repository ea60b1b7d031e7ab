"""What reports and comparisons are made of, from a tracking store alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lchp.data.files import write_text
from lchp.data.scratch import scratch_folder
from lchp.errors import Refusal
from lchp.reporting.compare import Group
from lchp.reporting.contents import Contents, read_contents
from lchp.reporting.frame import TrialRow
from lchp.reporting.records import pack
from lchp.store.folder import StageFolder
from lchp.store.study_folder import StudyFolder
from lchp.study.run.run_cards import KIND_TAG, STUDY
from lchp.tracking.reports import fetch_file, fetch_records, has_study
from lchp.tracking.store import ensure_experiment, open_store
from lchp.tracking.stored import read_run
from lchp.tracking.views import runs_address

_RECORDS = "records"
"""The folder into which the records of trials are copied."""


def fetched_group(word: str, uri: str, folder: Path) -> Group:
    """The run of that id, or the study of that name, from a tracking store alone; its records are copied into
    ``folder``, which is made.

    Raises:
        ValueError: there is neither, or it is not finished.
    """
    if not has_study(uri, word):
        run = read_run(uri, word, folder)
        return Group(word, (TrialRow(run.run_id, int(StageFolder(folder).config()["seed"]), {}, folder),))
    contents = _brought(word, uri, folder)
    return Group(word, tuple(one.row(folder / _RECORDS) for one in contents.trials))


def _brought(study: str, uri: str, folder: Path) -> Contents:
    """What the report of a study is made of; the records of its trials are copied into a folder of ``folder``."""
    own = f"tags.`{KIND_TAG}` = '{STUDY}'"
    folder.mkdir(parents=True, exist_ok=True)
    file, parent = fetch_file(uri, study, own, StudyFolder(folder).contents.name, folder)
    contents = replace(read_contents(file), runs_at=runs_address(uri, ensure_experiment(uri, study)))
    runs = {one.folder: one.run_id for one in contents.trials}
    fetch_records(uri, parent, [(place, runs.get(place, place)) for place in contents.places()], folder / _RECORDS)
    return contents


def fetched(study: str, tracking_uri: str, output: Path) -> Path:
    """Fetch what the study's report is made of into its folder in ``output``, the records of its trials packed; gives
    the folder.

    Raises:
        Refusal: a study was run in that folder, whose own files its report is made from.
        ValueError: the store cannot be opened, or lacks something.
    """
    folder = output / study
    if StudyFolder(folder).ledger.exists():
        raise Refusal(
            f"{folder}: the study was run there: leave --tracking-uri out to report on it, or give another --output"
        )
    uri = open_store(tracking_uri, Path.cwd())
    with scratch_folder() as temporary:
        contents = _brought(study, uri, temporary)
        folder.mkdir(parents=True, exist_ok=True)
        pack(contents, temporary / _RECORDS, StudyFolder(folder).records)
        write_text(StudyFolder(folder).contents, contents.text())
    return folder
