"""The writer's thread, with a scribe that writes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

from lchp.study.run.writer import Writer

AWAY = MlflowException("(sqlite3.OperationalError) database is locked\n[SQL: ...]", TEMPORARILY_UNAVAILABLE)
UNFIT = MlflowException("what it is told is nonsense", INVALID_PARAMETER_VALUE)


class FakeScribe:
    """Takes runs unless an error is set for all or for their key."""

    uri = "sqlite:////there/mlflow.db"
    study = Path("analysis/tiny")

    def __init__(self) -> None:
        self.wrote: list[str] = []
        self.tried: list[str] = []
        self.forgot = 0
        self.fault: Exception | None = None
        self.faults: dict[str, Exception] = {}
        self.gate = threading.Event()
        self.gate.set()

    def write(self, key: str) -> str:
        assert self.gate.wait(30)
        self.tried.append(key)
        fault = self.faults.get(key, self.fault)
        if fault is not None:
            raise fault
        self.wrote.append(key)
        return f"id of {key}"

    def forget(self) -> None:
        self.forgot += 1


@pytest.fixture
def scribe() -> FakeScribe:
    return FakeScribe()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def writer(scribe: FakeScribe, said: list[str]) -> Iterator[Writer]:
    with Writer(scribe, said.append, lambda error: said.append(repr(error)), first_pause=0.01) as writer:  # type: ignore[arg-type]
        yield writer


def until(condition: Callable[[], bool]) -> None:
    """Wait for what the thread does."""
    for _ in range(3000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen within 30 s")


def test_put_does_not_wait_for_a_store_that_hangs_and_a_run_is_written_once_for_many_changes(
    writer: Writer, scribe: FakeScribe
) -> None:
    scribe.gate.clear()
    writer.put("a")
    until(lambda: not writer._waiting)
    for _ in range(1000):
        writer.put("a")
        writer.put("b")
    assert len(writer._waiting) == 2
    scribe.gate.set()
    writer.finish()
    assert scribe.wrote == ["a", "a", "b"]
    assert writer.run_ids == {"a": "id of a", "b": "id of b"}
    assert writer.unwritten() is None


def test_put_within_seconds_is_written_then_or_at_the_end(writer: Writer, scribe: FakeScribe) -> None:
    writer.put("later", within=1000)
    writer.put("now")
    until(lambda: scribe.wrote == ["now"])
    assert writer.unwritten() is not None
    writer.finish()
    assert scribe.wrote == ["now", "later"]


def test_store_that_is_away_is_told_once_tried_again_and_told_when_it_is_back(
    writer: Writer, scribe: FakeScribe, said: list[str]
) -> None:
    scribe.fault = AWAY
    for key in ("a", "b"):
        writer.put(key)
    until(lambda: len(scribe.tried) > 6)
    name = "tracking store 'sqlite:////there/mlflow.db'"
    kept = "training goes on, and what it gives is kept in analysis/tiny and written as soon as the store is back"
    assert said == [f"{name} cannot be written (database is locked): {kept}"]
    scribe.fault = None
    until(lambda: len(scribe.wrote) == 2)
    until(lambda: len(said) == 2)
    assert said[1] == f"{name} is back: what was kept is being written"
    assert writer.unwritten() is None
    assert scribe.forgot == 0


def test_store_that_misses_one_call_is_not_told(writer: Writer, scribe: FakeScribe, said: list[str]) -> None:
    def once(key: str) -> str:
        del scribe.write  # type: ignore[method-assign]
        raise AWAY

    scribe.write = once  # type: ignore[method-assign]
    writer.put("a")
    until(lambda: scribe.wrote == ["a"])
    assert said == []


def test_run_that_cannot_be_written_is_tried_from_scratch_told_and_does_not_hold_up_the_others(
    writer: Writer, scribe: FakeScribe, said: list[str]
) -> None:
    scribe.faults = {"a": UNFIT}
    for key in ("a", "b"):
        writer.put(key)
    until(lambda: scribe.wrote == ["b"])
    assert scribe.tried == ["a", "a", "b"]
    assert scribe.forgot == 1
    name = "tracking store 'sqlite:////there/mlflow.db'"
    assert said == [f"the run a is not written: {name} cannot be written (what it is told is nonsense)"]
    assert writer.unwritten() == f"1 run is not written: {name} cannot be written (what it is told is nonsense)"
    scribe.faults = {}
    writer.finish()
    assert writer.unwritten() is None


def test_run_that_fails_while_others_are_taken_is_no_fault_of_the_stores(
    writer: Writer, scribe: FakeScribe, said: list[str]
) -> None:
    scribe.faults = {"a": AWAY}
    scribe.gate.clear()
    writer.put("a")
    writer.put("b")
    scribe.gate.set()
    until(lambda: len(said) == 1)
    assert said[0].startswith("the run a is not written: ")
    assert scribe.wrote == ["b"]


def test_finish_with_a_store_that_is_away_gives_up_after_a_try(writer: Writer, scribe: FakeScribe) -> None:
    scribe.fault = AWAY
    for key in map(str, range(50)):
        writer.put(key, within=1000)
    writer.finish()
    assert len(scribe.tried) == 2
    assert (writer.unwritten() or "").startswith("50 runs are not written: ")


def test_finish_within_seconds_does_not_wait_longer(writer: Writer, scribe: FakeScribe) -> None:
    scribe.gate.clear()
    writer.put("a")
    writer.finish(0.05)
    assert (writer.unwritten() or "").endswith("was not waited for")
    scribe.gate.set()


def test_bug_does_not_end_the_thread_and_is_noted(writer: Writer, scribe: FakeScribe, said: list[str]) -> None:
    scribe.faults = {"a": KeyError("oops")}
    writer.put("a")
    until(lambda: len(said) == 2)
    assert said[1] == "KeyError('oops')"
    writer.put("b")
    writer.finish()
    assert scribe.wrote == ["b"]
