"""A report as one Markdown file, as a LaTeX document, and as a PDF; report.html is another matter."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from lchp.data.files import replacing, write_text
from lchp.data.scratch import scratch_folder
from lchp.reporting.differences import differences_markdown
from lchp.reporting.document import Document
from lchp.reporting.verdicts import claims_markdown
from lchp.reporting.writing import escape_latex, escape_markdown, to_latex, to_markdown
from lchp.store.study_folder import StudyFolder

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_PATIENCE = 120
"""Seconds for a browser to print."""
_BEGIN = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,landscape,margin=2cm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}
"""


def write_format(document: Document, folder: Path, form: str) -> Path:
    """Write the report of a study, whose tables, figures and report.html are in ``folder``, in one of REPORTS; gives
    the file.

    Raises:
        ValueError: a PDF is asked for and no browser is there to print it.
    """
    out = StudyFolder(folder).report_as(form)
    if form == "md":
        write_text(out, markdown(document))
    elif form == "tex":
        write_text(out, latex(document))
    elif form == "pdf":
        _print(StudyFolder(folder).report, out)
    return out


def markdown(document: Document) -> str:
    """The report in Markdown; pictures are files beside it."""
    parts = [f"# {document.contents.study}"]
    parts += [document.contents.question] if document.contents.question else []
    parts += [claims_markdown(document.verdicts).rstrip()] if document.verdicts else []
    parts += [
        f"## {table.title}\n\n`{table.spec.name}.csv`\n\n{to_markdown(table).rstrip()}" for table in document.tables
    ]
    if any(one.lines for one in document.differences):
        parts.append("# Differences\n\n" + differences_markdown(document.differences).rstrip())
    parts += [f"## {one.title}\n\n![{one.title}]({one.file.name})" for one in document.pictures]
    parts.append("## Trials\n\n" + _markdown_table(document))
    return "\n\n".join(parts) + "\n"


def _markdown_table(document: Document) -> str:
    lines = [f"| {' | '.join(document.trial_titles)} |", "|" + " --- |" * len(document.trial_titles)]
    lines += [f"| {' | '.join(map(escape_markdown, row))} |" for row in document.trial_rows()]
    return "\n".join(lines)


def latex(document: Document) -> str:
    """The report as a LaTeX document; pictures are files beside it."""
    parts = [_BEGIN, rf"\section*{{{escape_latex(document.contents.study)}}}"]
    parts += [escape_latex(document.contents.question)] if document.contents.question else []
    if document.verdicts:
        parts += [rf"\textbf{{{escape_latex(document.answer)}}}", r"\begin{itemize}"]
        parts += [
            rf"\item \texttt{{{escape_latex(one.claim)}}} {escape_latex('. '.join([one.words, *one.numbers]))}"
            for one in document.verdicts
        ]
        parts.append(r"\end{itemize}")
    parts += map(to_latex, document.tables)
    for one in document.pictures:
        picture = rf"\includegraphics[width=\linewidth,height=.8\textheight,keepaspectratio]{{{one.file.name}}}"
        parts += [r"\begin{figure}", r"\centering", picture, rf"\caption{{{escape_latex(one.title)}}}", r"\end{figure}"]
    return "\n".join([*parts, r"\end{document}"]) + "\n"


def _print(page: Path, out: Path) -> None:
    """Let a browser print a page."""
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise ValueError(f"no browser prints {page}: install chromium, or print the page from a browser of your own")
    with scratch_folder() as profile, replacing(out) as part:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        command += ["--no-pdf-header-footer", f"--print-to-pdf={part.absolute()}", page.absolute().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        if done.returncode or not part.stat().st_size:
            last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise ValueError(f"{browser} did not print {page} ({last}): print the page from a browser of your own")
