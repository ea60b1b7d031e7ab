"""Searches that begin with what earlier studies know."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tests.study.written as written
from lchp.data.digest import Digest
from lchp.errors import Refusal
from lchp.store.folder import StageFolder, StageResult
from lchp.study.run.ledger import Entry, Ledger
from lchp.study.run.optuna_search import ContinuedSearch
from lchp.study.run.optuna_storage import completed, earlier_of, open_search
from lchp.study.run.search_repair import restored_search
from lchp.study.run.study import _require_search
from lchp.study.run.warm_start import earlier_trials, require_earlier
from lchp.study.spec.load import Study
from tests.reporting.test_evidence import history_of, rows_of, spread

GRID = written.TINY.replace("tiny", "before") + "vary: {tau: [0.0, 0.5, 0.9], alpha: [20.0, 30.0]}\nseeds: [0, 1]\n"
SEARCH = written.TINY + (
    "search: {trials: 2, sampler: random, warm_start: [before], space: {tau: {low: 0.0, high: 0.7}}}\n"
)
DIGEST = Digest("0" * 64, {})


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A folder in which a grid over tau and alpha is finished, whose objective is tau and, of seed 1, 0.1 more."""
    study = written.load(tmp_path, GRID)
    ledger = Ledger(tmp_path / study.name)
    for trial in study.trials:
        place = f"trial/{trial.number}"
        ledger.put(Entry(trial.name, trial.config.seed, trial.varied, place, 4, trial.number, state="finished"))
        result = StageResult(
            config=trial.config.model_dump(mode="json"),
            environment={"commit": "c", "versions": {}, "cpu": "c", "device": "cpu"},
            history=history_of(0.5, 0.0),
            scores={"lchp_r/val/gt_known": trial.config.tau + trial.config.seed / 10},
            per_image=rows_of({"lchp_r": spread}).to_csv(index=False),
            selection=None,
            dataset=DIGEST.total,
            networks={},
        )
        StageFolder(tmp_path / ".store" / place).finish(result)
    return tmp_path


def begun(study: Study, output: Path, said: list[str], digest: Digest = DIGEST) -> ContinuedSearch:
    """The search in its folder, begun with what the earlier study knows."""
    folder = output / study.name
    folder.mkdir(exist_ok=True)
    restored_search(study, folder, [], output, said.append, lambda: earlier_trials(study, output, digest, said.append))
    return ContinuedSearch(study, folder, lambda *told: pytest.fail(str(told)))


def test_search_begins_with_the_trials_that_it_could_have_suggested_and_says_why_not_others(output: Path) -> None:
    said: list[str] = []
    study = written.load(output, SEARCH)
    searcher = begun(study, output, said)
    assert said == [
        f"tiny: the search begins with 2 of 12 finished trials of {output / 'before'}; 4: seed 1; 2: another alpha; "
        "4: values outside of the space"
    ]
    stored = open_search("tiny", output / "tiny")
    assert [(trial.params["tau"], trial.value) for trial in earlier_of(stored)] == [(0.0, 0.0), (0.5, 0.5)]
    assert completed(stored) == []
    first = searcher.next()
    assert first is not None
    assert first.number == 2
    begun(study, output, said)
    assert len(said) == 1


def test_search_with_seeds_begins_with_means_over_them(output: Path) -> None:
    searcher = begun(written.load(output, SEARCH + "seeds: [1, 0]\n"), output, [])
    assert [trial.value for trial in earlier_of(searcher.stored)] == [0.05, 0.55]


def test_search_that_begins_with_others_trials_trains_as_many_of_its_own_and_none_of_theirs(output: Path) -> None:
    text = SEARCH.replace("{low: 0.0, high: 0.7}", "[0.0, 0.2, 0.4, 0.5]").replace(
        "trials: 2,", "trials: 4, first: [{tau: 0.4}],"
    )
    searcher = begun(written.load(output, text), output, [])
    found = []
    while (trial := searcher.next()) is not None:
        found.append((trial.number, trial.varied["tau"]))
        searcher.tell(trial, 0.3)
    assert found[0] == (2, 0.4)
    assert [tau for _, tau in found] == [0.4, 0.2]


def test_search_takes_no_trial_that_was_measured_on_other_images(output: Path) -> None:
    said: list[str] = []
    searcher = begun(written.load(output, SEARCH), output, said, Digest("1" * 64, {}))
    assert earlier_of(searcher.stored) == []
    assert "begins with 0 of 12" in said[0]
    assert "2: other images" in said[0]


def test_search_whose_journal_is_gone_begins_as_before(output: Path) -> None:
    study = written.load(output, SEARCH)
    searcher = begun(study, output, [])
    trial = searcher.next()
    assert trial is not None
    (output / "tiny/optuna.journal").unlink()
    entries = [Entry(trial.name, 0, trial.varied, "trial/99", 4, trial.number)]
    stored = restored_search(
        study, output / "tiny", entries, output, lambda line: None,
        lambda: earlier_trials(study, output, DIGEST, lambda line: None),
    )  # fmt: skip
    assert [found.params for found in stored.get_trials()] == [{"tau": 0.0}, {"tau": 0.5}, trial.varied]


def test_require_earlier_names_a_study_that_was_never_run(output: Path) -> None:
    study = written.load(output, SEARCH.replace("[before]", "[before, after]"))
    with pytest.raises(Refusal, match=r"search\.warm_start: .*after: holds no run of the study"):
        require_earlier(study, output)
    require_earlier(written.load(output, SEARCH.replace("[before]", f"[{output}/before]")), output)


def test_search_that_has_suggested_something_does_without_the_studies_with_which_it_began(output: Path) -> None:
    study = written.load(output, SEARCH)
    assert begun(study, output, []).next() is not None
    shutil.rmtree(output / "before")
    with pytest.raises(Refusal, match=r"search\.warm_start: "):
        _require_search(study, output)
    Ledger(output / "tiny").put(Entry("#2", 0, {"tau": 0.1}, "trial/99", 4, 2))
    _require_search(study, output)
    begun(study, output, [])
