from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lchp.data.loader import ImageSource
from lchp.store.folder import StageFolder
from lchp.training.initialization import Initialization
from lchp.training.material import Material, Runtime
from lchp.training.stages import EpochReport, train_stage
from lchp.training.waiting import DeviceClock, HostClock, Waited, Watch, advice

from .tiny import tiny


class HandClock:
    """A clock that somebody moves by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    def between(self, first: float, last: float) -> float:
        return last - first


def reader(clock: HandClock, seconds: list[float]) -> Iterator[int]:
    """Batches that take so long each."""
    for batch, passed in enumerate(seconds):
        clock.at += passed
        yield batch


def watched(clock: HandClock, reading: list[float], step: float) -> Waited:
    """What a watch sees of an epoch whose steps take so long."""
    watch = Watch("cpu", clock)
    for _ in range(2):
        for _ in watch.over(reader(clock, reading)):
            clock.at += step
    return watch.waited


@pytest.mark.parametrize(
    ("reading", "step", "seconds", "whole"),
    [([1.0, 1.0, 1.0, 1.0], 3.0, 4.0, 16.0), ([5.0, 0.0, 0.5], 0.5, 5.5, 7.0), ([0.0, 0.0], 2.0, 0.0, 4.0)],
)
def test_watch_tells_waiting_from_learning_in_the_last_epoch(
    reading: list[float], step: float, seconds: float, whole: float
) -> None:
    assert watched(HandClock(), reading, step) == Waited(seconds, whole)


def test_watch_leaves_the_batches_as_they_are() -> None:
    batches = [object(), object()]
    assert list(Watch("cpu").over(batches)) == batches


def test_watch_of_an_epoch_of_no_length_says_no_share() -> None:
    assert watched(HandClock(), [0.0], 0.0).share == 0.0


@pytest.mark.parametrize(
    ("seconds", "of", "too_long"), [(10.0, 100.0, False), (10.1, 100.0, True), (0.9, 2.0, False), (1.0, 2.0, True)]
)
def test_waiting_is_too_long_above_a_tenth_and_from_a_second_on(seconds: float, of: float, too_long: bool) -> None:
    assert Waited(seconds, of).is_too_long is too_long


def test_advice_tells_how_long_and_what_shortens_it() -> None:
    assert advice("refinement", 2, Waited(30.0, 80.0)) == (
        "warning: refinement, epoch 2: 38% of its steps' time (30.0 s) was waiting for images: more threads that read "
        "ahead (--workers), a --cache on a faster disk, or a smaller view.resize, of which more images fit the cache "
        "and a GPU's memory, shorten it"
    )


def test_watch_that_has_seen_no_epoch_says_no_share() -> None:
    assert Watch("cpu").waited == Waited(0.0, 0.0)
    assert Watch("cpu").waited.share == 0.0


def test_clock_is_the_hosts_on_a_cpu_and_the_devices_on_cuda() -> None:
    assert isinstance(Watch("cpu").clock, HostClock)
    assert isinstance(Watch("cuda:1").clock, DeviceClock)


def test_device_clock_notes_when_the_device_that_is_given_comes_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        def __init__(self, enable_timing: bool) -> None:
            self.timed = enable_timing

        def record(self, stream: str = "the current device's") -> None:
            self.stream = stream

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"{device}'s")
    noted: Any = Watch("cuda:1").clock.now()
    assert (noted.stream, noted.timed) == ("cuda:1's", True)


def trained(folder: Path, stage: Initialization, material: Material) -> tuple[list[EpochReport], list[str]]:
    """The epochs of a stage that it has not trained before, and what was said meanwhile."""
    said: list[str] = []

    def train_epoch() -> dict[str, float]:
        return stage.train_epoch(material.train, 0)

    return list(train_stage(stage, 0, train_epoch, StageFolder(folder), said.append)), said


def test_a_stage_whose_reader_is_slow_says_so_once_and_learns_the_same(
    monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path
) -> None:
    config, clock = tiny(), HandClock()
    material = Material.prepare(config, Runtime(tmp_path / "store", cache))
    stages = [Initialization(config, len(material.dataset.classes), "cpu") for _ in range(2)]
    quick, nothing = trained(tmp_path / "quick", stages[0], material)
    batch, step = ImageSource.batch, Initialization._step

    def slow_batch(source: ImageSource, places: torch.Tensor) -> torch.Tensor:
        clock.at += 1.0
        return batch(source, places)

    def slow_step(stage: Initialization, *inputs: torch.Tensor) -> torch.Tensor:
        clock.at += 4.0
        return step(stage, *inputs)

    monkeypatch.setattr(ImageSource, "batch", slow_batch)
    monkeypatch.setattr(Initialization, "_step", slow_step)
    stages[1].watch = Watch("cpu", clock)
    slow, said = trained(tmp_path / "slow", stages[1], material)
    assert [report.waiting_share for report in slow] == [0.2] * 3
    assert [report.metrics for report in slow] == [report.metrics for report in quick]
    assert nothing == []
    # Five whole batches of 40 images, and three epochs, of which the first is told of.
    assert said == [advice("initialization", 1, Waited(5.0, 25.0))]


def test_host_clock_counts_the_seconds_of_this_process() -> None:
    watch = Watch("cpu")

    def slow() -> Iterator[int]:
        time.sleep(0.02)
        yield 1

    assert list(watch.over(slow())) == [1]
    assert 0.02 <= watch.waited.seconds <= watch.waited.of


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_clock_counts_no_reader_that_the_device_does_not_miss() -> None:
    def shares(seconds: float, work: int) -> float:
        def batches() -> Iterator[int]:
            for batch in range(6):
                time.sleep(seconds)
                yield batch

        watch, matrix = Watch("cuda"), torch.eye(4096, device="cuda")
        torch.cuda.synchronize()
        for _ in watch.over(batches()):
            for _ in range(work):
                matrix = matrix @ matrix
        torch.cuda.synchronize()
        return watch.waited.share

    shares(0.0, 1)
    # 137 GFLOP a product: a step of hundreds takes longer than its reader, one of a single product does not.
    assert shares(0.001, 400) < 0.1
    assert shares(0.05, 1) > 0.5
