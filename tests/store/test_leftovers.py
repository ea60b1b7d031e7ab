from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lchp.data.files import replacing
from lchp.store.folder import StageFolder
from lchp.store.leftovers import sweep

LEFT = ".networks.123.pt"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[StageFolder]:
    """A stage whose process was killed while it wrote its networks, and in which another process writes now."""
    folder = tmp_path / "initialization" / ("0" * 64)
    folder.mkdir(parents=True)
    for name in (LEFT, ".lock", "networks.pt", "networks.123.pt"):
        (folder / name).write_text(name, encoding="utf-8")
    # Another machine's checkpoint, which it looked at.
    (folder / ".shared-abc").mkdir()
    (folder / ".shared-abc/checkpoint.pt").touch()
    with replacing(folder / "scores.json"):
        yield StageFolder(folder)


def names(stage: StageFolder) -> set[str]:
    return {file.name for file in stage.path.iterdir()}


def test_sweep_removes_what_a_process_that_is_gone_was_writing_and_nothing_else(stage: StageFolder) -> None:
    before = names(stage)
    sweep(stage.path.parents[1])
    assert before - names(stage) == {LEFT, ".shared-abc"}


def test_sweep_passes_over_a_stage_that_is_being_trained(stage: StageFolder) -> None:
    before = names(stage)
    with stage.lock():
        sweep(stage.path.parents[1])
    assert names(stage) == before


def test_sweep_without_a_store_does_nothing(tmp_path: Path) -> None:
    sweep(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
