"""Whole epochs of several contenders, timed in turn; on a CPU each in a process of its own, because what one has left
free in a process's memory makes the next one faster.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import torch
from rooflines import wait

from lchp.training.memory import keep_freed_memory

Epoch = Callable[[], object]


def timed(epochs: dict[str, Epoch], images: dict[str, int], device: str, seconds: float) -> dict[str, dict[str, Any]]:
    """Epochs in turn, what fits in so many seconds, at least one each after one that is not timed; by contender, of
    whom those called engine have the memory of :func:`keep_freed_memory` on a CPU.

    One that fails is noted and left out.
    """
    found: dict[str, dict[str, Any]] = {name: {"images": images[name], "seconds": [], "cpu": []} for name in epochs}
    apart = [Apart(name, epoch) for name, epoch in epochs.items()] if device == "cpu" else []
    run = {one.name: one.run for one in apart} or {
        name: lambda epoch=epoch: one_epoch(epoch, device) for name, epoch in epochs.items()
    }
    ends, rounds, longest = time.perf_counter() + seconds, 0, 0.0
    while rounds < 2 or time.perf_counter() + longest < ends:
        began = time.perf_counter()
        for name, values in found.items():
            if "failed" not in values:
                try:
                    values |= {**(taken := run[name]()), **{key: [*values[key], taken[key]] for key in BOTH}}
                except Exception as error:
                    traceback.print_exc()
                    values["failed"] = f"{type(error).__name__}: {error}"
        rounds, longest = rounds + 1, time.perf_counter() - began
    for one in apart:
        one.end()
    for values in found.values():
        values["seconds"], values["cpu"] = values["seconds"][1:], values["cpu"][1:]
        if values["seconds"]:
            values["images_per_second"] = values["images"] / statistics.median(values["seconds"])
            values["cpu_ms_per_image"] = 1e3 * statistics.median(values["cpu"]) / values["images"]
    return found


AS_IT_COMES = {-4: 65_536, -3: 32 * 2**20, -1: 64 * 2**20}
"""Values of mallopt(3) by parameter (M_MMAP_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD), as glibc has them once large
tensors were freed: the thresholds follow those, up to these bounds.
"""

BOTH = ("seconds", "cpu")
"""What is kept of every epoch: its wall clock and CPU seconds."""


def one_epoch(epoch: Epoch, device: str) -> dict[str, float]:
    """The seconds of one epoch, its CPU seconds, the memory that it took at most and what it says of waiting."""
    wait(device)
    before = 0
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    wall, cpu = time.perf_counter(), time.process_time()
    waited = epoch()
    wait(device)
    taken = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    if isinstance(waited, float):
        taken["waiting_share"] = waited
    if device == "cuda":
        return {**taken, "peak_gib_above": (torch.cuda.max_memory_allocated() - before) / 2**30}
    return {**taken, "peak_gib_process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


class Apart:
    """A contender in a process of its own, forked from this one, which goes on from epoch to epoch."""

    def __init__(self, name: str, epoch: Epoch) -> None:
        self.name = name
        self._here, there = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_epochs, args=(there, epoch, name.startswith("engine")), daemon=True)
        self._process.start()
        there.close()

    def run(self) -> dict[str, float]:
        """One more epoch. RuntimeError says why it failed."""
        try:
            self._here.send(True)
            taken = self._here.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join()
            raise RuntimeError(f"its process has ended ({self._process.exitcode})") from error
        if isinstance(taken, str):
            raise RuntimeError(taken)
        return taken  # type: ignore[no-any-return]

    def end(self) -> None:
        """The process ends, where it has not."""
        with suppress(ConnectionError):
            self._here.send(False)
        self._process.join()


def _epochs(asked: Connection, epoch: Epoch, keeps: bool) -> None:
    if keeps:
        keep_freed_memory()
    elif sys.platform == "linux":
        libc = ctypes.CDLL(None)
        for parameter, value in AS_IT_COMES.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)
    while asked.recv():
        try:
            asked.send(one_epoch(epoch, "cpu"))
        except Exception as error:
            asked.send(f"{type(error).__name__}: {error}")
