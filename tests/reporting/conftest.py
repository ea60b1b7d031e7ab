from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lchp.reporting.contents import Contents, Listed
from lchp.reporting.frame import TrialRow
from lchp.reporting.table import TableSpec

ENVIRONMENT = {
    "commit": "abc123",
    "versions": {"python": "3.11.7", "lchp": "0.1.0", "torch": "2.15.0", "torchvision": "0.29.2"},
    "cpu": "Some CPU_X",
    "device": "cpu",
}
HISTORY = [
    {
        "stage": stage,
        "epoch": epoch,
        "step": step,
        "metrics": {f"train/{stage}/loss": 1.0 / step, f"train/{stage}/other": 2.0, "lchp_i/val/gt_known": 0.5},
        "seconds": 1.0,
        "reused": False,
    }
    for step, (stage, epoch) in enumerate([("initialization", 1), ("initialization", 2), ("refinement", 1)], 1)
]
MakeTrial = Callable[..., TrialRow]


def contents_of(
    study: str, question: str | None, trials: Sequence[TrialRow], specs: Sequence[TableSpec], **more: Any
) -> Contents:
    """What a report on these trials is made of."""
    listed = tuple(Listed(one.run_id, one.seed, one.varied, str(one.folder)) for one in trials)
    return Contents(study, question, tuple(specs), listed, **more)


@pytest.fixture
def make_trial(tmp_path: Path) -> MakeTrial:
    """Writes the folder of a finished trial and gives its row."""

    def make(
        run_id: str,
        seed: int,
        varied: dict[str, Any],
        scores: Mapping[str, float],
        environment: Mapping[str, Any] = ENVIRONMENT,
        selection: str | None = None,
    ) -> TrialRow:
        folder = tmp_path / "trials" / run_id
        folder.mkdir(parents=True)
        for name, value in {"scores.json": scores, "environment.json": environment, "history.json": HISTORY}.items():
            (folder / name).write_text(json.dumps(value), encoding="utf-8")
        if selection is not None:
            (folder / "selection.csv").write_text(selection, encoding="utf-8")
        return TrialRow(run_id, seed, varied, folder)

    return make


@pytest.fixture
def delta_trials(make_trial: MakeTrial) -> list[TrialRow]:
    """Two deltas, the first with two seeds, the second with one; both splits."""

    def scores(pseudo: float, first: float, refined: float) -> dict[str, float]:
        return {
            "lchp_r/test/gt_known": refined,
            "pseudo_label/test/gt_known": pseudo,
            "lchp_i/test/gt_known": first,
            "whole_image/test/gt_known": 0.25,
            "centred_box/test/gt_known": 0.5,
            "lchp_r/val/gt_known": 0.125,
        }

    return [
        make_trial("r1", 0, {"delta": 0.7}, scores(0.25, 0.5, 0.75)),
        make_trial("r2", 1, {"delta": 0.7}, scores(0.5, 0.5, 0.875)),
        make_trial("r3", 0, {"delta": 0.5}, scores(0.375, 0.625, 0.625)),
    ]
