"""What the driver makes of what workers tell it, with a recorder that writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tests.study.small as small
from lchp.store.folder import StageFolder
from lchp.store.shared import StoreAway
from lchp.study.run.driver import Driver
from lchp.study.run.ledger import Entry
from lchp.study.spec.trials import ResolvedTrial
from lchp.training.config import TrialConfig

THREE = small.TINY + "seeds: [0, 1, 2]\n"
KILLED = (("ActorDiedError", "RayActorError", "RayError"), "The actor died unexpectedly.\nworker process has died")
NAN = (("FloatingPointError",), "Traceback\nFloatingPointError: the loss is nan")


class Recorded:
    """A recorder, and the materials of its trials: every trial has its own initialization."""

    def __init__(self, store: Path, references: dict[str, str]) -> None:
        self.store, self.folder, self.references, self.lines = store, store, references, list[str]()
        self.materials, self.ledger = self, self
        self.shares, self.arrives, self.away = False, True, False

    def stages(self, config: TrialConfig) -> dict[Path, Path]:
        return {self.store / f"{config.seed}": self.store / f"{config.seed}"}

    def entry(self, trial: ResolvedTrial) -> Entry:
        return Entry(trial.name, 0, {}, f"{trial.config.seed}", 4, trial.number, references=self.references)

    def has(self, place: str) -> bool:
        if self.away:
            raise StoreAway("the shared store is away")
        return StageFolder(self.store / place).whole

    def is_trained(self, trial: ResolvedTrial) -> bool:
        return self.arrives

    def start(self, trial: ResolvedTrial) -> None:
        self.lines.append(f"{trial.name} starts")

    def epochs(self, trial: ResolvedTrial, step: int, reports: Any, notes: Any, seconds: float) -> None:
        self.lines.append(f"{trial.name} epoch {step}")

    def complete(self, trial: ResolvedTrial) -> None:
        self.lines.append(f"{trial.name} finished")

    def again(self, trial: ResolvedTrial, line: str) -> None:
        self.lines.append(f"{trial.name} {line}")

    def fail(self, trial: ResolvedTrial, message: str) -> None:
        self.lines.append(f"{trial.name} FAILED {message.splitlines()[-1]}")

    def refuse(self, number: int, values: dict[str, Any], message: str) -> None:
        self.lines.append(f"#{number} refused {message}")

    def say(self, line: str) -> None:
        self.lines.append(line)


class Clock:
    minutes = 0.0

    def __call__(self) -> float:
        return 60 * self.minutes


@pytest.fixture
def clock() -> Clock:
    return Clock()


def driven(folder: Path, clock: Clock, *sets: str, **references: str) -> tuple[Driver, list[str]]:
    """The driver of three trials, which has two slots and has started two; and what its recorder heard since."""
    study, recorder = small.load(folder, THREE, *sets), Recorded(folder, references)
    driver = Driver(study, study.trials, recorder, clock)  # type: ignore[arg-type]
    for attempt in ("p", "q"):
        assert driver.next(attempt)
        driver.started(attempt)
    recorder.lines.clear()
    return driver, recorder.lines


def test_driver_trial_whose_worker_died_goes_on_at_once_and_is_given_up_after_its_retries(
    tmp_path: Path, clock: Clock
) -> None:
    driver, lines = driven(tmp_path, clock, "failures.retries=1")
    driver.failed("p", *KILLED)
    again = driver.next("r")
    assert again is not None
    assert again.trial.config.seed == 0
    driver.failed("r", *KILLED)
    assert lines == [
        "seed=0 its worker process died: goes on from its last checkpoint, retry 1 of 1",
        "seed=0 FAILED its worker process died, 2 times (failures.retries = 1): see what ended it (`dmesg` tells of "
        "the kernel's own killer, when memory is short), then run the same command again: it goes on",
    ]
    last = driver.next("s")
    assert last is not None
    assert last.trial.config.seed == 2


def test_driver_trial_that_failed_by_itself_is_not_retried(tmp_path: Path, clock: Clock) -> None:
    driver, lines = driven(tmp_path, clock)
    driver.failed("p", *NAN)
    assert lines == ["seed=0 FAILED FloatingPointError: the loss is nan"]
    driver.completed("q", None)
    last = driver.next("r")
    assert last is not None
    assert last.trial.config.seed == 2
    driver.completed("r", None)
    assert driver.finished


def test_driver_starts_no_trial_after_so_many_have_failed_by_themselves(tmp_path: Path, clock: Clock) -> None:
    driver, lines = driven(tmp_path, clock, "failures.stop_after=1")
    driver.failed("p", *KILLED)
    driver.failed("q", *NAN)
    begun = driver.next("r")
    assert begun is not None
    assert begun.trial.config.seed == 0
    assert driver.next("s") is None
    driver.completed("r", None)
    assert driver.finished
    assert lines[2].startswith(
        "as many trials have failed by themselves as may (failures.stop_after = 1): no further one"
    )


def test_driver_silent_worker_is_ended_and_its_trial_goes_on(tmp_path: Path, clock: Clock) -> None:
    driver, lines = driven(tmp_path, clock, "failures.silent=10")
    clock.minutes = 9
    driver.epochs("p", {"global_epoch": 1})
    clock.minutes = 11
    assert driver.overdue() == ["q"]
    assert driver.overdue() == [], "it is ended once"
    driver.failed("q", *KILLED)
    assert lines[-1] == (
        "seed=1 has finished no epoch for 10 min (failures.silent), its worker was ended: goes on from its last "
        "checkpoint, retry 1 of 2"
    )
    assert driver.next("r")
    driver.started("r")
    clock.minutes = 18
    assert driver.overdue() == [], "its time begins anew"


def test_driver_worker_that_does_not_begin_is_stuck_after_the_longer_of_both_times(
    tmp_path: Path, clock: Clock
) -> None:
    driver, _ = driven(tmp_path, clock, "failures.silent=10")
    driver.completed("p", None)
    assert driver.next("r")
    clock.minutes = 9
    driver.epochs("q", {"global_epoch": 1})
    assert not driver.is_stuck(seconds=60)
    clock.minutes = 11
    assert driver.is_stuck(seconds=60)
    assert not driver.is_stuck(seconds=720)
    assert driver.overdue() == []
    assert driver.lost() == 1, "which had begun"


def test_driver_trial_over_its_time_is_ended_for_good_whatever_its_attempts(tmp_path: Path, clock: Clock) -> None:
    driver, lines = driven(tmp_path, clock, "resources.time_limit=0.5")
    clock.minutes = 20
    driver.failed("p", *KILLED)
    assert driver.next("r")
    driver.started("r")
    clock.minutes = 29
    assert driver.overdue() == []
    clock.minutes = 31
    assert driver.overdue() == ["q", "r"]
    driver.failed("r", *KILLED)
    assert lines[-1] == (
        "seed=0 FAILED has trained for 0.5 h, as long as it may (resources.time_limit): the same command goes on "
        "with it for as long again; raise that with --set resources.time_limit=HOURS"
    )


def test_driver_suggestion_over_its_time_is_the_next_when_the_command_is_run_again(
    tmp_path: Path, clock: Clock
) -> None:
    text = "name: s\nsearch: {trials: 2, sampler: random, space: {tau: {low: 0.0, high: 1.0}}}\n"
    study, recorder = small.load(tmp_path, text, "resources.time_limit=0.5"), Recorded(tmp_path, {})

    def first() -> tuple[Driver, ResolvedTrial]:
        driver = Driver(study, (), recorder, clock)  # type: ignore[arg-type]
        job = driver.next("p")
        assert job is not None
        driver.started("p")
        return driver, job.trial

    driver, trial = first()
    clock.minutes = 31
    assert driver.overdue() == ["p"]
    driver.failed("p", *KILLED)
    assert first()[1] == trial
    driver, _ = first()
    driver.failed("p", *NAN)
    assert first()[1] != trial


def test_driver_without_limits_ends_no_worker(tmp_path: Path, clock: Clock) -> None:
    driver, _ = driven(tmp_path, clock)
    driver.completed("p", None)
    assert driver.next("r")
    clock.minutes = 1e9
    assert driver.overdue() == []
    assert not driver.is_stuck(seconds=60)


def test_driver_lost_cluster_costs_no_retry_and_its_trials_come_first(tmp_path: Path, clock: Clock) -> None:
    driver, _ = driven(tmp_path, clock, "failures.retries=0")
    assert driver.lost() == 2
    jobs = [driver.next(attempt) for attempt in ("r", "s", "t")]
    assert [job.trial.config.seed for job in jobs if job] == [0, 1, 2]


def test_driver_trial_is_finished_with_the_last_reference_beside_it(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: set[str] = set()
    monkeypatch.setattr(StageFolder, "whole", property(lambda folder: folder.path.name in done))
    driver, lines = driven(tmp_path, clock, supervised="x", few_shot_1="y")
    assert [driver.queue.running(attempt).references for attempt in ("p", "q")] == [("supervised",), ("few_shot_1",)]
    done.add("x")
    driver.completed("p", None)
    assert lines == []
    done.add("y")
    driver.completed("q", None)
    assert lines == ["seed=0 finished", "seed=1 finished"]


def test_driver_trial_whose_reference_another_failed_to_train_is_not_finished(tmp_path: Path, clock: Clock) -> None:
    driver, lines = driven(tmp_path, clock, supervised="x")
    assert [driver.queue.running(attempt).references for attempt in ("p", "q")] == [("supervised",), ()]
    driver.completed("q", None)
    driver.failed("p", *NAN)
    driver.close()
    assert lines[-1] == (
        "seed=1 FAILED beside it supervised is not trained, because the trial failed that had to: run it again"
    )


@pytest.mark.parametrize(
    ("shares", "heard"),
    [
        (False, "FAILED was finished on another machine, and its files are not here"),
        (True, "its files have not come through the shared store: goes on from its last checkpoint, retry 1 of 2"),
    ],
)
def test_driver_trial_whose_files_are_not_here_is_not_finished(
    tmp_path: Path, clock: Clock, shares: bool, heard: str
) -> None:
    driver, lines = driven(tmp_path, clock)
    recorder: Any = driver.recorder
    recorder.shares, recorder.arrives = shares, False
    driver.completed("p", None)
    assert [line.startswith(f"seed=0 {heard}") for line in lines] == [True]
    recorder.arrives = True
    driver.completed("q", None)
    assert lines[-1] == "seed=1 finished"


@pytest.mark.parametrize(
    ("comes_back", "heard"),
    [
        (True, "seed=0 finished"),
        (False, "seed=0 FAILED beside it references may be trained, but the shared store is away: run it again"),
    ],
)
def test_driver_store_that_is_away_when_a_reference_is_looked_for_is_asked_again(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, comes_back: bool, heard: str
) -> None:
    driver, lines = driven(tmp_path, clock, supervised="x")
    recorder: Any = driver.recorder
    recorder.away = True
    driver.completed("p", None)
    assert lines == []
    recorder.away = not comes_back
    monkeypatch.setattr(StageFolder, "whole", True)
    driver.close()
    assert lines == [heard]
