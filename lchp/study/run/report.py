"""The folder of a study as its report wants it, made from a tracking store alone."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lchp.data.files import write_text
from lchp.errors import Refusal
from lchp.reporting.contents import read_contents
from lchp.reporting.records import pack
from lchp.store.study_folder import StudyFolder
from lchp.study.run.run_cards import KIND_TAG, STUDY
from lchp.tracking.reports import fetch_file, fetch_records
from lchp.tracking.store import open_store


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
    with tempfile.TemporaryDirectory() as temporary:
        own = f"tags.`{KIND_TAG}` = '{STUDY}'"
        file, parent = fetch_file(uri, study, own, StudyFolder(folder).contents.name, Path(temporary))
        contents = read_contents(file)
        runs = {one.folder: one.run_id for one in contents.trials}
        records = Path(temporary) / "records"
        fetch_records(uri, parent, [(place, runs.get(place, place)) for place in contents.places()], records)
        folder.mkdir(parents=True, exist_ok=True)
        pack(contents, records, StudyFolder(folder).records)
        write_text(StudyFolder(folder).contents, contents.text())
    return folder
