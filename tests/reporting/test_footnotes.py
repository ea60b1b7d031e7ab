"""What stands under a table, and beside its rows: images, trials, degenerate training."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from lchp.reporting.build import build_report
from lchp.reporting.claims import Space
from lchp.reporting.evidence import Images
from lchp.reporting.footnotes import counts
from lchp.reporting.frame import TrialRow, Unfinished, collect
from lchp.reporting.grammar import parse
from lchp.reporting.paired import Results
from lchp.reporting.table import Table, TableSpec
from lchp.reporting.tables import make_table
from lchp.reporting.verdicts import UNTAUGHT, judge
from lchp.reporting.writing import to_csv, to_latex, to_markdown
from tests.reporting.conftest import MakeTrial, contents_of
from tests.reporting.test_evidence import CONFIG, history_of, rows_of, spread


@pytest.fixture
def tau_trials(make_trial: MakeTrial) -> list[TrialRow]:
    """Two taus with two seeds; at the higher no box was selected, in one seed the boxes are constant, too."""
    trials = []
    for tau, seed in ((0.5, 0), (0.5, 1), (0.99, 0), (0.99, 1)):
        scores = {f"{method}/test/gt_known": 0.5 for method in ("pseudo_label", "lchp_r")}
        trial = make_trial(f"r{tau}{seed}", seed, {"tau": tau}, scores)
        shares = (0.5, 0.25) if tau == 0.5 else (0.0, 0.0)
        (trial.folder / "history.json").write_text(json.dumps(history_of(*shares)), encoding="utf-8")
        (trial.folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
        one_box = tau == 0.99 and seed == 1
        rows = rows_of({"lchp_r": (lambda _: (0.2, 0.1, 0.7, 0.8)) if one_box else spread}, unknown=1)
        rows.to_csv(trial.folder / "per_image.csv", index=False)
        trials.append(trial)
    return trials


def _make(spec: TableSpec, trials: list[TrialRow], unfinished: list[Unfinished] | None = None) -> Table:
    return make_table(spec, collect("s", trials), trials, unfinished=unfinished)


def test_make_table_nothing_selected_says_so_in_its_row_and_below(tau_trials: list[TrialRow]) -> None:
    table = _make(TableSpec(by=("tau",)), tau_trials)
    assert table.columns[-1].key == "warnings"
    assert table.column("warnings") == [None, "LCHP-R: 0 selected, constant boxes (1 of 2)"]
    assert table.warnings == (
        "Warning: LCHP-R, 0 selected at tau = 0.99 (2 of 4 trials): no box was selected in any epoch, so that "
        "refinement learned from none: what LCHP-R differs in comes of weight decay and the batches' statistics: lower "
        "tau.",
        "Warning: LCHP-R, constant boxes at tau = 0.99 (1 of 4 trials): the boxes of all test images are the same to "
        "1% of a side.",
    )


@pytest.mark.parametrize(("tau", "is_untaught"), [(0.5, False), (0.99, True)])
def test_judge_where_nothing_was_selected_advises_a_lower_tau(
    tau: float, is_untaught: bool, tau_trials: list[TrialRow]
) -> None:
    claim = parse("lchp_r > pseudo_label", Space({"tau": tau}, ({"tau": 0.5}, {"tau": 0.99})))
    (verdict,) = judge([claim], Results(collect("s", tau_trials), "test", tau_trials))
    assert (verdict.state, verdict.remedy == UNTAUGHT) == ("open", is_untaught)


def test_make_table_over_methods_warns_in_the_methods_row(tau_trials: list[TrialRow]) -> None:
    table = _make(TableSpec(fixed={"tau": 0.99}), tau_trials)
    warned = dict(zip(table.column("method"), table.column("warnings"), strict=True))
    assert warned["LCHP-R"] == "0 selected, constant boxes (1 of 2)"
    assert {cell for method, cell in warned.items() if method != "LCHP-R"} == {None}
    assert table.warnings[0].startswith("Warning: LCHP-R, 0 selected (2 of 2 trials): ")


def test_make_table_sound_training_has_no_column_of_warnings(tau_trials: list[TrialRow]) -> None:
    table = _make(TableSpec(by=("tau",)), tau_trials[:2])
    assert [column.key for column in table.columns if column.kind == "warnings"] == []
    assert table.warnings == ()


def test_make_table_says_on_how_many_images_and_trials_it_stands(tau_trials: list[TrialRow]) -> None:
    table = _make(TableSpec(by=("tau",)), tau_trials[:2], [])
    assert table.counts == (
        "16 test images; one image is worth 6.25 points; GT-Known over 15 of 16 images, those with true boxes, where "
        "one is worth 6.67.",
        "2 of 2 trials.",
    )
    assert (table.images, table.trials, table.planned) == ((Images(16, 15),), 2, 2)


def test_make_table_of_a_part_of_the_study_names_what_is_missing(tau_trials: list[TrialRow]) -> None:
    missing = [Unfinished(f"tau={tau} seed={seed}", {"tau": tau}) for tau in (0.5, 0.9) for seed in range(2, 8)]
    table = _make(TableSpec(by=("tau",)), tau_trials, missing)
    assert table.counts[-1] == (
        "4 of 16 trials; not finished: tau=0.5 seed=2, tau=0.5 seed=3, tau=0.5 seed=4, tau=0.5 seed=5, tau=0.5 seed=6 "
        "and 7 more."
    )
    fixed = _make(TableSpec(fixed={"tau": 0.5}), tau_trials, missing[:7])
    assert fixed.counts[-1].startswith("2 of 8 trials; ")


def test_counts_one_trial_is_told_in_the_singular() -> None:
    assert counts([], "test", ["gt_known"], 1, []) == ["1 of 1 trial."]


def test_counts_trials_of_several_image_counts_name_each() -> None:
    lines = counts([Images(16, 16), Images(20, 20)], "test", ["gt_known"], 2, None)
    assert lines == [
        "Trials differ in their images.",
        "16 test images; one image is worth 6.25 points.",
        "20 test images; one image is worth 5.00 points.",
    ]


def test_written_tables_all_say_counts_and_warnings(tau_trials: list[TrialRow], tmp_path: Path) -> None:
    missing = [Unfinished("tau=0.9 seed=0", {"tau": 0.9})]
    contents = contents_of("s", None, tau_trials, [TableSpec(by=("tau",))], unfinished=tuple(missing))
    (table,) = build_report(contents, tmp_path, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for text in (to_markdown(table), to_latex(table).replace(r"\_", "_"), page):
        for words in ("16 test images", "15 of 16 images", "4 of 5 trials", "tau=0.9 seed=0", "LCHP-R, 0 selected at"):
            assert words in text
    assert "| 0.99 | 50.00 ± 0.00 (2) |" in to_markdown(table)
    assert to_markdown(table).splitlines()[5].endswith("| LCHP-R: 0 selected, constant boxes (1 of 2) |")
    assert '<p class="warning">Warning: LCHP-R, 0 selected' in page
    rows = list(csv.DictReader(to_csv(table).splitlines()))
    assert [row["warnings"] for row in rows] == ["", "LCHP-R: 0 selected, constant boxes (1 of 2)"]
    assert {(row["images"], row["trials"], row["planned"]) for row in rows} == {("16", "4", "5")}
