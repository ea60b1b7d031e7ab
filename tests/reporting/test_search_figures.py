from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lchp.reporting.figures import save
from lchp.reporting.frame import collect
from lchp.reporting.gallery import pictures_of
from lchp.reporting.importance import importances
from lchp.reporting.search_figures import FEWEST, can_weigh, mattered, tried
from lchp.reporting.table import Table, TableSpec
from lchp.reporting.tables import make_table
from lchp.store.study_folder import StudyFolder
from tests.reporting.conftest import MakeTrial


def test_tried_has_a_panel_for_the_order_and_for_every_key_with_the_best_one_in_red(make_trial: MakeTrial) -> None:
    reached = [0.2, 0.6, 0.4]
    trials = [
        make_trial(str(number), 0, {"delta": number / 10, "augmentation": word}, {"lchp_r/test/gt_known": value})
        for number, (value, word) in enumerate(zip(reached, ("none", "flip", "none"), strict=True))
    ]
    table = make_table(TableSpec(by=("delta", "augmentation")), collect("s", trials), trials)
    assert (table.is_map, table.is_search) == (False, True)
    order, delta, words = (axes for axes in tried(table).axes if axes.axison)
    assert [axes.get_xlabel() for axes in (order, delta, words)] == ["suggestion", "delta", "augmentation"]
    assert order.lines[0].get_ydata().tolist() == pytest.approx([20, 60, 60])
    assert delta.collections[0].get_offsets().tolist() == pytest.approx(np.array([[0, 20], [0.1, 60], [0.2, 40]]))
    assert delta.collections[1].get_offsets().tolist() == pytest.approx(np.array([[0.1, 60]]))
    assert [text.get_text() for text in words.get_xticklabels()] == ["none", "flip"]


def table_of(make_trial: MakeTrial, count: int) -> Table:
    """A search of so many suggestions, of which delta decides and the augmentation does nothing."""
    trials = [
        make_trial(
            f"{count} {number}",
            0,
            {"delta": number / 20, "augmentation": ("none", "flip")[number % 2]},
            {"lchp_r/test/gt_known": 0.2 + number / 40},
        )
        for number in range(count)
    ]
    return make_table(TableSpec(by=("delta", "augmentation")), collect("s", trials), trials)


def test_mattered_has_a_bar_for_every_key_and_a_line_for_every_suggestion(
    make_trial: MakeTrial, tmp_path: Path
) -> None:
    table = table_of(make_trial, 20)
    assert can_weigh(table)
    bars, lines = mattered(table).axes
    assert [text.get_text() for text in bars.get_yticklabels()] == ["delta", "augmentation"]
    weights = [bar.get_width() for bar in bars.patches]
    assert weights[0] > 0.8
    assert sum(weights) == pytest.approx(1)
    drawn = [line for line in lines.lines if len(line.get_xdata()) == 3]
    assert len(drawn) == 20
    # The best one is drawn last.
    assert np.asarray(drawn[-1].get_ydata()).tolist() == [1.0, 1.0, 1.0]
    assert [text.get_text() for text in lines.get_xticklabels()] == ["delta", "augmentation", "GT-Known on test, %"]
    written = []
    for _ in range(2):
        save(mattered(table), tmp_path / "importance.png", vector=True)
        written.append([(tmp_path / f"importance.{ending}").read_bytes() for ending in ("png", "svg")])
    assert written[0] == written[1]


def test_mattered_is_drawn_where_enough_suggestions_are_finished(make_trial: MakeTrial, tmp_path: Path) -> None:
    for count, drawn in ((FEWEST - 1, False), (FEWEST, True)):
        table = table_of(make_trial, count)
        assert can_weigh(table) is drawn
        trials = [make_trial(f"{count} more", 0, {"delta": 0.5, "augmentation": "none"}, {"lchp_r/test/gt_known": 0.5})]
        files = [picture.file.name for picture in pictures_of([table], trials, StudyFolder(tmp_path))]
        assert ("importance.png" in files) is drawn
        assert "search.png" in files


def test_importances_do_not_depend_on_how_a_range_is_scaled() -> None:
    values = np.arange(12.0)
    rates, words = [10.0**number for number in range(12)], ["a", "b"] * 6
    found = importances({"rate": rates, "word": words}, values)
    assert found == importances({"rate": list(range(12)), "word": words}, values)
    assert list(found) == ["rate", "word"]
