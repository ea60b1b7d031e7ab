"""A table as CSV (numbers in full), Markdown and LaTeX (rounded to what people read)."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from lchp.reporting.cells import Cell, Column
from lchp.reporting.statistics import Summary
from lchp.reporting.table import Table
from lchp.store.study_folder import StudyFolder

TEXT = ("label", "warnings")
"""The kinds of columns that hold words, which begin at the left."""

_PLACES = {"percent": 2, "number": 3, "count": 1}
"""Decimals of the kinds of columns that hold means."""

_LONGEST_VALUE = 6
"""Letters of a parameter's value that is shown as it is."""

_PARTS = ("mean", "std", "n", "low", "high")
_EMPTY = "–"
_AS_WIDE = r"\providecommand{\resizebox}[3]{#3}\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""Before a tabular: what is wider than the page is made as wide as it, where the document has graphicx."""
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
}


def show(cell: Cell, column: Column) -> str:
    """A cell as people read it: ``mean ± spread [interval] (n)``, or ``mean (1)``; percent with two decimals, counts
    with one, other numbers with three; a parameter's value as it was written or, where that is long, in four digits.
    """
    if cell is None:
        return _EMPTY if column.kind != "label" else "none"
    if isinstance(cell, Summary):
        return _summary(cell, column)
    if column.kind == "paper" and isinstance(cell, float):
        return f"{cell:.2f}"
    if column.kind == "paper_count" and isinstance(cell, float):
        return f"{cell:.0f}"
    # What a search suggests has all its digits in the CSV alone.
    return f"{cell:.4g}" if isinstance(cell, float) and len(str(cell)) > _LONGEST_VALUE else str(cell)


def _summary(cell: Summary, column: Column) -> str:
    text, places, interval = cell.text(_PLACES[column.kind]), _PLACES[column.kind], cell.interval
    if interval is None:
        return text
    # No share lies beyond, however little two seeds say of it.
    low, high = (min(max(end, 0.0), 100.0) if column.kind == "percent" else end for end in interval)
    return text.replace(" (", f" [{low:.{places}f}, {high:.{places}f}] (")


def escape_latex(text: str) -> str:
    """``text`` such that LaTeX prints it as it is."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def escape_markdown(text: str) -> str:
    """``text`` such that it stands in a cell of a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def to_csv(table: Table) -> str:
    """One line per row; a mean takes ``<key>_mean``, ``<key>_std``, ``<key>_n``, and ``<key>_low`` and ``<key>_high``,
    the ends of its interval.

    Last, in every line, what the table stands on: ``images`` of its split (the fewest, where trials differ), finished
    ``trials`` of ``planned`` ones, and what it was made with; empty where that is not known.
    """
    head: list[str] = []
    for column in table.columns:
        summary = column.kind in _PLACES
        head += [f"{column.key}_{part}" for part in _PARTS] if summary else [column.key]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*head, "images", "trials", "planned", "commit", "versions", "hardware"])
    stands = [min((images.total for images in table.images), default=None), table.trials, table.planned]
    for row in table.rows:
        cells: list[object] = []
        for cell, column in zip(row, table.columns, strict=True):
            if column.kind in _PLACES:
                cells += _numbers(cell)
            else:
                cells.append(cell)
        writer.writerow([*cells, *stands, table.made.commit, table.made.versions, table.made.hardware])
    return text.getvalue()


def _numbers(cell: Cell) -> list[object]:
    """A mean in _PARTS."""
    if not isinstance(cell, Summary):
        return [None, None, 0, None, None]
    return [cell.mean, cell.std, cell.n, *(cell.interval or (None, None))]


def to_markdown(table: Table) -> str:
    """Heading, table, and what it was made with."""
    titles = [escape_markdown(column.title) for column in table.columns]
    lines = [
        table.heading,
        "",
        f"| {' | '.join(titles)} |",
        f"|{'|'.join(' --- ' if column.kind in TEXT else ' ---: ' for column in table.columns)}|",
    ]
    for row in table.rows:
        cells = [escape_markdown(show(cell, column)) for cell, column in zip(row, table.columns, strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"Made with {escape_markdown(table.made.line())}.", *table.notes, *table.counts, *table.warnings]
    return "\n".join(lines) + "\n"


def to_latex(table: Table) -> str:
    """A ``table`` environment; it wants the package booktabs and, to be no wider than the page, graphicx."""
    alignment = "".join("l" if column.kind in TEXT else "r" for column in table.columns)
    caption = " ".join(
        [f"{table.heading}.", f"Made with {table.made.line()}.", *table.notes, *table.counts, *table.warnings]
    )
    lines = [
        r"% needs \usepackage{booktabs}; with \usepackage{graphicx} it is never wider than the page",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(caption)}}}{_AS_WIDE}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        " & ".join(escape_latex(column.title) for column in table.columns) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        cells = (escape_latex(show(cell, column)) for cell, column in zip(row, table.columns, strict=True))
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}"]) + "\n"


def table_texts(table: Table, folder: Path) -> dict[Path, str]:
    """The files of a table in a study's ``folder``, and what they hold."""
    texts = (to_csv(table), to_markdown(table), to_latex(table))
    return dict(zip(StudyFolder(folder).table(table.spec.name), texts, strict=True))
