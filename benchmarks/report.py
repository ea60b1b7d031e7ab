"""How long `lchp report` takes, and how much memory, for many runs with the boxes of many images each.

The runs are drawn, not trained: every one has the files of a finished trial, with a row of per_image.csv for each image
and method, and scores that are the means of those. The report is made by the command in a process of its own: wall and
CPU seconds and peak memory are that process's. What was just written may lie in the page cache, as after a study.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lchp.reporting.contents import Contents, Listed
from lchp.reporting.table import TableSpec
from lchp.store.folder import StageFolder, StageResult
from lchp.store.per_image import COLUMNS
from lchp.store.study_folder import StudyFolder, store_of
from lchp.vocabulary import GT_KNOWN, HIT_IOU, METHODS, REFINEMENT, SELECTED, TEST, Score, training_key

REPORT = """
import re, sys, time
from pathlib import Path
from lchp.cli import run
assert run(["report", sys.argv[1]]) == 0
print(f"{time.process_time():.1f}", re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
CLASSES, SEEDS, DELTAS = 200, 5, 20
MEASURED = [name for name, method in METHODS.items() if not method.reference]
MEANS = dict(zip(MEASURED, (0.45, 0.5, 0.6, 0.3, 0.4), strict=True))


def draw(output: Path, runs: int, images: int) -> Path:
    """Write the folder of a study of so many finished runs, and their store; gives the folder."""
    generator = np.random.default_rng(0)
    before, after = _words(generator, images)
    listed = []
    for number in range(runs):
        setting, seed = divmod(number, SEEDS)
        varied = {"delta": round(0.01 * (1 + setting % DELTAS), 2), "tau": round(0.01 * (setting // DELTAS), 2)}
        ious = {
            name: np.clip(generator.normal(0.0 if METHODS[name].constant else 0.01 * seed, 0.2, images) + mean, 0, 1)
            for name, mean in MEANS.items()
        }
        numbers = np.concatenate(list(ious.values())).round(12).tolist()
        rows = map("".join, zip(before, map(repr, numbers), after, strict=True))
        place = f"trial/{number:04}"
        StageFolder(store_of(output) / place).finish(
            StageResult(
                config={"seed": seed, "view": {"resize": 256, "crop": 224, "evaluation": "whole"}},
                environment={"commit": "drawn", "versions": {}, "cpu": "none", "device": "cpu"},
                history=list(_history()),
                scores={Score(name, TEST, GT_KNOWN).key: float(np.mean(one >= HIT_IOU)) for name, one in ious.items()},
                per_image="".join([",".join(COLUMNS) + "\n", *rows]),
                selection=None,
                dataset="0" * 64,
                networks={},
            )
        )
        listed.append(Listed(f"{number:032x}", seed, varied, place))
    specs = (TableSpec(by=("delta", "tau")), TableSpec("delta", ("delta",), fixed={"tau": 0.0}))
    folder = StudyFolder(output / "many")
    folder.path.mkdir(parents=True)
    folder.contents.write_text(Contents("many", None, specs, tuple(listed)).text(), encoding="utf-8")
    return folder.path


def _words(generator: np.random.Generator, images: int) -> tuple[list[str], list[str]]:
    """What stands before and after the IoU in the rows of a run: the same in all, for time."""
    corners = generator.uniform(0, 150, (len(MEASURED), images, 2))
    before, after = [], []
    for method, places in zip(MEASURED, corners, strict=True):
        for image, (x, y) in enumerate(places.tolist()):
            box = "0.0,0.0,500.0,375.0" if method == MEASURED[3] else f"{x!r},{y!r},{x + 200!r},{y + 180!r}"
            path = f"images/{image % CLASSES:03}.Some_kind_of_bird/Some_Kind_Of_Bird_{image:04}_12345.jpg"
            before.append(f"{path},{image % CLASSES},{TEST},{method},{box},")
            after.append(",1,1\n" if image % 4 else ",0,1\n")
    return before, after


def _history() -> Iterator[dict[str, object]]:
    key = training_key(REFINEMENT, SELECTED)
    for step in range(1, 81):
        yield {"stage": REFINEMENT, "epoch": step, "step": step, "seconds": 60.0, "metrics": {key: 0.5 + step / 1000}}


def main() -> None:
    """Draw, report, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--images", type=int, default=5794, help="of the test split; CUB-200-2011's")
    parser.add_argument("--folder", type=Path, default=None, help="for some gigabytes [default: a temporary one]")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("| runs | images | seconds | CPU seconds | peak MiB |\n|---:|---:|---:|---:|---:|")
    for runs in arguments.runs:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
            folder = draw(Path(temporary), runs, arguments.images)
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", REPORT, str(folder)], check=True, capture_output=True, text=True
            )
            seconds = time.perf_counter() - start
            cpu, peak = done.stdout.splitlines()[-1].split()
            print(f"| {runs} | {arguments.images} | {seconds:.1f} | {cpu} | {int(peak) // 1024} |", flush=True)
            shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    main()
