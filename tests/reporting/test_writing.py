from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from lchp.reporting.frame import TrialRow, collect
from lchp.reporting.table import Table, TableSpec
from lchp.reporting.tables import make_table
from lchp.reporting.writing import escape_latex, table_texts, to_csv, to_latex, to_markdown

PAPER = Path(__file__).parents[2] / "analysis" / "paper"

MARKDOWN = """\
GT-Known on test, %: mean ± sample standard deviation over seeds [95% interval of the mean over all seeds] (n seeds)

| delta | Pseudo Label | LCHP-I | LCHP-R | Whole image | Best centred box |
| --- | ---: | ---: | ---: | ---: | ---: |
| 0.7 | 37.50 ± 17.68 [0.00, 100.00] (2) | 50.00 ± 0.00 (2) | 81.25 ± 8.84 [1.84, 100.00] (2) \
| 25.00 ± 0.00 (2) | 50.00 ± 0.00 (2) |
| 0.5 | 37.50 (1) | 62.50 (1) | 62.50 (1) | 25.00 (1) | 50.00 (1) |

Made with commit abc123; lchp 0.1.0, torch 2.15.0, torchvision 0.29.2; Some CPU_X.
"""


@pytest.fixture
def table(delta_trials: list[TrialRow]) -> Table:
    return make_table(TableSpec(by=("delta",)), collect("s", delta_trials), delta_trials)


def test_to_markdown_small_table_is_the_golden_text(table: Table) -> None:
    assert to_markdown(table) == MARKDOWN


def test_to_latex_small_table_is_escaped_and_ruled(table: Table) -> None:
    lines = to_latex(table).splitlines()
    assert lines[8].startswith(
        r"0.7 & 37.50 $\pm$ 17.68 [0.00, 100.00] (2) & 50.00 $\pm$ 0.00 (2) & 81.25 $\pm$ 8.84 [1.84"
    )
    assert r"0.5 & 37.50 (1) & " in lines[9]
    assert r"on test, \%: mean $\pm$ sample" in lines[3]
    assert r"Some CPU\_X." in lines[3]
    assert [line for line in lines if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert lines[4] == r"\begin{tabular}{lrrrrr}"


def test_escape_latex_special_letters_are_printed_as_they_are() -> None:
    assert escape_latex("a_b & 50% #1 {x} $y$ \\z ~^") == (
        r"a\_b \& 50\% \#1 \{x\} \$y\$ \textbackslash{}z \textasciitilde{}\textasciicircum{}"
    )
    assert escape_latex("<1|2>") == r"\textless{}1\textbar{}2\textgreater{}"


def test_to_csv_numbers_are_numeric_and_full(table: Table, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(to_csv(table), encoding="utf-8")
    read = pd.read_csv(tmp_path / "table.csv")
    assert list(read.columns[:6]) == [
        "delta",
        "pseudo_label_gt_known_mean",
        "pseudo_label_gt_known_std",
        "pseudo_label_gt_known_n",
        "pseudo_label_gt_known_low",
        "pseudo_label_gt_known_high",
    ]
    assert list(read.columns[-3:]) == ["commit", "versions", "hardware"]
    assert read["lchp_r_gt_known_mean"].to_list() == [81.25, 62.5]
    assert read["pseudo_label_gt_known_std"][0] == pytest.approx(17.67766952966369, abs=0)
    assert pd.isna(read["pseudo_label_gt_known_std"][1])
    assert read["lchp_i_gt_known_n"].to_list() == [2, 1]
    assert read["lchp_r_gt_known_low"][0] == pytest.approx(81.25 - 12.7062047361747 * 6.25)
    assert pd.isna(read["lchp_r_gt_known_high"][1])


def test_table_texts_paper_words_and_gaps_are_shown(delta_trials: list[TrialRow], tmp_path: Path) -> None:
    trials = [
        TrialRow(trial.run_id, trial.seed, {"tau": tau}, trial.folder)
        for trial, tau in zip(delta_trials, (0.0, 0.8, 0.85), strict=True)
    ]
    made = make_table(TableSpec("tau_table", by=("tau",), paper="table4_tau"), collect("s", trials), trials, PAPER)
    texts = {path.name: text for path, text in table_texts(made, tmp_path).items()}
    assert list(texts) == ["tau_table.csv", "tau_table.md", "tau_table.tex"]
    rows = [line.split(" | ") for line in texts["tau_table.md"].splitlines() if line.startswith("| 0")]
    assert [row[4] for row in rows] == ["failed", "93.98", "–"]
    assert r"Sun \& Zhu (2022)" in texts["tau_table.tex"]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex to set the table")
def test_to_latex_table_can_be_set(table: Table, tmp_path: Path) -> None:
    page = (
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n" + to_latex(table) + "\\end{document}\n"
    )
    (tmp_path / "page.tex").write_text(page, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "page.tex"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
