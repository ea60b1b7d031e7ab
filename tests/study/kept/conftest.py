from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lchp.study.run.ledger import Ledger
from tests.study.conftest import Trained


@pytest.fixture
def output(trained: Trained, tmp_path: Path) -> Path:
    """A folder of two studies, `tiny` and `other`, that share an initialization, each with a trial of its own; and a
    stage that neither has, a damaged one and a file half-written.
    """
    output = tmp_path / "out"
    shutil.copytree(trained.output, output)
    store = output / ".store"
    for name in ("00000000000000aa", "00000000000000bb", "00000000000000cc.damaged-1"):
        shutil.copytree(store / trained.entry.folder, store / "trial" / name)
    other = replace(trained.entry, folder="trial/00000000000000aa", run_id="fedcba9876543210fedcba9876543210")
    Ledger(output / "other", [other]).write()
    (store / trained.entry.folder / ".networks.4194305.pt").write_bytes(bytes(100))
    (output / "tiny/table.md").write_text("a table", encoding="utf-8")
    return output
