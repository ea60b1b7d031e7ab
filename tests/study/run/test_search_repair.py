from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tests.study.small as small
from lchp.study.run.ledger import read
from lchp.study.run.optuna_storage import open_search
from lchp.study.run.search_repair import restored_search
from lchp.study.spec.load import Study
from tests.tracking.empty import put_empty_store

SEARCH = small.TINY + "search: {trials: 3, space: {tau: {low: 0.0, high: 1.0}, alpha: [1.0, 20.0]}}\n"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a search of three trials is finished."""
    folder = tmp_path_factory.mktemp("search")
    put_empty_store(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
        assert small.run(small.load(folder, SEARCH), folder) == 0
    return folder


@pytest.fixture
def own(searched: Path, tmp_path: Path) -> Path:
    """A copy of the finished search."""
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    return tmp_path


def state(study: Study, folder: Path) -> list[tuple[Any, ...]]:
    trials = open_search(study.name, folder).get_trials()
    return [(trial.number, trial.state.name, trial.value, trial.params) for trial in trials]


def half(journal: Path) -> None:
    data = journal.read_bytes()
    journal.write_bytes(data[: len(data) // 2])


def middle(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], lines[3][:10] + b"\n", *lines[4:]]))


def value(journal: Path) -> None:
    text = journal.read_text(encoding="utf-8")
    changed = text.replace('"values":[', '"values":[0.25,"was",', 1).replace(',"was",', "]}#", 1)
    line = next(line for line in changed.splitlines() if "#" in line)
    journal.write_text(changed.replace(line, line.partition("#")[0]), encoding="utf-8")


def test_restored_search_breaks_a_lock_that_a_killed_process_held(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own)
    study, folder = small.load(own, SEARCH), Path("out/tiny")
    before = state(study, folder)
    (folder / "optuna.journal.lock").symlink_to("out/tiny/optuna.journal")
    stored = restored_search(study, folder, read(folder), Path("out/.store"), print)
    stored.enqueue_trial({"tau": 0.5, "alpha": 1.0})
    assert state(study, folder)[:3] == before


@pytest.mark.parametrize("damage", [half, middle, value, Path.unlink])
def test_restored_search_damaged_journal_is_told_of_and_made_again(own: Path, damage: Callable[[Path], object]) -> None:
    study, folder = small.load(own, SEARCH), own / "out/tiny"
    before = state(study, folder)
    assert [one[:2] for one in before] == [(0, "COMPLETE"), (1, "COMPLETE"), (2, "COMPLETE")]
    damage(folder / "optuna.journal")
    said: list[str] = []
    stored = restored_search(study, folder, read(folder), own / "out/.store", said.append)
    after = [(trial.number, trial.state.name, trial.value, trial.params) for trial in stored.get_trials()]
    if damage is half:
        # A suggestion that was under way where the journal ends goes on, and its trial is found done.
        assert [one[3] for one in after] == [one[3] for one in before]
        assert {one[1] for one in after} <= {"COMPLETE", "RUNNING"}
    else:
        assert after == before
    assert said
    assert all("optuna.journal" in line for line in said)
    assert [file.name for file in folder.glob("*.damaged-*")] == (
        ["optuna.journal.damaged-1"] if damage in (middle, value) else []
    )
    quiet: list[str] = []
    restored_search(study, folder, read(folder), own / "out/.store", quiet.append)
    assert quiet == []


@pytest.mark.parametrize("fault", [PermissionError(13, "Permission denied"), MemoryError()])
def test_restored_search_that_the_machine_keeps_from_reading_leaves_the_journal(
    own: Path, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, folder = small.load(own, SEARCH), own / "out/tiny"
    journal = (folder / "optuna.journal").read_bytes()

    def failing(*_: object) -> None:
        raise fault

    monkeypatch.setattr("lchp.study.run.search_repair.open_search", failing)
    with pytest.raises(type(fault)):
        restored_search(study, folder, read(folder), own / "out/.store", pytest.fail)
    assert (folder / "optuna.journal").read_bytes() == journal


def test_restored_search_cut_at_any_place_suggests_the_same(own: Path) -> None:
    study, folder = small.load(own, SEARCH), own / "out/tiny"
    before = [one[3] for one in state(study, folder)]
    journal = folder / "optuna.journal"
    whole = journal.read_bytes()
    for end in range(0, len(whole), 97):
        journal.write_bytes(whole[:end])
        stored = restored_search(study, folder, read(folder), own / "out/.store", lambda line: None)
        assert [trial.params for trial in stored.get_trials()] == before, end
        assert not list(folder.glob("*.damaged-*")), end


def test_restored_search_without_known_trials_is_what_the_journal_says(own: Path) -> None:
    study, folder = small.load(own, SEARCH), own / "out/tiny"
    before = state(study, folder)
    restored_search(study, folder, [], own / "out/.store", pytest.fail)
    assert state(study, folder) == before


@pytest.mark.parametrize("damage", [half, middle])
def test_run_study_search_with_a_damaged_journal_and_a_damaged_trial_ends_the_same(
    own: Path, damage: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
    folder = own / "out/tiny"
    before = {name: (folder / name).read_bytes() for name in ("results.csv", "best.json")}
    trial = own / "out/.store" / read(folder)[1].folder
    half(trial / "scores.json")
    damage(folder / "optuna.journal")
    said: list[str] = []
    assert small.run(small.load(own, SEARCH), own, said) == 0
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert [line for line in said if "optuna.journal" in line]
    assert len([line for line in said if f"{trial}: scores.json has" in line]) == 1
