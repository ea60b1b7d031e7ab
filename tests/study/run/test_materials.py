"""What of a study is finished, on a machine that shares a store with others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lchp.store import file_system
from lchp.store.exchange import keeps, leave_checkpoint
from lchp.store.folder import StageFolder
from lchp.store.milestones import Milestones
from lchp.store.shared import SharedFolder, StoreAway
from lchp.study.run.materials import Materials
from lchp.training.config import TrialConfig
from lchp.training.material import Runtime
from tests.store.test_folder import RESULT


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Materials:
    """A machine that has finished the initialization a and begun b before it shares its store."""
    monkeypatch.setattr("lchp.store.shared._PAUSES", ())
    store = tmp_path / "here"
    for name in "ab":
        stage = StageFolder(store / f"initialization/{name}")
        with stage.lock():
            stage.save_checkpoint({"history": "[]"})
    StageFolder(store / "initialization/a").finish(RESULT, store / "milestones/m/2.pt")
    return Materials(Runtime(store, tmp_path / "cache", shared=str(tmp_path / "shared")))


def away(uri: str) -> None:
    raise OSError("no route to host")


def there(materials: Materials, place: str) -> SharedFolder:
    assert materials.runtime.shared is not None
    return SharedFolder(materials.runtime.shared, place)


def test_has_leaves_what_was_finished_before_the_store_was_shared_and_asks_once(
    here: Materials, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert here.has("initialization/a", pytest.fail)
    assert there(here, "initialization/a").has("manifest.json")
    monkeypatch.setattr(file_system, "opened", away)
    assert here.has("initialization/a", pytest.fail)


def test_has_brings_what_is_finished_and_no_checkpoint(here: Materials, tmp_path: Path) -> None:
    assert here.has("initialization/a", pytest.fail)
    begun = StageFolder(here.runtime.store / "initialization/b", there(here, "initialization/b"))
    leave_checkpoint(begun)
    other = Materials(Runtime(tmp_path / "other", tmp_path / "cache", shared=here.runtime.shared))
    # One that trains here has a checkpoint of its own, of which nothing is left when another has finished.
    StageFolder(tmp_path / "other/initialization/a").save_checkpoint({"history": "[]"})
    assert other.has("initialization/a", pytest.fail)
    assert not other.has("initialization/b", pytest.fail)
    assert not list((tmp_path / "other").rglob("checkpoint.pt"))
    trained = StageFolder(tmp_path / "other/initialization/b", begun.shared)
    assert not keeps(trained, pytest.fail)
    assert trained.has_checkpoint


def test_has_of_what_is_here_does_not_need_the_store_that_is_away(
    here: Materials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_system, "opened", away)
    said: list[str] = []
    assert here.has("initialization/a", said.append)
    assert [line.endswith("left there when the command is run again") for line in said] == [True]
    assert here.has("initialization/a", pytest.fail)
    with pytest.raises(StoreAway):
        here.has("initialization/b", pytest.fail)


@pytest.mark.parametrize("opened", [file_system.opened, away])
def test_offer_leaves_stages_and_milestones_that_are_here(
    here: Materials, monkeypatch: pytest.MonkeyPatch, opened: Callable[[str], Any]
) -> None:
    store, config = here.runtime.store, TrialConfig.model_validate({"initialization": {"epochs": 2}})
    courses = SimpleNamespace(
        initialization_course=lambda _: Milestones(store / "milestones/m", there(here, "milestones/m")),
        trial_course=lambda _: Milestones(store / "milestones/n", there(here, "milestones/n")),
    )
    monkeypatch.setattr(here, "of", lambda _: courses)
    monkeypatch.setattr(here, "stages", lambda _: {store / f"initialization/{name}": store for name in "ab"})
    monkeypatch.setattr(file_system, "opened", opened)
    said: list[str] = []
    here.offer(config, said.append)
    here.offer(config, pytest.fail)
    assert len(said) == (opened is away)
    monkeypatch.undo()
    monkeypatch.setattr("lchp.store.shared._PAUSES", ())
    assert there(here, "initialization/a").has("manifest.json") is (opened is not away)
    assert there(here, "milestones/m").has("2.json") is (opened is not away)
    assert there(here, "initialization/b").names() == there(here, "milestones/n").names() == []
