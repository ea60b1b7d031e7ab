"""What is committed as LaTeX, and a report as LaTeX, compiles and fits the page."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lchp.reporting.build import write_report
from lchp.reporting.contents import read_contents
from lchp.reporting.formats import write_format
from lchp.reporting.records import opened

ROOT = Path(__file__).parents[2]
TABLES = sorted(ROOT.glob("analysis/reference/*/*.tex"))
PDFLATEX = shutil.which("pdflatex")

pytestmark = pytest.mark.skipif(
    PDFLATEX is None, reason="no pdflatex (Debian: apt-get install texlive-latex-base texlive-latex-recommended)"
)


def compiled(file: Path) -> str:
    """What pdflatex says of a document that it compiles."""
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", file.name]
    done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=False, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert file.with_suffix(".pdf").is_file()
    return done.stdout


def test_committed_tables_compile_and_fit_the_page(tmp_path: Path) -> None:
    assert len(TABLES) > 5
    inputs = "\n".join(rf"\input{{{file}}}\clearpage" for file in TABLES)
    packages = r"\usepackage{booktabs}\usepackage{graphicx}"
    text = rf"\documentclass{{article}}{packages}\begin{{document}}{inputs}\end{{document}}"
    (tmp_path / "tables.tex").write_text(text, encoding="utf-8")
    said = compiled(tmp_path / "tables.tex")
    assert f"({len(TABLES)} pages" in said
    assert "Overfull" not in said


def test_report_of_the_quickstart_compiles_with_its_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "quickstart"
    shutil.copytree(ROOT / "analysis" / "reference" / "quickstart", folder)
    contents = read_contents(folder / "report.json")
    with opened(folder, contents) as store:
        document = write_report(contents, store, folder, ROOT / "analysis" / "paper", redraw=False)
        said = compiled(write_format(document, folder, "tex"))
    assert all(f"<./{one.file.name}" in said.replace("\n", "") for one in document.pictures)
