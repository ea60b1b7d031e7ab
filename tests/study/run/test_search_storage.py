"""Searches that are kept in a database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import Trial

import tests.study.written as written
from lchp.errors import Refusal
from lchp.store.study_folder import SEARCH_KEY, StudyFolder
from lchp.study.run import optuna_storage
from lchp.study.run.held import held_by, write_held
from lchp.study.run.ledger import Entry
from lchp.study.run.optuna_search import ContinuedSearch
from lchp.study.run.optuna_storage import STORAGE, open_search, require_storage, set_search_aside
from lchp.study.run.search_repair import restored_search

SEARCH = written.TINY + "search: {trials: 9, sampler: random, space: {tau: {low: 0.0, high: 1.0}, alpha: [1.0, 2.0]}}\n"


def claimed(folder: Path, key: str) -> Path:
    """The folder of a study that has this key in databases."""
    folder.mkdir(exist_ok=True)
    StudyFolder(folder).configuration.write_text(json.dumps({SEARCH_KEY: key}), encoding="utf-8")
    return folder


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty database, which is that of searches."""
    file = claimed(tmp_path, "mine") / "searches.db"
    monkeypatch.setenv(STORAGE, f"sqlite:///{file}")
    yield file
    storage = optuna_storage._database(f"sqlite:///{file}")
    storage.remove_session()
    storage.engine.dispose()
    optuna_storage._database.cache_clear()


def search(folder: Path, text: str = SEARCH) -> ContinuedSearch:
    """The search over a study's folder, which is ``folder``."""
    return ContinuedSearch(written.load(folder, text), folder, lambda *told: pytest.fail(str(told)))


def suggested(folder: Path, count: int, text: str = SEARCH) -> list[dict[str, Any]]:
    searcher, found = search(folder, text), []
    for _ in range(count):
        trial = searcher.next()
        assert trial is not None
        searcher.tell(trial, trial.config.tau)
        found.append(trial.varied)
    return found


def test_search_in_a_database_suggests_what_one_in_a_journal_does_and_leaves_no_journal(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = suggested(tmp_path, 2) + suggested(tmp_path, 2)
    assert database.is_file()
    assert not (tmp_path / "optuna.journal").exists()
    monkeypatch.delenv(STORAGE)
    assert suggested(tmp_path, 4) == found


def test_searches_of_one_study_in_one_database_are_told_apart_and_none_is_deleted(
    database: Path, tmp_path: Path
) -> None:
    folders = [claimed(tmp_path / name, name) for name in "ab"]
    for folder in folders:
        suggested(folder, 1)
    assert [len(open_search("tiny", folder).get_trials()) for folder in folders] == [1, 1]
    assert set_search_aside("tiny", claimed(tmp_path / "c", "c")) is None
    for old in ("tiny a", "tiny a 2"):
        assert set_search_aside("tiny", folders[0]) == f"left there as {old!r}"
        assert [len(open_search("tiny", folder).get_trials()) for folder in folders] == [0, 1]
        suggested(folders[0], 1)
    names = sorted(optuna.get_all_study_names(optuna_storage._database(f"sqlite:///{database}")))
    assert names == ["tiny a", "tiny a 2", "tiny a 3", "tiny b"]


def test_hold_gives_every_search_a_key_of_its_own_once(tmp_path: Path) -> None:
    study, keys = written.load(tmp_path, SEARCH), []
    for name in "ab":
        (tmp_path / name).mkdir()
        write_held(study, tmp_path / name, {}, "study-0", None)
        held = held_by(tmp_path / name)
        assert held is not None
        assert held.current
        keys.append(held.search_key)
    assert len({*keys}) == 2
    write_held(study, tmp_path / "a", {}, "study-0", keys[0])
    assert json.loads((tmp_path / "a/study.json").read_text(encoding="utf-8"))[SEARCH_KEY] == keys[0]


def test_restored_search_that_the_database_does_not_know_is_made_from_the_trials(
    database: Path, tmp_path: Path
) -> None:
    study, said = written.load(tmp_path, SEARCH), list[str]()
    entries = [Entry("#0", 0, {"tau": 0.5, "alpha": 1.0}, "trial/0", 4, 0)]
    stored = restored_search(study, tmp_path, entries, tmp_path, said.append)
    assert [trial.params for trial in stored.get_trials()] == [{"tau": 0.5, "alpha": 1.0}]
    assert said == [f"the search in sqlite:///{database} lacked 1 suggestions: completed from the trials"]


@pytest.mark.parametrize("written_values", [0, 1])
@pytest.mark.parametrize("first", ["", "first: [{alpha: 2.0}, {alpha: 1.0}], "])
def test_restored_search_whose_last_suggestion_is_in_the_database_in_part_suggests_the_same(
    database: Path, tmp_path: Path, written_values: int, first: str
) -> None:
    text = SEARCH.replace("{trials", f"{{{first}trials")
    whole = suggested(claimed(tmp_path / "whole", "whole"), 2, text)
    suggested(tmp_path, 1, text)
    suggest, count = Trial._suggest, 0

    def killed(*arguments: Any) -> Any:
        nonlocal count
        if count == written_values:
            raise KeyboardInterrupt
        count += 1
        return suggest(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trial, "_suggest", killed)
        with pytest.raises(KeyboardInterrupt):
            suggested(tmp_path, 1, text)
    stored = restored_search(written.load(tmp_path, text), tmp_path, [], tmp_path, pytest.fail)
    assert [trial.params for trial in stored.get_trials()] == whole


@pytest.mark.parametrize(
    ("url", "reason"),
    [("postgresql://me:secret@localhost:1/searches", "lchp[postgresql]"), ("nothing", "nothing: cannot be opened")],
)
def test_require_storage_that_cannot_be_opened_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    monkeypatch.setenv(STORAGE, url)
    with pytest.raises(Refusal) as caught:
        require_storage()
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)
