"""How long commands are silent: the first output and the longest gap of each, on a pipe and on a terminal.

    python benchmarks/heard.py FILE

FILE holds command lines of the shell, one a line, with `lchp` for the command; they run one after the other in the
working folder. A line that begins with `-` is run and not measured. Beside each stand its CPU seconds, because cores
may be shared: what takes long by the clock alone waited for others.
"""

from __future__ import annotations

import argparse
import os
import platform
import pty
import resource
import select
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

from lchp.training.environment import describe

SHELL = f"lchp() {{ '{sys.executable}' -c 'from lchp.cli import main; main()' \"$@\"; }}; "


def heard(command: str, terminal: bool) -> tuple[float, float, float, int]:
    """Seconds until the first output, of the longest gap after it, in all, and the exit code."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    begun = time.monotonic()
    process = subprocess.Popen(["bash", "-c", SHELL + command], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    os.close(theirs)
    times = [begun]
    while True:
        select.select([ours], [], [])
        try:
            block = os.read(ours, 1 << 16)
        except OSError:  # so a terminal says that nobody writes to it any more
            block = b""
        times.append(time.monotonic())
        if not block:
            break
    os.close(ours)
    code = process.wait()
    gaps = [after - before for before, after in pairwise(times[1:])]
    return times[1] - begun, max(gaps, default=0.0), times[-1] - begun, code


def cpu() -> float:
    """CPU seconds of the commands that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def main() -> None:
    """Measure, and print a row for each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    lines = parser.parse_args().file.read_text(encoding="utf-8").splitlines()
    made = describe("cpu")
    print(f"{made['cpu']}, {os.cpu_count()} cores, {platform.system()}; commit {made['commit']}; {made['versions']}")
    print("\n| command | first output | longest gap | in all | CPU s | on a terminal: first | longest gap | load |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for line in filter(None, lines):
        if line.startswith("-"):
            heard(line[1:], terminal=False)
            continue
        before = cpu()
        first, gap, seconds, code = heard(line, terminal=False)
        spent = cpu() - before
        on_first, on_gap, _, _ = heard(line, terminal=True)
        row = [f"`{line}`" + (f" (exit {code})" if code else ""), *(f"{value:.1f}" for value in (first, gap, seconds))]
        row += [f"{spent:.1f}", f"{on_first:.1f}", f"{on_gap:.1f}", f"{os.getloadavg()[0]:.0f}"]
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
