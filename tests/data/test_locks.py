from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import TextIO

import pytest

from lchp.data.locks import locked


def test_locked_file_that_was_removed_while_it_was_waited_for_is_made_and_held_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, flock = tmp_path / "stage/.lock", fcntl.flock

    def after_a_removal(file: TextIO, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        shutil.rmtree(lock.parent)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", after_a_removal)
    with locked(lock):
        assert lock.exists()
        with pytest.raises(BlockingIOError), locked(lock, wait=False):
            pass


def test_locked_shared_keeps_out_who_wants_it_alone(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with (
        locked(lock, shared=True),
        locked(lock, shared=True, wait=False),
        pytest.raises(BlockingIOError),
        locked(lock, wait=False),
    ):
        pass
    with locked(lock, wait=False):
        pass
