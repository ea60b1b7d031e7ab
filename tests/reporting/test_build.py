from __future__ import annotations

from pathlib import Path

from PIL import Image

from lchp.reporting.build import build_report
from lchp.reporting.frame import TrialRow, collect
from lchp.reporting.html import write_html
from lchp.reporting.table import TableSpec
from lchp.reporting.tables import make_table


def test_build_report_twice_writes_the_same_files(delta_trials: list[TrialRow], tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(delta_trials[0].folder / "predictions.png")
    folder = tmp_path / "analysis" / "birds"
    specs = [TableSpec(by=("delta",)), TableSpec("val", by=("delta",), split="val")]
    tables = build_report("birds", "Which delta?", delta_trials, specs, folder)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert [table.spec.name for table in tables] == ["table", "val"]
    assert set(first) == {
        *(f"{name}.{ending}" for name in ("table", "val") for ending in ("csv", "md", "tex", "png")),
        *("results.csv", "losses.png", "report.html", "differences.csv", "differences.md"),
    }
    build_report("birds", "Which delta?", delta_trials, specs, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_build_report_without_redrawing_draws_what_is_missing_or_has_changed(
    delta_trials: list[TrialRow], tmp_path: Path
) -> None:
    def build(trials: list[TrialRow]) -> dict[str, int]:
        build_report("birds", None, trials, [TableSpec(by=("delta",))], tmp_path, redraw=False)
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.suffix != ".tex"}

    first = build(delta_trials)
    assert build(delta_trials) == first
    (tmp_path / "table.png").unlink()
    assert build(delta_trials).keys() == first.keys()
    again = build(delta_trials)
    fewer = build(delta_trials[:2])
    assert all(fewer[name] != again[name] for name in ("results.csv", "table.csv", "report.html", "losses.png"))


def test_build_report_page_holds_tables_pictures_and_environment(delta_trials: list[TrialRow], tmp_path: Path) -> None:
    build_report("birds", "Which delta?", delta_trials, [TableSpec(by=("delta",))], tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert '<td class="percent">81.25 ± 8.84 [1.84, 100.00] (2)</td>' in page
    assert page.count("data:image/png;base64,") == 2
    assert "versions.torch" in page
    assert "http" not in page


def test_write_html_text_of_people_is_escaped(delta_trials: list[TrialRow], tmp_path: Path) -> None:
    table = make_table(TableSpec(by=("delta",)), collect("s", delta_trials), delta_trials)
    write_html(tmp_path / "report.html", "a<b", "<script>alert(1)</script>", [], [table], [], {}, {"k": "<i>"})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "a&lt;b" in page
    assert "&lt;i&gt;" in page
