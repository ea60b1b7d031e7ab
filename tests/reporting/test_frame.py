from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from lchp.reporting.frame import TrialRow, collect, results_text
from tests.reporting.conftest import MakeTrial


def test_collect_columns_and_order_are_those_of_results_csv(delta_trials: list[TrialRow]) -> None:
    frame = collect("birds", delta_trials)
    assert list(frame.columns) == ["study", "run_id", "seed", "delta", "method", "split", "metric", "value"]
    assert frame.iloc[0].to_list() == ["birds", "r1", 0, 0.7, "pseudo_label", "test", "gt_known", 0.25]
    assert frame["method"][:6].to_list() == [
        "pseudo_label",
        "lchp_i",
        "lchp_r",
        "lchp_r",
        "whole_image",
        "centred_box",
    ]
    assert frame["split"][2:4].to_list() == ["val", "test"]
    assert frame["run_id"].to_list() == ["r1"] * 6 + ["r2"] * 6 + ["r3"] * 6


def test_write_results_numbers_read_back_bit_for_bit(make_trial: MakeTrial, tmp_path: Path) -> None:
    value = 0.1 + 0.2
    trials = [
        make_trial(
            "r1", 3, {"delta": 0.7, "augmentation": "none", "epochs": 2, "gone": None}, {"lchp_r/val/gt_known": value}
        ),
        make_trial("r2", 3, {"delta": 1 / 3, "augmentation": "scale+flip", "epochs": 2, "gone": 1}, {}),
    ]
    (tmp_path / "results.csv").write_text(results_text(collect("s", trials)), encoding="utf-8")
    text = (tmp_path / "results.csv").read_text(encoding="utf-8")
    assert text == (
        "study,run_id,seed,delta,augmentation,epochs,gone,method,split,metric,value\n"
        "s,r1,3,0.7,none,2,,lchp_r,val,gt_known,0.30000000000000004\n"
    )
    row = next(csv.DictReader(text.splitlines()))
    assert float(row["value"]) == value


def test_collect_trial_without_scores_is_refused_by_name(delta_trials: list[TrialRow]) -> None:
    (delta_trials[1].folder / "scores.json").unlink()
    with pytest.raises(ValueError, match=r"r2.scores\.json cannot be read.*run the study again"):
        collect("birds", delta_trials)


def test_reporting_is_imported_without_torch() -> None:
    code = (
        "import sys, lchp.reporting.build, lchp.reporting.figures; "
        "print(sorted({'torch', 'mlflow', 'ray', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
