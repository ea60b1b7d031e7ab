"""Where a step's time goes: torch.profiler over a few steps of a stage of the engine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from cases import Engine, Held
from rooflines import wait
from torch.profiler import ProfilerActivity
from torch.profiler import profile as recording

STEPS = 4
"""As many, or as many as the case has."""
LAUNCHES = ("LaunchKernel", "GraphLaunch", "Memcpy", "Memset")
WAITS = ("Synchronize", "aten::item", "aten::_local_scalar_dense")


def profile(engine: Engine, stages: list[str], file: Path, device: str) -> None:
    """Writes, for each stage: launches and waits a step, the share of the time in which the device works, and the
    operations by the time that their kernels take.
    """
    text = []
    steps = min(STEPS, engine.case.steps)
    source = Held(engine.material.train, steps * engine.case.batch)
    for name in stages:
        stage = engine.stage(name)
        for _ in range(2):
            stage.train_epoch(source, 0)
        wait(device)
        started = time.perf_counter()
        stage.train_epoch(source, 0)
        wait(device)
        plain = time.perf_counter() - started
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
        with recording(activities=activities) as recorded:
            stage.train_epoch(source, 0)
            wait(device)
        text.append(report(name, recorded.key_averages(), plain, steps, device))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n\n".join(text) + "\n", encoding="utf-8")
        print(text[-1][:6000], flush=True)


def report(name: str, averages: Any, plain: float, steps: int, device: str) -> str:
    """The text of one stage."""
    kernels = [event for event in averages if on_device(event)]
    busy = sum(device_us(event) for event in kernels) / 1e6
    lines = [
        f"{name}: {1e3 * plain / steps:.2f} ms a step without the profiler",
        f"kernels: {sum(event.count for event in kernels) / steps:.0f} a step, {1e3 * busy / steps:.2f} ms a step",
    ]
    for title, keys in (("launches", LAUNCHES), ("waits", WAITS)):
        for event in averages:
            if not on_device(event) and any(key in event.key for key in keys):
                host = f"{event.self_cpu_time_total / steps / 1e3:.2f} ms on the host"
                lines.append(f"{title}: {event.key}: {event.count / steps:.1f} a step, {host}")
    by = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    rows = sorted(kernels, key=device_us, reverse=True)[:60]
    lines += [f"{device_us(row) / steps / 1e3:9.3f} ms {row.count / steps:7.1f} x  {row.key[:140]}" for row in rows]
    try:
        lines.append(averages.table(sort_by=by, row_limit=50, max_name_column_width=60))
    except (AttributeError, KeyError, ValueError) as error:
        lines.append(f"no table of operations: {error}")
    return "\n".join(lines)


def on_device(event: Any) -> bool:
    """Whether it is a kernel or a copy; of what encloses some, the profiler makes events there, too."""
    encloses = getattr(event, "is_user_annotation", False) or event.key.startswith(("Optimizer.", "ProfilerStep"))
    return str(event.device_type).endswith("CUDA") and not encloses


def device_us(event: Any) -> float:
    """Microseconds of an event on the device, whichever name torch has for it."""
    return float(getattr(event, "self_device_time_total", None) or getattr(event, "self_cuda_time_total", 0.0) or 0.0)
