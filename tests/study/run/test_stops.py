"""Searches that stop before they have made all their suggestions."""

from __future__ import annotations

from pathlib import Path

import pytest

import tests.study.written as written
from lchp.store.study_folder import StudyFolder
from lchp.study.run.cards import Card, Cards
from lchp.study.run.ledger import told
from lchp.study.run.optuna_search import ContinuedSearch
from lchp.study.run.results import make_tables
from lchp.study.run.stops import Spending
from lchp.study.spec.search import Stop
from tests.study.run.test_results import _write


def epoch(begin: float, end: float, reused: bool = False, step: int = 1) -> dict[str, object]:
    """An epoch between two hours."""
    return {"time": 3_600_000 * end, "seconds": 3600 * (end - begin), "reused": reused, "step": step}


def search(folder: Path, stop: str, said: list[str], more: str = "") -> ContinuedSearch:
    """The search over a study's folder, which is ``folder``."""
    space = "{tau: {low: 0.0, high: 1.0}}"
    text = written.TINY + f"search: {{trials: 9, sampler: random, space: {space}, stop: {stop}}}\n{more}"
    return ContinuedSearch(written.load(folder, text), folder, lambda *told: pytest.fail(str(told)), said.append)


def worth(searcher: ContinuedSearch, *objectives: float) -> int:
    """How many further suggestions a search makes, that reach so much; those after these reach nothing."""
    count = 0
    while (trial := searcher.next()) is not None:
        searcher.tell(trial, objectives[count] if count < len(objectives) else 0.0)
        count += 1
    return count


def test_spending_counts_what_was_done_at_once_in_one_hour_and_in_all_trials_hours() -> None:
    spending = Spending()
    for name, begin, end in (("a", 1, 2), ("b", 1.5, 2.5), ("a", 4, 5), ("a", 4.5, 5)):
        spending.add(name, 3600 * begin, 3600 * end)
    assert spending.hours == pytest.approx(2.5)
    assert spending.training_hours == pytest.approx(3)
    assert Spending().hours == 0


def test_card_keeps_when_workers_were_at_a_trial_as_periods(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card("a", "#0", {}, {})
    for now, seconds in ((5_000, 4.0), (7_500, 1.9), (20_000, 1.0)):
        monkeypatch.setattr("lchp.study.run.cards.now", lambda now=now: now)
        card = card.with_time(seconds)
    assert card.spent == [[1_000, 7_500], [19_000, 20_000]]


def test_search_stops_after_suggestions_that_are_not_better_than_the_best(tmp_path: Path) -> None:
    said: list[str] = []
    assert worth(search(tmp_path, "{patience: 3}", said), 0.2, 0.5, 0.4, 0.5) == 5
    reason = "#1 is the best still, after 3 more suggestions (search.stop.patience = 3)"
    assert said == [f"tiny: no further suggestion is made, {reason}"]
    assert worth(search(tmp_path, "{patience: 3}", said)) == 0
    assert worth(search(tmp_path, "{patience: 5}", said), 0.1, 0.9) == 4


def test_patience_counts_what_ended_after_the_best_whatever_its_number(tmp_path: Path) -> None:
    said: list[str] = []
    searcher = search(tmp_path, "{patience: 2}", said)
    begun = [searcher.next() for _ in range(5)]
    for number, objective in ((3, 0.2), (4, 0.5), (0, 0.4), (1, 0.5)):
        trial = begun[number]
        assert trial is not None
        assert said == []
        searcher.tell(trial, objective)
    assert searcher.next() is None
    reason = "#4 is the best still, after 2 more suggestions (search.stop.patience = 2)"
    assert said == [f"tiny: no further suggestion is made, {reason}"]


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("{hours: 2.5}", "its trials have trained for 2.5 hours (search.stop.hours = 2.5)"),
        ("{gpu_hours: 1.25}", "its trials have taken 1.25 GPU-hours (search.stop.gpu_hours = 1.25)"),
        ("{hours: 2.6, gpu_hours: 1.3}", None),
    ],
)
def test_search_stops_by_the_time_that_all_its_runs_have_taken(tmp_path: Path, stop: str, reason: str | None) -> None:
    said: list[str] = []
    # Of an epoch that was found trained, and of measuring, a card of this version knows.
    epochs = [epoch(1, 2), epoch(2, 2.25, step=2), epoch(7, 9, reused=True, step=3)]
    earlier = Card("a", "#0", {}, {}, folder="trial/a", epochs=epochs, spent=[[7_200_000, 9_000_000]])
    Cards(tmp_path).write(earlier)
    Cards(tmp_path).write(Card("study-s", "s", {}, {"lchp.kind": "study"}))
    Cards(tmp_path).write(Card("b", "b", {}, {"lchp.kind": "initialization"}, epochs=[epoch(1, 2)]))
    searcher = search(tmp_path, stop, said, "resources: {gpus: 0.5}\n")
    first = searcher.next()
    assert first is not None
    searcher.spend(first, 3600.0)
    assert (searcher.next() is None) is (reason is not None)
    assert said == ([f"tiny: no further suggestion is made, {reason}"] if reason else [])


def test_search_that_stops_trains_what_a_killed_run_left_and_the_seeds_of_what_has_begun(tmp_path: Path) -> None:
    said: list[str] = []
    killed = search(tmp_path, "{patience: 1}", said, "seeds: [0, 1]\n")
    first = [killed.next(), killed.next()]
    left = killed.next()
    for trial in first:
        assert trial is not None
        killed.tell(trial, 0.5)
    again = search(tmp_path, "{patience: 1}", said, "seeds: [0, 1]\n")
    found = [again.next(), again.next()]
    assert found[0] == left
    for trial in found:
        assert trial is not None
        again.tell(trial, 0.1)
    assert again.next() is None


def test_tables_and_status_say_that_a_search_has_stopped(tmp_path: Path) -> None:
    study = written.load(tmp_path, written.TINY + "search: {trials: 5, space: {tau: {low: 0.0, high: 0.9}}}\n")
    output = _write(study, tmp_path, 2)
    text = "The search stopped after 2 of 5 suggestions: its trials have trained for 3 hours."
    StudyFolder(output / "tiny").stopped.write_text(f"{text}\n", encoding="utf-8")
    (table,) = make_tables(study, output)
    assert (table.counts[-3], table.counts[-1]) == ("2 of 3 trials; not finished: #2 tau=0.5.", text)
    assert text in told(output / "tiny", False)


def test_stop_of_nothing_reads_no_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cards, "all", lambda self: pytest.fail("reads cards"))
    assert Spending.of(tmp_path, Stop(patience=3)).hours == 0
