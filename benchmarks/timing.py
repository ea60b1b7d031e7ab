"""What the benchmarks share: options, repetitions in turn, and the table that they print."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch

from lchp.training.environment import describe


def options(description: str) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=5, help="timed repetitions, after one that is not timed")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch; a trial has one by default")
    return parser


def compare(variants: Mapping[str, Callable[[], object]], device: str, repeats: int) -> dict[str, list[float]]:
    """Seconds of every variant, ``repeats`` each, in turn: what else the machine does meets all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for repetition in range(repeats + 1):
        for name, work in variants.items():
            _wait(device)
            started = time.perf_counter()
            work()
            _wait(device)
            if repetition > 0:
                times[name].append(time.perf_counter() - started)
    return times


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def report(title: str, times: Mapping[str, list[float]], images: int, device: str) -> None:
    """Print milliseconds a batch, images a second at the median, and that as a multiple of the first variant's."""
    made = describe(device)
    hardware = f"{made['cpu']}, {torch.get_num_threads()} thread(s)" if device == "cpu" else made["device"]
    print(f"\n{title}: {images} images a batch, {len(next(iter(times.values())))} repetitions")
    print(f"{hardware}; torch {torch.__version__}; commit {made['commit']}")
    print(f"{'':<28}{'min ms':>10}{'median ms':>11}{'max ms':>10}{'images/s':>10}{'speed':>8}")
    reference = statistics.median(next(iter(times.values())))
    for name, seconds in times.items():
        median = statistics.median(seconds)
        low, middle, high = (1000 * value for value in (min(seconds), median, max(seconds)))
        speed = f"{reference / median:.2f}x"
        print(f"{name:<28}{low:>10.1f}{middle:>11.1f}{high:>10.1f}{images / median:>10.1f}{speed:>8}")
