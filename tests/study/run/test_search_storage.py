"""Searches that are kept in a database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.study.written as written
from lchp.errors import Refusal
from lchp.study.run import optuna_storage
from lchp.study.run.ledger import Entry
from lchp.study.run.optuna_search import ContinuedSearch
from lchp.study.run.optuna_storage import STORAGE, open_search, require_storage, set_search_aside
from lchp.study.run.search_repair import restored_search
from lchp.study.run.suggestions import is_whole

SEARCH = written.TINY + "search: {trials: 9, sampler: random, space: {tau: {low: 0.0, high: 1.0}, alpha: [1.0, 2.0]}}\n"


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty database, which is that of searches."""
    file = tmp_path / "searches.db"
    monkeypatch.setenv(STORAGE, f"sqlite:///{file}")
    yield file
    storage = optuna_storage._database(f"sqlite:///{file}")
    storage.remove_session()
    storage.engine.dispose()
    optuna_storage._database.cache_clear()


def search(folder: Path) -> ContinuedSearch:
    """The search over a study's folder, which is ``folder``."""
    return ContinuedSearch(written.load(folder, SEARCH), folder, lambda *told: pytest.fail(str(told)))


def suggested(folder: Path, count: int) -> list[dict[str, Any]]:
    searcher, found = search(folder), []
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


def test_searches_of_one_name_in_one_database_are_told_apart(database: Path, tmp_path: Path) -> None:
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
        (folder / "study.json").write_text(json.dumps({"run": f"study-{folder.name}"}), encoding="utf-8")
        suggested(folder, 1)
    assert [len(open_search("tiny", folder).get_trials()) for folder in folders] == [1, 1]
    assert set_search_aside("tiny", folders[0]) == "removed there"
    assert set_search_aside("tiny", folders[0]) is None
    assert [len(open_search("tiny", folder).get_trials()) for folder in folders] == [0, 1]


def test_restored_search_that_the_database_does_not_know_or_knows_in_part_is_made_from_the_trials(
    database: Path, tmp_path: Path
) -> None:
    study, said = written.load(tmp_path, SEARCH), list[str]()
    entries = [Entry("#0", 0, {"tau": 0.5, "alpha": 1.0}, "trial/0", 4, 0)]
    stored = restored_search(study, tmp_path, entries, tmp_path, said.append)
    assert [trial.params for trial in stored.get_trials()] == [{"tau": 0.5, "alpha": 1.0}]
    assert said == [f"the search in sqlite:///{database} lacked 1 suggestions: completed from the trials"]
    stored.ask().suggest_float("tau", 0.0, 1.0)
    stored = restored_search(study, tmp_path, entries, tmp_path, pytest.fail)
    assert study.search is not None
    assert all(is_whole(study.search, trial.params) for trial in stored.get_trials())
    assert len(stored.get_trials()) == 2


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
