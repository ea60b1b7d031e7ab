from __future__ import annotations

from pathlib import Path

import pytest

from lchp.store.checks import Damaged
from lchp.store.folder import StageFolder
from lchp.store.selection import (
    EVALUATED,
    TRAINING,
    SelectionRow,
    own_rule,
    quality,
    selection_rows,
    selection_text,
)

ROWS = [
    SelectionRow(0.1, 30, 0.1 + 0.2, 40, EVALUATED, None, 0.625, True),
    SelectionRow(None, 20, 0.5, 40, EVALUATED, 0.5, 0.625, False),
    SelectionRow(0.1, 0, None, 36, TRAINING, None, None, True),
]


def stored(folder: Path, text: str) -> StageFolder:
    (folder / "selection.csv").write_text(text, encoding="utf-8")
    return StageFolder(folder)


def test_selection_text_is_read_back_as_it_was(tmp_path: Path) -> None:
    assert stored(tmp_path, selection_text(ROWS)).selection_rows() == ROWS


def test_selection_rows_of_version_0_1_are_of_the_evaluated_views(tmp_path: Path) -> None:
    rows = stored(tmp_path, "tau,selected,gt_known,total\n0.0,4,0.5,4\n0.9,0,,4\n").selection_rows()
    assert rows == [
        SelectionRow(0.0, 4, 0.5, 4, EVALUATED, None, None, False),
        SelectionRow(0.9, 0, None, 4, EVALUATED, None, None, False),
    ]
    assert own_rule(rows) is None
    assert quality(rows) == {}


def test_selection_rows_of_another_table_are_damaged(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match=r"selection\.csv"):
        stored(tmp_path, "tau,selected\n0.0,4\n").selection_rows()
    with pytest.raises(Damaged, match=r"selection\.csv"):
        stored(tmp_path, "tau,selected,gt_known,total\nall,4,,4\n").selection_rows()


def test_selection_rows_without_a_file_are_none(tmp_path: Path) -> None:
    assert StageFolder(tmp_path).selection_rows() == selection_rows([]) == []


def test_quality_is_that_of_the_trials_own_rule_by_its_views() -> None:
    assert quality(ROWS) == {
        "confidence/train/selected": 0.0,
        "confidence/train/n": 36.0,
        "confidence/train/evaluated_views/auc": 0.625,
        "confidence/train/evaluated_views/selected": 0.75,
        "confidence/train/evaluated_views/gt_known": 0.1 + 0.2,
        "confidence/train/evaluated_views/n": 40.0,
    }
