from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lchp.reporting.differences import differences_csv, differences_markdown, differences_of
from lchp.reporting.frame import TrialRow, collect
from lchp.reporting.paired import Results
from lchp.reporting.per_image import read_rows
from lchp.reporting.sides import Side
from lchp.reporting.table import TableSpec
from lchp.reporting.tables import make_table
from lchp.store.per_image import COLUMNS
from tests.reporting.conftest import MakeTrial

IMAGES, CLASSES = 60, 6
PREDICTING = ("pseudo_label", "lchp_i", "lchp_r")


def write_images(trial: TrialRow, ious: dict[str, np.ndarray]) -> None:
    """per_image.csv of a trial: images of six classes."""
    rows = [
        [f"test/{at:03}.png", at % CLASSES, "test", method, 0, 0, 30, 20 + at % 7, iou, at % 2, 1]
        for method, values in ious.items()
        for at, iou in enumerate(values)
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame.to_csv(trial.folder / "per_image.csv", index=False)
    (trial.folder / "config.json").write_text('{"view": {"evaluation": "whole"}}')


def scores_of(ious: dict[str, np.ndarray]) -> dict[str, float]:
    hits = {f"{method}/test/gt_known": float((values >= 0.5).mean()) for method, values in ious.items()}
    return hits | {f"{method}/test/mean_iou": float(values.mean()) for method, values in ious.items()}


@pytest.fixture
def trials(make_trial: MakeTrial) -> list[TrialRow]:
    """Two deltas with three seeds each, LCHP-R by far the best at 0.7."""
    generator = np.random.default_rng(0)
    made = []
    for delta, lift in ((0.5, 0.0), (0.7, 0.2)):
        for seed in range(3):
            base = generator.uniform(0.2, 0.7, IMAGES)
            noise = generator.normal(0, 0.03, IMAGES)
            ious = {"pseudo_label": base, "lchp_i": base + 0.05 + noise, "lchp_r": base + 0.06 + lift + seed / 1000}
            trial = make_trial(f"{delta}-{seed}", seed, {"delta": delta}, scores_of(ious))
            write_images(trial, ious)
            made.append(trial)
    return made


def test_results_difference_of_images_is_that_of_the_scores(trials: list[TrialRow]) -> None:
    results = Results(collect("s", trials), "test", trials)
    sides = Side({"delta": 0.7}, "lchp_r"), Side({"delta": 0.7}, "lchp_i")
    for metric in ("gt_known", "mean_iou"):
        found = results.compare(*sides, metric)
        assert found is not None
        assert (len(found.by_seed), found.images) == (3, IMAGES)
        assert found.these_seeds is not None
        middle = (found.these_seeds.low + found.these_seeds.high) / 2
        assert middle == pytest.approx(found.difference)


def test_results_rows_of_a_csv_alone_give_the_same_seeds_and_no_images(trials: list[TrialRow]) -> None:
    frame = collect("s", trials)
    read = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    sides = Side({"delta": 0.7}, "lchp_r"), Side({"delta": 0.5}, "lchp_r")
    found, with_images = Results(read, "test").compare(*sides, "gt_known"), Results(frame, "test", trials)
    assert found is not None
    other = with_images.compare(*sides, "gt_known")
    assert other is not None
    assert found.by_seed == pytest.approx(other.by_seed)
    assert (found.images, found.these_seeds) == (None, None)


def test_results_other_images_or_seeds_are_not_paired(trials: list[TrialRow]) -> None:
    write_images(trials[0], dict.fromkeys(PREDICTING, np.linspace(0, 1, IMAGES - 1)))
    results = Results(collect("s", trials), "test", trials[:5])
    found = results.compare(Side({"delta": 0.5}, "lchp_r"), Side({"delta": 0.7}, "lchp_r"), "gt_known")
    assert found is not None
    assert (len(found.by_seed), found.images) == (3, None)
    # Other drawings under the same names are told by the IoU of the whole image.
    for at, trial in enumerate(trials):
        write_images(
            trial, {**dict.fromkeys(PREDICTING, np.linspace(0, 1, IMAGES)), "whole_image": np.full(IMAGES, at)}
        )
    results = Results(collect("s", trials), "test", [replace(trial) for trial in trials])
    found = results.compare(Side({"delta": 0.7}, "lchp_r"), Side({"delta": 0.7}, "lchp_i"), "mean_iou")
    assert found is not None
    assert found.images is None
    assert results.compare(Side({"delta": 0.6}, "lchp_r"), Side({"delta": 0.7}, "lchp_r"), "gt_known") is None
    assert results.compare(Side({"delta": 0.7}, "whole_image"), Side({"delta": 0.7}, "lchp_r"), "gt_known") is None


def test_read_rows_mean_is_the_score_of_every_metric() -> None:
    measured = enumerate([(0.3, 1), (0.5, 0), (0.7, 1), (np.nan, 0)])
    rows = [[f"{at}.png", 0, "val", "lchp_i", 0, 0, 1, 1, iou, top1, 1] for at, (iou, top1) in measured]
    values = read_rows(pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False).encode())["val"].values
    expected = {
        "gt_known": 2 / 3, "box_acc_30": 1, "box_acc_70": 1 / 3, "mean_box_acc": 2 / 3, "mean_iou": 0.5,
        "top1_loc": 1 / 3, "top5_loc": 2 / 3, "top1_cls": 0.5,
    }  # fmt: skip
    for metric, mean in expected.items():
        found = values.values("lchp_i", metric)
        assert found is not None
        assert np.nanmean(found) == pytest.approx(mean)
    assert values.values("lchp_i", "log_area_mean") is values.values("lchp_r", "gt_known") is None


def test_differences_are_adjusted_over_the_table_and_name_n(trials: list[TrialRow]) -> None:
    frame = collect("s", trials)
    table = make_table(TableSpec(by=("delta",), own={"delta": 0.5}), frame, trials)
    made = differences_of(table, Results(frame, "test", trials))
    assert [(line.at, line.text) for line in made.lines] == [
        *((f"delta = {delta}", text) for delta in (0.5, 0.7) for text in ("LCHP-I − Pseudo Label", "LCHP-R − LCHP-I")),
        ("LCHP-R", "delta = 0.7 − 0.5"),
    ]
    for line in made.lines:
        raw = line.found.new_seeds
        assert raw is None or (line.new_seeds_p is not None and line.new_seeds_p >= raw.p)
    text = differences_markdown([made])
    assert f"n: 3 seeds, {IMAGES} images." in text
    assert "| LCHP-R | delta = 0.7 − 0.5 |" in text
    rows = pd.read_csv(io.StringIO(differences_csv([made])))
    assert rows["mean"].to_list() == pytest.approx([line.found.difference for line in made.lines])
    assert rows["these_seeds_p_holm"].count() == 5


def test_differences_of_the_classifier_are_between_settings_alone(trials: list[TrialRow]) -> None:
    frame = collect("s", trials)
    frame = frame[frame["metric"] == "gt_known"].assign(metric="top1_cls")
    table = make_table(TableSpec(by=("delta",), metrics=("top1_cls",), own={"delta": 0.5}), frame, trials)
    (line,) = differences_of(table, Results(frame, "test")).lines
    assert (line.at, line.text) == ("Classifier", "delta = 0.7 − 0.5")


def test_differences_of_one_seed_make_no_statement_on_seeds(trials: list[TrialRow], tmp_path: Path) -> None:
    frame = collect("s", trials[:1])
    made = differences_of(make_table(TableSpec(), frame, trials[:1]), Results(frame, "test", trials[:1]))
    assert [row[3] for row in made.rows()] == ["one seed: no statement"] * 2
    assert all(row[5].startswith("[") for row in made.rows())
