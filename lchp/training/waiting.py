"""How much of an epoch goes by in waiting for images.

On a CPU what counts is the time in which the loop of an epoch has no batch. On CUDA the host runs ahead of the device,
and waits for batches that nobody misses yet: there it is the time in which the device has done its last step and no
next batch lies on it, by events in its own order of work, which nothing waits for before the epoch has ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch

Batch = TypeVar("Batch")

TOO_MUCH = 0.1
"""The share of an epoch above which people are told; what is aimed at is half of it."""

NOTICEABLE = 1.0
"""Seconds of an epoch: nobody wants to hear of less."""


class Clock(Protocol):
    """Notes points in time, and tells later how far apart they lie."""

    def now(self) -> Any:
        """This point in time."""

    def between(self, first: Any, last: Any) -> float:
        """The seconds between two of them."""


class HostClock:
    """The time of this process."""

    def now(self) -> float:
        """Seconds since some time."""
        return time.perf_counter()

    def between(self, first: float, last: float) -> float:
        """The seconds between two of them."""
        return last - first


class DeviceClock:
    """The time at which a CUDA device has done all that it was given so far."""

    def __init__(self, device: str) -> None:
        self.device = device

    def now(self) -> torch.cuda.Event:
        """An event that is recorded when the device comes to it."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event

    def between(self, first: torch.cuda.Event, last: torch.cuda.Event) -> float:
        """The seconds between two that the device has come to."""
        return 1e-3 * float(first.elapsed_time(last))


@dataclass(frozen=True)
class Waited:
    """What of an epoch's steps, in seconds, went by in waiting for images."""

    seconds: float
    of: float

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.seconds / self.of if self.of > 0 else 0.0

    @property
    def is_too_long(self) -> bool:
        """Whether people should know."""
        return self.share > TOO_MUCH and self.seconds >= NOTICEABLE


class Watch:
    """Looks on while batches are learned from, epoch after epoch."""

    def __init__(self, device: str, clock: Clock | None = None) -> None:
        self.clock = clock or (DeviceClock(device) if torch.device(device).type == "cuda" else HostClock())
        self._points: list[Any] = []

    def over(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches, for one epoch: what passes until each is there is waiting, what passes until the next one
        is asked for is not.
        """
        self._points = [self.clock.now()]
        for batch in batches:
            self._points.append(self.clock.now())
            yield batch
            self._points.append(self.clock.now())

    @property
    def waited(self) -> Waited:
        """Of the last epoch, whose work the device must have done; of none where there was none."""
        if not self._points:
            return Waited(0.0, 0.0)
        asked, there = self._points[:-1:2], self._points[1::2]
        seconds = sum(self.clock.between(*pair) for pair in zip(asked, there, strict=True))
        return Waited(seconds, self.clock.between(self._points[0], self._points[-1]))


def advice(stage: str, epoch: int, waited: Waited) -> str:
    """A line for people about an epoch of a stage that waited for too long: how long, and what shortens it."""
    return (
        f"warning: {stage}, epoch {epoch}: {waited.share:.0%} of its steps' time ({waited.seconds:.1f} s) was waiting "
        "for images: more threads that read ahead (--workers), a --cache on a faster disk, or a smaller view.resize, "
        "of which more images fit the cache and a GPU's memory, shorten it"
    )
