from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from lchp.reporting.build import build_report
from lchp.reporting.table import TableSpec
from lchp.vocabulary import METRICS
from tests.browser import browsing, needs_chromium
from tests.reporting.conftest import MakeTrial, contents_of

FIVE = ("gt_known", "mean_iou", "box_acc_30", "box_acc_70", "top1_loc")
METHODS = ("lchp_r", "lchp_i", "pseudo_label", "centred_box")
A4 = 718
"""Pixels, within the margins of a printed page."""
CUT = "tables => tables.filter(table => table.scrollWidth > table.clientWidth).length"


@pytest.fixture
def report(make_trial: MakeTrial, tmp_path: Path) -> Path:
    """A report with a table of five metrics, their means in full, and one over a key with a long name."""
    assert set(FIVE) <= set(METRICS)
    key, scores = "pseudo_boxes.enlargement", {f"{one}/test/{metric}": 0.75 for one, metric in product(METHODS, FIVE)}
    trials = [
        make_trial(f"{at}{seed}" * 16, seed, {key: at}, {name: value + seed / 64 for name, value in scores.items()})
        for at, seed in product(("centred", "tiled"), range(3))
    ]
    specs = [TableSpec(by=(key,), own={key: "tiled"}), TableSpec("boxes", by=(key,), metrics=FIVE)]
    build_report(contents_of("wide", None, trials, specs), tmp_path, tmp_path / "out")
    return tmp_path / "out" / "report.html"


def test_write_html_heads_tables_by_what_they_measure_and_names_their_files(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    assert "<h2>GT-Known on test by pseudo_boxes.enlargement</h2>" in page
    assert "<h2>GT-Known, Mean IoU, Box accuracy at 0.3 and 2 more on test by pseudo_boxes.enlargement</h2>" in page
    assert '<span class="small">boxes.csv, boxes.md, boxes.tex</span>' in page
    assert "<h2>boxes" not in page


@needs_chromium
@pytest.mark.parametrize("width", [1200, 800, 390])
def test_write_html_no_table_is_wider_than_the_window(report: Path, width: int) -> None:
    with browsing() as page:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(report.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.eval_on_selector_all("table", CUT) == 0
        # On a phone every number stands beside its column's title.
        assert page.locator("thead").first.is_visible() == (width > 640)


@needs_chromium
def test_write_html_no_table_is_wider_than_printed_paper(make_trial: MakeTrial, tmp_path: Path) -> None:
    metrics = [metric for metric in METRICS if METRICS[metric].share][:8]
    scores = {f"{one}/test/{metric}": 0.75 for one, metric in product(METHODS, metrics)}
    trials = [make_trial(f"{seed:032}", seed, {}, {k: v + seed / 64 for k, v in scores.items()}) for seed in range(3)]
    build_report(contents_of("wide", None, trials, [TableSpec(metrics=tuple(metrics))]), tmp_path, tmp_path / "out")
    with browsing() as page:
        page.emulate_media(media="print")
        page.set_viewport_size({"width": A4, "height": 1000})
        page.goto((tmp_path / "out" / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == A4
