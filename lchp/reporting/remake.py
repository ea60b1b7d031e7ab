"""Reports made again from what lies in folders: no study's file, no data, no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lchp.at_work import doing
from lchp.reporting.build import write_report
from lchp.reporting.contents import read_contents
from lchp.reporting.formats import write_format
from lchp.reporting.paper import paper_beside
from lchp.reporting.records import opened, pack
from lchp.store.study_folder import StudyFolder, study_named, study_places


def studies_of(word: Path, output: Path) -> list[Path]:
    """The study that is named, a folder or a name in ``output``, or those with a report in the folder so called.

    Raises:
        ValueError: there is none, or the one that is named has no report.
    """
    study, places = study_named(word, output), study_places(word, output)
    if study is None:
        below = ([folder for folder in _below(place) if StudyFolder(folder).contents.is_file()] for place in places)
        found = next(filter(None, below), [])
    else:
        found, places = [study] if StudyFolder(study).contents.is_file() else [], (study, study)
    if not found:
        looked = " and ".join(dict.fromkeys(map(str, places)))
        raise ValueError(
            f"{word}: holds no study with a report (no {StudyFolder(word).contents.name} in {looked}): give the folder "
            "or the name of one, its --output DIR, or make its tables with `lchp study table`"
        )
    return found


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
    with opened(folder, contents) as store, doing(f"{folder.name}: making tables, figures and report"):
        if keep_records:
            pack(contents, store, files.records)
        document = write_report(contents, store, folder, paper_beside(folder.parent), vector=True)
        return write_format(document, folder, form)
