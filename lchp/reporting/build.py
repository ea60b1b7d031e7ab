"""Everything that a study's folder shows, rebuilt from the files of its finished trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lchp.data.files import write_text
from lchp.data.fingerprint import flatten
from lchp.reporting.claims import Claim
from lchp.reporting.differences import Differences, differences_csv, differences_markdown, differences_of
from lchp.reporting.frame import TrialRow, Unfinished, collect, results_text
from lchp.reporting.html import write_html
from lchp.reporting.paired import Results
from lchp.reporting.table import Table, TableSpec
from lchp.reporting.tables import make_table
from lchp.reporting.verdicts import Verdict, claims_csv, claims_markdown, judge
from lchp.reporting.writing import table_texts
from lchp.store.folder import StageFolder
from lchp.store.study_folder import StudyFolder
from lchp.vocabulary import TEST


def build_report(
    study: str,
    question: str | None,
    trials: Sequence[TrialRow],
    specs: Sequence[TableSpec],
    folder: Path,
    paper: Path | None = None,
    unfinished: Sequence[Unfinished] | None = None,
    redraw: bool = True,
    remarks: Sequence[str] = (),
    claims: Sequence[Claim] = (),
) -> list[Table]:
    """Write results.csv, every table (.csv, .md, .tex), differences and claims (.csv, .md), a curve for each table over
    a number, losses.png and report.html.

    The losses and the picture of predictions (where its folder has one) are the first trial's.

    Args:
        trials: the finished ones, in the order of the study; at least one.
        folder: where the files go, ``<DIR>/<study>``.
        paper: the folder of the paper's CSV files.
        unfinished: the study's other trials; None where they are not known.
        redraw: whether pictures and report are made again where no number has changed.
        remarks: sentences of the study that stand under every table.
        claims: what the study states; judged on the test split.

    Returns:
        The tables, in the order of ``specs``.

    Raises:
        ValueError: as ``frame.collect`` and ``tables.make_table``.
    """
    assert trials, "a report needs a finished trial"
    frame = collect(study, trials)
    tables = [make_table(spec, frame, trials, paper, unfinished, remarks) for spec in specs]
    files = StudyFolder(folder)
    texts = {files.results: results_text(frame)}
    for table in tables:
        texts.update(table_texts(table, folder))
    by_split = {split: Results(frame, split, trials) for split in {TEST, *(spec.split for spec in specs)}}
    judged = [differences_of(table, by_split[table.spec.split]) for table in tables]
    texts.update({files.differences: differences_csv(judged), files.differences_text: differences_markdown(judged)})
    verdicts = judge(claims, by_split[TEST])
    if verdicts:
        texts.update({files.claims: claims_csv(verdicts), files.claims_text: claims_markdown(verdicts)})
    changed = _write(texts, files)
    pictures = [(table, files.curve(table.spec.name)) for table in tables if table.is_curve]
    drawn = (files.losses, files.report, *(picture for _, picture in pictures))
    if redraw or changed or not all(file.exists() for file in drawn):
        _draw(study, question, trials[0], tables, judged, verdicts, pictures, files)
    return tables


def _write(texts: Mapping[Path, str], files: StudyFolder) -> bool:
    """Write the texts that have changed, remove claims that the study states no more; gives whether there were any."""
    gone = [file for file in (files.claims, files.claims_text) if file not in texts and file.exists()]
    for file in gone:
        file.unlink()
    changed = [file for file, text in texts.items() if not file.exists() or file.read_bytes() != text.encode()]
    for file in changed:
        write_text(file, texts[file])
    return bool(gone or changed)


def _draw(
    study: str,
    question: str | None,
    first: TrialRow,
    tables: Sequence[Table],
    judged: Sequence[Differences],
    verdicts: Sequence[Verdict],
    pictures: Sequence[tuple[Table, Path]],
    files: StudyFolder,
) -> None:
    """The pictures, and the report that holds them."""
    from lchp.reporting.figures import curve, losses  # matplotlib takes a second to import

    figures: dict[str, Path] = {}
    for table, picture in pictures:
        curve(table, picture)
        figures[f"{table.spec.name}: {table.heading}"] = picture
    made = StageFolder(first.folder)
    at = ", ".join(f"{key} = {value}" for key, value in {**first.varied, "seed": first.seed}.items())
    losses(made.history(), files.losses)
    figures[f"Training at {at}"] = files.losses
    if made.picture is not None:
        figures[f"Predictions at {at}"] = made.picture
    write_html(files.report, study, question, verdicts, tables, judged, figures, flatten(made.environment()))
