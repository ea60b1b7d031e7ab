"""The results of ``training.py`` as a table for people."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def table(folder: Path) -> None:
    """Writes ``training.md`` of every ``training-*.json`` in a folder."""
    parts = [
        "# Engine and reference",
        "",
        "Written by `python benchmarks/training.py`; the JSON beside it has all.",
        "",
    ]
    for file in sorted(folder.glob("training-*.json")):
        parts += [*section(file.stem.removeprefix("training-"), json.loads(file.read_text(encoding="utf-8"))), ""]
    (folder / "training.md").write_text("\n".join(parts), encoding="utf-8")


def section(name: str, found: dict[str, Any]) -> Iterator[str]:
    """The lines of one run."""
    made, limits = found["made"], found["ceilings"]
    hardware = made["device"] if found["device"] == "cuda" else f"{made['cpu']}, {found['threads']} thread(s)"
    versions = ", ".join(f"{key} {value}" for key, value in made["versions"].items() if key in ("python", "torch"))
    compute = ", ".join(f"{key} {value}" for key, value in found["compute"].items())
    yield f"## {name}"
    yield ""
    yield f"{hardware} ({found['cores']} cores, {found['workers']} loader workers); {versions}."
    yield f"Commit {made['commit']}."
    yield f"Batches of {found['batch']}; the engine's compute: {compute}."
    kind = "bf16" if found["device"] == "cuda" else "fp32"
    tera, giga = limits["flops"] / 1e12, limits["bandwidth"] / 1e9
    yield f"Measured ceilings: {kind} matrix product {tera:.3g} TFLOP/s, copy {giga:,.0f} GB/s."
    yield from checked(found.get("check"))
    for stage in ("initialization", "refinement", "evaluation"):
        if stage in found:
            yield ""
            yield from contenders(stage, found[stage], limits, found["device"])
    if "parts" in found:
        yield ""
        yield from parts(found["parts"])


def checked(check: dict[str, Any] | None) -> Iterator[str]:
    """One line on whether both compute the same."""
    if check is None:
        yield "Losses and boxes were not compared in this run."
    elif "failed" in check:
        yield f"Comparison of losses and boxes FAILED: {check['failed']}"
    else:
        apart = max((abs(v[0] - v[1]) / max(1.0, abs(v[1])) for v in check.values() if len(v) == 2), default=0.0)
        yield (
            f"Losses of the first step of either stage differ by at most {apart:.1e}; pseudo boxes have a mean IoU of "
            f"{check['pseudo boxes IoU'][0]:.4f} with each other."
        )


def contenders(stage: str, found: dict[str, Any], limits: dict[str, float], device: str) -> Iterator[str]:
    """The rows of one stage."""
    if "failed" in found:
        yield f"**{stage}** FAILED: {found['failed']}"
        return
    asked = found.get("demands")
    least = ""
    if asked:
        floors = ", ".join(f"{asked[key]:.3g} ms ({title})" for key, title in FLOORS)
        least = f": {asked['gflop']:.4g} GFLOP an image; at least {floors}"
    cpu = device == "cpu"
    yield f"**{stage}**{least}"
    yield ""
    spent = "CPU ms an image, median (range)" if cpu else "ms an image, median (range)"
    yield f"| | images/s | {spent} | of the ceiling | of the roofline | peak GiB | runs |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for name, row in found["contenders"].items():
        if "images_per_second" not in row:
            yield f"| {name} | {row.get('failed', 'no result')} | | | | | |"
            continue
        rate = row["images_per_second"]
        times = [1e3 * value / row["images"] for value in row["cpu" if cpu else "seconds"]]
        each = f"{statistics.median(times):.3f} ({min(times):.3f} to {max(times):.3f})"
        shares = ["", ""]
        if asked:
            shares = [f"{rate * asked['gflop'] * 1e9 / limits['flops']:.1%}", f"{asked['layers_ms'] * rate / 1e3:.1%}"]
        peak = row.get("peak_gib_above", row.get("peak_gib_process", 0.0))
        yield f"| {name} | {rate:,.1f} | {each} | {' | '.join(shares)} | {peak:.2f} | {len(row['seconds'])} |"
    yield ""
    yield from ratios(found["contenders"], cpu)


FLOORS = (("layers_ms", "layer by layer"), ("products_ms", "convolutions and products alone"))


def ratios(rows: dict[str, Any], cpu: bool) -> Iterator[str]:
    """How the engine compares with the references on like data, and what waiting for data costs each."""
    unit = "CPU seconds" if cpu else "time"
    known = {name: row for name, row in rows.items() if "images_per_second" in row}

    def spent(name: str) -> float:
        return float(known[name]["cpu_ms_per_image"] if cpu else 1e3 / known[name]["images_per_second"])

    for name in known:
        who, _, what = name.rpartition(" ")
        ours = "engine cache" if what == "files" and "engine cache" in known else f"engine {what}"
        if who != "engine" and ours in known:
            yield f"- {ours} takes 1/{spent(name) / spent(ours):.2f} of the {unit} of {name}"
        if what in ("cache", "files") and f"{who} held" in known:
            waiting = 1 - known[name]["images_per_second"] / known[f"{who} held"]["images_per_second"]
            yield f"- {name}: {max(waiting, 0):.1%} of the time goes into waiting for data"
        if "waiting_share" in known[name]:
            yield f"- {name}: {known[name]['waiting_share']:.1%} by the stage's own watch, in the last epoch"


def parts(found: dict[str, Any]) -> Iterator[str]:
    """The rows of the parts."""
    if "failed" in found:
        yield f"**parts** FAILED: {found['failed']}"
        return
    yield "| part, ms an image | engine | reference | ratio |"
    yield "|---|---:|---:|---:|"
    for name, row in found.items():
        yield f"| {name} | {row['engine_ms']:.3f} | {row['reference_ms']:.3f} | {row['ratio']:.2f} |"
