"""Trainings that are alike but for their length: the longer one goes on from where the shorter one ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lchp.training.config import TrialConfig
from lchp.training.material import Runtime
from lchp.training.stages import EpochReport
from lchp.training.trial import run_trial

from .tiny import assert_same_results, folders, history, tiny, train

LENGTHS = (2, 3, 5)


def of_length(stage: str, epochs: int, **changes: Any) -> TrialConfig:
    """The tiny trial with so many epochs in a stage, and few in the other; val is measured after every second one."""
    few = {"initialization": {"epochs": 2}, "refinement": {"epochs": 1}}
    return tiny(**{**few, stage: {"epochs": epochs, **changes}, "evaluation": {"batch_size": 16, "every": 2}})


def trained(reports: list[EpochReport], stage: str) -> list[int]:
    """The epochs of a stage that were trained and not read."""
    return [report.epoch for report in reports if report.stage == stage and not report.reused]


@pytest.fixture(scope="module", params=["initialization", "refinement"])
def stage(request: pytest.FixtureRequest) -> str:
    """The stage whose length varies."""
    return str(request.param)


@pytest.fixture(scope="module")
def one_store(tmp_path_factory: pytest.TempPathFactory, cache: Path, stage: str) -> tuple[Runtime, list[list[int]]]:
    """A store in which every length was trained, the shorter ones first, and the epochs that each then trained."""
    runtime = Runtime(tmp_path_factory.mktemp("lengths"), cache)
    return runtime, [trained(train(of_length(stage, epochs), runtime), stage) for epochs in LENGTHS]


def test_trial_of_more_epochs_trains_those_alone(one_store: tuple[Runtime, list[list[int]]]) -> None:
    assert one_store[1] == [[1, 2], [3], [4, 5]]


@pytest.mark.parametrize("epochs", LENGTHS)
def test_trial_of_more_epochs_has_the_bits_of_one_trained_alone(
    one_store: tuple[Runtime, list[list[int]]], stage: str, epochs: int, runtime: Runtime
) -> None:
    config = of_length(stage, epochs)
    train(config, runtime)
    for together, alone in zip(folders(config, one_store[0]), folders(config, runtime), strict=True):
        assert_same_results(together, alone)


def test_trial_of_more_epochs_was_measured_on_val_when_it_would_have_been_alone(
    one_store: tuple[Runtime, list[list[int]]], stage: str
) -> None:
    _, trial = folders(of_length(stage, 5), one_store[0])
    measured = [
        epoch["epoch"]
        for epoch in history(trial)
        if epoch["stage"] == stage and any("/val/" in name for name in epoch["metrics"])
    ]
    assert measured == [2, 4, 5]


def test_trial_whose_rate_looks_ahead_to_its_end_trains_every_epoch(runtime: Runtime, stage: str) -> None:
    for epochs in (2, 3):
        reports = train(of_length(stage, epochs, schedule="cosine"), runtime)
        assert trained(reports, stage) == list(range(1, epochs + 1))


def test_trial_damaged_after_it_ended_is_measured_again_and_not_trained(runtime: Runtime, stage: str) -> None:
    config = of_length(stage, 2)
    train(config, runtime)
    initialization, trial = folders(config, runtime)
    folder = trial if stage == "refinement" else initialization
    before = (folder / "scores.json").read_bytes()
    for damaged in {folder, trial}:
        (damaged / "scores.json").write_text(json.dumps({"lchp_i/test/gt_known": 1.0}), encoding="utf-8")
    assert trained(train(config, runtime), stage) == []
    assert (folder / "scores.json").read_bytes() == before


def test_trial_milestone_that_is_damaged_is_told_of_and_what_it_spared_is_trained(runtime: Runtime, stage: str) -> None:
    train(of_length(stage, 2), runtime)
    for file in (runtime.store / "milestones").glob("*/2.pt"):
        file.write_bytes(file.read_bytes()[:-100])
    said: list[str] = []
    reports: list[EpochReport] = []
    run_trial(of_length(stage, 3), runtime, reports.append, say=said.append)
    assert trained(reports, stage) == [1, 2, 3]
    assert len(said) == 1
    assert "2.pt cannot be read" in said[0]
    assert "set aside as 2.pt.damaged-1" in said[0]
