"""Reports made again from what lies in folders: no study's file, no data, no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lchp.reporting.build import write_report
from lchp.reporting.contents import read_contents
from lchp.reporting.formats import write_format
from lchp.reporting.paper import paper_beside
from lchp.reporting.records import opened, pack
from lchp.store.study_folder import StudyFolder


def studies_in(place: Path) -> list[Path]:
    """The folder itself, where it is a study's with a report, or those in it.

    Raises:
        ValueError: there is none.
    """
    found = [folder for folder in (place, *_below(place)) if StudyFolder(folder).contents.is_file()]
    if not found:
        raise ValueError(
            f"{place}: holds no study with a report (no {StudyFolder(place).contents.name}): run a study, or make its "
            "tables with `lchp study table`"
        )
    return found[:1] if found[0] == place else found


def _below(place: Path) -> Iterator[Path]:
    yield from sorted(folder for folder in place.iterdir() if folder.is_dir()) if place.is_dir() else ()


def remake(folder: Path, form: str, keep_records: bool = False) -> Path:
    """Make the report of the study in ``folder`` again, every table and figure (.png and .svg) with it; gives the file
    in one of ``study_folder.REPORTS``.

    Raises:
        ValueError: what it is made of is missing or damaged.
    """
    files = StudyFolder(folder)
    contents = read_contents(files.contents)
    with opened(folder, contents) as store:
        if keep_records:
            pack(contents, store, files.records)
        document = write_report(contents, store, folder, paper_beside(folder.parent), vector=True)
        return write_format(document, folder, form)
