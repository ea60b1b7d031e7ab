"""The benchmark of predictions times what `lchp predict` does."""

from __future__ import annotations

from pathlib import Path

import cases
import predicting
import pytest

from lchp.store.localizer import Localizer


def test_predictions_are_timed_of_a_model_whose_boxes_differ(tmp_path: Path) -> None:
    case = cases.CASES["tiny"]
    cases.draw_images(case, tmp_path, workers=1)
    files = [str(file) for file in sorted((tmp_path / "test").rglob("*.jpg"))]
    found = predicting.predicted(
        Localizer(predicting.model_of(cases.configured(case, tmp_path, {}), case.classes)), files
    )
    assert [one.image for one in found] == files
    assert len({one.found.box for one in found}) == case.test


def test_predictions_of_a_file_that_is_no_image_are_not_timed(tmp_path: Path) -> None:
    (tmp_path / "none.jpg").write_text("no image", encoding="utf-8")
    case = cases.CASES["tiny"]
    localizer = Localizer(predicting.model_of(cases.configured(case, tmp_path, {}), case.classes))
    with pytest.raises(AssertionError):
        predicting.predicted(localizer, [str(tmp_path / "none.jpg")])
