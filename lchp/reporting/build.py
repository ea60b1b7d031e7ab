"""Everything that a study's folder shows, rebuilt from the files of its finished trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lchp.data.drawing import plain_style
from lchp.data.files import replacing, write_text
from lchp.reporting.contents import Contents
from lchp.reporting.differences import differences_csv, differences_markdown, differences_of
from lchp.reporting.document import Document
from lchp.reporting.figures import save
from lchp.reporting.frame import collect, read_ahead, results_text
from lchp.reporting.gallery import Picture, pictures_of
from lchp.reporting.html import write_html
from lchp.reporting.paired import Results
from lchp.reporting.table import Table
from lchp.reporting.tables import make_table
from lchp.reporting.verdicts import claims_csv, claims_markdown, judge
from lchp.reporting.writing import table_texts
from lchp.store.study_folder import REPORTS, StudyFolder
from lchp.vocabulary import TEST


def build_report(
    contents: Contents, store: Path, folder: Path, paper: Path | None = None, redraw: bool = True
) -> list[Table]:
    """Write results.csv, report.json, every table (.csv, .md, .tex), differences and claims (.csv, .md), the figures
    (.png) and report.html; gives the tables, in the order of the study.

    Args:
        contents: what the report is made of, with one finished trial at least.
        store: the folder below which the places of its trials lie.
        folder: where the files go, ``<DIR>/<study>``.
        paper: the folder of the paper's CSV files.
        redraw: whether pictures and report are made again where no number has changed.

    Raises:
        ValueError: as ``frame.collect`` and ``tables.make_table``.
    """
    return list(write_report(contents, store, folder, paper, redraw).tables)


def write_report(
    contents: Contents, store: Path, folder: Path, paper: Path | None = None, redraw: bool = True, vector: bool = False
) -> Document:
    """As :func:`build_report`, but that it gives all of the report; with ``vector``, or where some are so already,
    figures are .svg files, too. Where a text has changed, figures and reports in whatever form that show the one of
    before are removed.
    """
    trials = [one.row(store) for one in contents.trials]
    assert trials, "a report needs a finished trial"
    read_ahead(trials)
    frame = collect(contents.study, trials)
    tables = [make_table(spec, frame, trials, paper, contents.unfinished, contents.remarks) for spec in contents.specs]
    files = StudyFolder(folder)
    texts = {files.results: results_text(frame), files.contents: contents.text()}
    for table in tables:
        texts.update(table_texts(table, folder))
    by_split = {split: Results(frame, split, trials) for split in {TEST, *(spec.split for spec in contents.specs)}}
    judged = [differences_of(table, by_split[table.spec.split]) for table in tables]
    texts.update({files.differences: differences_csv(judged), files.differences_text: differences_markdown(judged)})
    verdicts = judge(contents.stated(), by_split[TEST])
    if verdicts:
        texts.update({files.claims: claims_csv(verdicts), files.claims_text: claims_markdown(verdicts)})
    pictures = pictures_of(tables, trials, files)
    document = Document(contents, tuple(trials), tuple(verdicts), tuple(tables), tuple(judged), tuple(pictures))
    # A table that was a curve may be none any more.
    figures = [*(picture.file for picture in pictures), *(files.curve(table.spec.name) for table in tables)]
    reports = [files.report_as(form) for form in REPORTS]
    vectors = [file.with_suffix(".svg") for file in figures]
    vector = vector or any(file.exists() for file in vectors)
    changed = _write(texts, files, [*vectors, *reports])
    drawn = [files.report, *(picture.file for picture in pictures)]
    if redraw or changed or not all(file.exists() for file in drawn):
        _draw(pictures, vector)
        write_html(files.report, document)
    return document


def _draw(pictures: Sequence[Picture], vector: bool) -> None:
    for picture in pictures:
        if picture.draw is not None:
            with plain_style():
                save(picture.draw(), picture.file, vector)
        elif picture.source is not None:
            with replacing(picture.file) as part:
                part.write_bytes(picture.source.read_bytes())


def _write(texts: Mapping[Path, str], files: StudyFolder, beside: Sequence[Path]) -> bool:
    """Write the texts that have changed, remove claims that the study states no more; gives whether there were any. If
    so, what shows the same ``beside`` is removed first: a kill leaves nothing that contradicts the texts.
    """
    gone = [file for file in (files.claims, files.claims_text) if file not in texts and file.exists()]
    changed = [file for file, text in texts.items() if not file.exists() or file.read_bytes() != text.encode()]
    for file in [*gone, *(beside if gone or changed else ())]:
        file.unlink(missing_ok=True)
    for file in changed:
        write_text(file, texts[file])
    return bool(gone or changed)
