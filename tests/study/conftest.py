from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

import tests.study.small as small
from lchp.store.folder import StageFolder
from lchp.study.run.ledger import Entry, Ledger
from lchp.study.run.materials import Materials
from lchp.study.run.options import Machine
from lchp.study.run.trial import run_single


@dataclass(frozen=True)
class Trained:
    """A study of one finished trial."""

    output: Path
    entry: Entry
    images: Path
    """The folder of the test images, in which their paths are in the order of the split."""

    @property
    def stage(self) -> StageFolder:
        return StageFolder(self.output / ".store" / self.entry.folder)

    @property
    def run(self) -> str:
        return str(self.entry.run_id)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A study of one trial, trained without MLflow; nobody writes into it."""
    folder = tmp_path_factory.mktemp("trained")
    output, machine = folder / "out", Machine(folder / "cache", "cpu")
    config, runtime = small.load(folder, small.TINY).base, machine.runtime(output)
    run_single(config, runtime, lambda line: None)
    materials = Materials(runtime)
    entry = Entry(
        "seed=0", 0, {}, materials.folder(config), 4, 0, 4, "finished", "0123456789abcdef0123456789abcdef",
        initialization=materials.initialization(config),
    )  # fmt: skip
    Ledger(output / "tiny", [entry]).write()
    (images,) = folder.glob("cache/synthetic/*/test")
    return Trained(output, entry, images)
