"""A trial whose stages are trained on several machines, each with a store of its own and one that they share."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from lchp.store.folder import StageFolder
from lchp.training.config import TrialConfig
from lchp.training.material import Material, Runtime
from lchp.training.trial import run_trial, trial_epochs

from .tiny import tiny


def machine(folder: Path, name: str, cache: Path) -> Runtime:
    return Runtime(folder / name, cache, shared=str(folder / "shared"))


def assert_same_bits(one: StageFolder, other: StageFolder) -> None:
    assert one.scores() == other.scores()
    assert one.per_image_text() == other.per_image_text()


def test_trial_goes_on_on_another_machine_where_one_was_lost(
    tmp_path: Path, cache: Path, finished: TrialConfig, shared: Runtime
) -> None:
    first, second, third = (machine(tmp_path, name, cache) for name in "abc")
    epochs = trial_epochs(finished, first)
    begun = list(islice(epochs, 1))
    del epochs
    said: list[str] = []
    seen = list(trial_epochs(finished, second, say=said.append))
    assert [epoch.reused for epoch in seen] == [True] + [False] * (len(seen) - 1)
    assert seen[0].metrics == begun[0].metrics
    expected = StageFolder(Material.prepare(finished, shared).trial_folder(finished))
    there = StageFolder(Material.prepare(finished, second).trial_folder(finished))
    assert_same_bits(there, expected)
    # A third reads it all; the first, which comes back, finds it done whatever checkpoint it has.
    for runtime in (third, first):
        assert all(epoch.reused for epoch in trial_epochs(finished, runtime, say=said.append))
        assert_same_bits(StageFolder(Material.prepare(finished, runtime).trial_folder(finished)), expected)
    assert said == []
    left = sorted(path.name for path in (tmp_path / "shared/trial").rglob("*") if "checkpoint" in path.name)
    assert left == []
    longer = finished.model_copy(
        update={"refinement": finished.refinement.model_copy(update={"epochs": finished.refinement.epochs + 1})}
    )
    fourth = machine(tmp_path, "d", cache)
    assert [epoch.reused for epoch in trial_epochs(longer, fourth)].count(False) == 1


def test_trial_damaged_in_the_shared_store_is_trained_again_to_the_same_bits(
    tmp_path: Path, cache: Path, finished: TrialConfig, shared: Runtime
) -> None:
    first, second = (machine(tmp_path, name, cache) for name in "ab")
    # What is there already is left, not trained again.
    copied = replace(shared, shared=first.shared)
    assert all(epoch.reused for epoch in trial_epochs(finished, copied))
    run_trial(finished, first, lambda epoch: pytest.fail(str(epoch)) if not epoch.reused else None)
    (networks,) = (tmp_path / "shared/trial").rglob("*.networks.pt")
    data = bytearray(networks.read_bytes())
    data[len(data) // 2] ^= 1
    networks.write_bytes(data)
    said: list[str] = []
    run_trial(finished, second, lambda epoch: None, say=said.append)
    assert len(said) == 1
    assert said[0].endswith("networks.pt is not what was written (its SHA-256 differs): set aside there, made again")
    expected = StageFolder(Material.prepare(finished, shared).trial_folder(finished))
    again = StageFolder(Material.prepare(finished, second).trial_folder(finished))
    assert_same_bits(again, expected)
    listed = json.loads(next((tmp_path / "shared/trial").rglob("manifest.json")).read_text(encoding="utf-8"))
    assert "networks.pt" in listed


def test_trial_takes_the_later_one_of_two_checkpoints(tmp_path: Path, cache: Path) -> None:
    config = tiny()
    first, second = (machine(tmp_path, name, cache) for name in "ab")
    list(islice(trial_epochs(config, first), 1))
    list(islice(trial_epochs(config, second), 2))
    assert [epoch.reused for epoch in islice(trial_epochs(config, first), 3)][:2] == [True, True]
