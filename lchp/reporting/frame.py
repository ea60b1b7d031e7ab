"""Finished trials as tidy rows: one row per number, the columns of results.csv."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lchp.data.files import write_text

METHODS = {
    "pseudo_label": "Pseudo Label",
    "lchp_i": "LCHP-I",
    "lchp_r": "LCHP-R",
    "whole_image": "Whole image",
    "centred_box": "Best centred box",
}
"""Methods in the order of tables, with the names people read; the last two are the floors."""

METRICS = {
    "gt_known": "GT-Known",
    "top1_loc": "Top-1 Loc",
    "top5_loc": "Top-5 Loc",
    "box_acc_30": "Box accuracy at 0.3",
    "box_acc_70": "Box accuracy at 0.7",
    "mean_box_acc": "Mean box accuracy",
    "mean_iou": "Mean IoU",
    "top1_cls": "Top-1 classification",
}
"""Metrics, fractions in [0, 1], with the names people read."""

_ORDER = {name: place for place, name in enumerate((*METHODS, "val", "test", *METRICS))}


@dataclass(frozen=True)
class TrialRow:
    """A finished trial of a study: its MLflow run, its seed, the value of every varied parameter, and its folder."""

    run_id: str
    seed: int
    varied: dict[str, Any]
    folder: Path


def read_json(folder: Path, name: str) -> Any:
    """The JSON file ``name`` of a finished trial.

    Raises:
        ValueError: the file is missing or no JSON.
    """
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{folder / name} cannot be read ({error}): run the study again to complete the trial"
        ) from error


def _place(score: str) -> tuple[int, ...]:
    return tuple(_ORDER.get(part, len(_ORDER)) for part in score.split("/"))


def _rows(study: str, trial: TrialRow) -> list[dict[str, Any]]:
    scores: Mapping[str, float] = read_json(trial.folder, "scores.json")
    head = {"study": study, "run_id": trial.run_id, "seed": trial.seed, **trial.varied}
    return [
        {
            **head,
            **dict(zip(("method", "split", "metric"), score.split("/"), strict=True)),
            "value": float(scores[score]),
        }
        for score in sorted(scores, key=lambda score: (_place(score), score))
    ]


def collect(study: str, trials: Sequence[TrialRow]) -> pd.DataFrame:
    """The scores of all trials, in the order of the trials.

    Returns:
        Columns ``study, run_id, seed``, one per varied parameter, ``method, split, metric, value`` (a fraction).

    Raises:
        ValueError: a trial without scores.json.
    """
    varied = list(trials[0].varied) if trials else []
    assert all(list(trial.varied) == varied for trial in trials), "trials of one study vary the same parameters"
    rows = [row for trial in trials for row in _rows(study, trial)]
    columns = ["study", "run_id", "seed", *varied, "method", "split", "metric", "value"]
    # Objects keep 2 an int and None itself where a column holds both.
    return pd.DataFrame(rows, columns=columns, dtype=object).astype({"seed": "int64", "value": "float64"})


def write_results(frame: pd.DataFrame, path: Path) -> None:
    """Write results.csv; every number is the shortest text that reads back to the same bits."""
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))
