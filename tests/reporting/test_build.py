from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from matplotlib import rc_context
from PIL import Image

from lchp.reporting.build import build_report
from lchp.reporting.document import Document
from lchp.reporting.frame import TrialRow, collect
from lchp.reporting.html import write_html
from lchp.reporting.table import TableSpec
from lchp.reporting.tables import make_table
from tests.reporting.conftest import contents_of

MEAN = "81.25\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}8.84 [1.84,\N{NO-BREAK SPACE}100.00] (2)"
"""As report.html has it: broken into lines before brackets alone."""


def test_build_report_twice_writes_the_same_files(delta_trials: list[TrialRow], tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(delta_trials[0].folder / "predictions.png")
    folder = tmp_path / "analysis" / "birds"
    own = {"delta": 0.5}
    specs = [TableSpec(by=("delta",), own=own), TableSpec("val", by=("delta",), split="val", own=own)]
    contents = contents_of("birds", "Which delta?", delta_trials, specs)
    tables = build_report(contents, tmp_path, folder)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert [table.spec.name for table in tables] == ["table", "val"]
    assert set(first) == {
        *(f"{name}.{ending}" for name in ("table", "val") for ending in ("csv", "md", "tex", "png")),
        *("results.csv", "training.png", "predictions.png", "report.html", "differences.csv", "differences.md"),
        "report.json",
    }
    build_report(contents, tmp_path, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_build_report_draws_the_same_figures_whatever_a_matplotlibrc_says(
    delta_trials: list[TrialRow], tmp_path: Path
) -> None:
    contents = contents_of("birds", None, delta_trials, [TableSpec(by=("delta",))])
    build_report(contents, tmp_path, tmp_path / "plain")
    with rc_context({"text.usetex": True, "axes.grid": True, "font.size": 30, "savefig.bbox": "tight"}):
        build_report(contents, tmp_path, tmp_path / "own")
    figures = sorted(path.name for path in (tmp_path / "plain").iterdir() if path.suffix == ".png")
    assert {"table.png", "training.png"} <= {*figures}
    for name in figures:
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes(), name


def test_build_report_without_redrawing_draws_what_is_missing_or_has_changed(
    delta_trials: list[TrialRow], tmp_path: Path
) -> None:
    def build(trials: list[TrialRow]) -> dict[str, int]:
        contents = contents_of("birds", None, trials, [TableSpec(by=("delta",))])
        build_report(contents, tmp_path, tmp_path / "out", redraw=False)
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir() if path.suffix != ".tex"}

    first = build(delta_trials)
    assert build(delta_trials) == first
    (tmp_path / "out" / "table.png").unlink()
    assert build(delta_trials).keys() == first.keys()
    again = build(delta_trials)
    fewer = build(delta_trials[:2])
    assert all(fewer[name] != again[name] for name in ("results.csv", "table.csv", "report.html", "training.png"))


def test_build_report_of_other_numbers_removes_or_draws_anew_what_shows_those_of_before(
    delta_trials: list[TrialRow], tmp_path: Path
) -> None:
    def build(trials: list[TrialRow]) -> set[str]:
        build_report(contents_of("birds", None, trials, [TableSpec(by=("delta",))]), tmp_path, tmp_path, redraw=False)
        return {name for name in old if (tmp_path / name).exists()}

    old = {"table.svg", "training.svg", "report.md", "report.tex", "report.pdf"}
    build(delta_trials)
    for name in old:
        (tmp_path / name).write_text("of before", encoding="utf-8")
    assert build(delta_trials) == old
    left = build(delta_trials[:2])
    assert "training.svg" in left <= {"training.svg", "table.svg"}
    assert all((tmp_path / name).read_text(encoding="utf-8").startswith("<?xml") for name in left)
    assert {"table.png", "training.png", "report.html"} <= {file.name for file in tmp_path.iterdir()}


def test_build_report_page_holds_tables_pictures_and_environment(delta_trials: list[TrialRow], tmp_path: Path) -> None:
    contents = contents_of("birds", "Which delta?", delta_trials, [TableSpec(by=("delta",), own={"delta": 0.5})])
    build_report(contents, tmp_path, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert f'<td class="percent" data-title="LCHP-R">{MEAN}</td>' in page
    assert page.count("data:image/png;base64,") == 2
    assert "versions.torch" in page
    assert "http" not in page


def test_write_html_text_of_people_is_escaped(delta_trials: list[TrialRow], tmp_path: Path) -> None:
    table = make_table(TableSpec(by=("delta",)), collect("s", delta_trials), delta_trials)
    contents = contents_of("a<b", "<script>alert(1)</script>", delta_trials, [])
    row = replace(delta_trials[0], varied={"backbone": "<i>"})
    write_html(tmp_path / "report.html", Document(contents, (row,), (), (table,), (), ()))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "a&lt;b" in page
    assert "&lt;i&gt;" in page


def test_build_report_every_number_leads_to_its_runs_where_the_tracking_store_is_known(
    delta_trials: list[TrialRow], tmp_path: Path
) -> None:
    named = [replace(trial, run_id=f"{number:032x}") for number, trial in enumerate(delta_trials)]
    contents = contents_of("birds", None, named, [TableSpec(by=("delta",), own={"delta": 0.5})])
    at = "http://127.0.0.1:5000/#/experiments/7/runs"
    build_report(replace(contents, runs_at=at), tmp_path, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    one, two = f"{at}/{2:032x}", f"{at}?searchFilter=attributes.run_id+IN+%28%27{0:032x}%27%2C+%27{1:032x}%27%29"
    assert f'<td class="percent" data-title="LCHP-R"><a href="{one}">62.50 (1)</a></td>' in page
    assert f'<a href="{two}">{MEAN}</a>' in page
    assert f'<td class="label run" data-title="Run"><a href="{one}">{2:032x}</a></td>' in page
    assert f'as long as <code>lchp ui</code> is\nrunning there: <a href="{at}">' in page
    # A run that is not written yet has no page.
    named[2] = replace(named[2], run_id="3622dbd8925f6800")
    contents = contents_of("birds", None, named, [TableSpec(by=("delta",), own={"delta": 0.5})], runs_at=at)
    build_report(contents, tmp_path, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert '<td class="percent" data-title="LCHP-R">62.50 (1)</td>' in page
