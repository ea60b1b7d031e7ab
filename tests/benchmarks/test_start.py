"""The scripts that measure how commands start and how long they are silent."""

from __future__ import annotations

import heard
import pytest
import start


@pytest.mark.parametrize("terminal", [False, True])
def test_heard_tells_first_output_and_longest_gap(terminal: bool) -> None:
    first, gap, whole, code = heard.heard("sleep 0.2; echo one; sleep 0.6; echo two >&2; exit 3", terminal)
    assert code == 3
    assert first >= 0.2
    # The first line may be read late, and the second not before it was written.
    assert gap > 0
    assert first + gap >= 0.8
    assert whole >= first + gap


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("/r/raylet/raylet --python_worker_command=python default_worker.py --agent", "raylet and head"),
        ("ray::DashboardAgent", "Ray's agents"),
        ("ray::IDLE", "idle workers"),
        ("ray::ResourceTrainable.train", "worker that trains"),
        ("python -c from lchp.study.run.ray_process import main", "process that talks to Ray"),
        ("python -c from lchp.cli import main; main()", "command"),
        ("bash", "others"),
    ],
)
def test_processes_of_a_start_are_told_apart(command: str, kind: str) -> None:
    assert start.kind(command) == kind
