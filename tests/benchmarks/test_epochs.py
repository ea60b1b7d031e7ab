"""Epochs that are timed in turn, each contender's in a process of its own."""

from __future__ import annotations

import os
import signal

import epochs
import pytest


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def broken() -> None:
    raise ValueError("no such epoch")


def test_contender_whose_process_is_gone_is_noted_and_the_others_are_timed(capfd: pytest.CaptureFixture[str]) -> None:
    contenders: dict[str, epochs.Epoch] = {"killed": killed, "broken": broken, "engine": lambda: 0.25}
    found = epochs.timed(contenders, dict.fromkeys(contenders, 8), "cpu", seconds=0.0)
    assert found["killed"]["failed"] == f"RuntimeError: its process has ended ({-signal.SIGKILL})"
    assert found["broken"]["failed"] == "RuntimeError: ValueError: no such epoch"
    assert [len(values["seconds"]) for values in found.values()] == [0, 0, 1]
    assert found["engine"]["waiting_share"] == 0.25
    assert found["engine"]["images_per_second"] > 0
    assert "its process has ended" in capfd.readouterr().err
