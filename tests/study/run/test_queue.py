"""Which trial is next, of trials whose folders are letters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from lchp.study.run.queue import Job, Places, TrialQueue
from lchp.study.spec.trials import ResolvedTrial
from lchp.training.config import TrialConfig

COURSES = {"l": "course", "m": "course"}
"""Stages that are alike but for their length."""


def trials(*names: str) -> list[ResolvedTrial]:
    """Trials called by the letters of their stages, then of their references: ``ab:xy``."""
    return [ResolvedTrial(name, TrialConfig(), {}, number) for number, name in enumerate(names)]


def places(trial: ResolvedTrial) -> Places:
    stages, _, references = trial.name.partition(":")
    folders = {Path(stage): Path(COURSES.get(stage, stage)) for stage in [*stages, trial.name]}
    return Places(folders, {method: Path(method) for method in references})


@pytest.fixture
def done() -> set[Path]:
    """The folders that are done."""
    return set()


Make = Callable[..., TrialQueue]


@pytest.fixture
def queue(done: set[Path]) -> Make:
    def make(*names: str, suggested: Sequence[str] | None = None, slots: int = 1) -> TrialQueue:
        waiting: Iterator[ResolvedTrial] = iter(trials(*suggested or ()))
        more = None if suggested is None else lambda: next(waiting, None)
        made = TrialQueue(trials(*names), places, done.__contains__, more)
        made.slots = slots
        return made

    return make


def name(job: Job | None) -> str | None:
    return job.trial.name if job else None


def test_queue_stage_waits_for_a_running_one_of_its_course_and_not_once_it_is_done(
    queue: Make, done: set[Path]
) -> None:
    line = queue("l1", "m2", "l3", "b4")
    assert [name(line.next(attempt)) for attempt in "pqr"] == ["l1", "b4", None]
    done.add(Path("l"))
    assert [name(line.next(attempt)) for attempt in "rs"] == ["m2", "l3"]


def test_queue_trial_that_would_wait_for_a_shared_stage_is_passed_over_until_it_is_done(
    queue: Make, done: set[Path]
) -> None:
    line = queue("a1", "a2", "b3", "a4")
    assert [name(line.next(attempt)) for attempt in "pqr"] == ["a1", "b3", None]
    assert not line.finished
    done.add(Path("a"))
    assert [name(line.next(attempt)) for attempt in "rst"] == ["a2", "a4", None]
    for attempt in "pqrs":
        assert not line.finished
        line.end(attempt)
    assert line.finished


def test_queue_shared_stage_of_a_trial_that_ended_is_the_next_ones(queue: Make) -> None:
    line = queue("a1", "a2", "a3")
    assert name(line.next("p")) == "a1"
    line.end("p")
    assert [name(line.next("q")), name(line.next("r"))] == ["a2", None]


def test_queue_any_stage_that_is_shared_holds_a_trial(queue: Make, done: set[Path]) -> None:
    line = queue("ax", "bx")
    done.add(Path("a"))
    assert [name(line.next("p")), name(line.next("q"))] == ["ax", None]
    done.add(Path("x"))
    assert name(line.next("q")) == "bx"


def test_queue_search_is_asked_for_no_more_than_fill_the_slots(queue: Make, done: set[Path]) -> None:
    asked = ["a1", "a2", "b3", "a4"]
    line = queue(suggested=asked, slots=3)
    assert [name(line.next(attempt)) for attempt in "pqr"] == ["a1", "b3", None]
    done.add(Path("a"))
    assert name(line.next("r")) == "a2"
    assert line.next("s") is None, "three run"
    line.end("p")
    assert [name(line.next("s")), line.next("t")] == ["a4", None]
    for attempt in "qrs":
        line.end(attempt)
    assert line.next("t") is None
    assert line.finished


def test_queue_same_trial_twice_is_not_trained_by_two(queue: Make) -> None:
    line = queue(suggested=["1", "1"], slots=2)
    assert [name(line.next("p")), name(line.next("q"))] == ["1", None]


def test_queue_trial_that_ended_before_its_end_is_the_next(queue: Make) -> None:
    line = queue("1", "2", "3")
    assert [name(line.next(attempt)) for attempt in "pq"] == ["1", "2"]
    line.again(line.end("q"))
    assert [name(line.next(attempt)) for attempt in "rs"] == ["2", "3"]


def test_queue_that_is_stopped_gives_only_what_has_begun(queue: Make) -> None:
    line = queue("1", "2", "3", suggested=["4"], slots=3)
    assert [name(line.next(attempt)) for attempt in "pq"] == ["1", "2"]
    line.again(line.end("q"))
    line.stop()
    assert [name(line.next(attempt)) for attempt in "rs"] == ["2", None]
    assert not line.finished
    for attempt in "pr":
        line.end(attempt)
    assert line.finished


def test_queue_references_are_shared_out_and_hold_no_trial(queue: Make, done: set[Path]) -> None:
    done.add(Path("a"))
    line = queue("a1:xyz", "a2:xyz", "b3:v")
    jobs = [line.next(attempt) for attempt in "pqr"]
    assert [job.references if job else None for job in jobs] == [("x", "y"), ("z",), ("v",)]


def test_queue_last_trial_takes_every_reference_that_is_left(queue: Make, done: set[Path]) -> None:
    line = queue("1:xyz", "2:xyz")
    first = line.next("p")
    assert first is not None
    assert first.references == ("x", "y")
    done.add(Path("x"))
    line.end("p")  # its second reference has failed
    last = line.next("q")
    assert last is not None
    assert last.references == ("y", "z")
