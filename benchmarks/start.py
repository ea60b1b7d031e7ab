"""What `lchp study run` costs until its first training step: CPU seconds of all processes, by what they are.

    python benchmarks/start.py [--repeat 3] [STUDY and options of `lchp study run`]

The images are resized before, by a first start that is not counted; each start that is counted has a new folder and a
new tracking store. CPU seconds, because cores may be shared. Without arguments: quickstart with one seed.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from lchp.training.environment import describe

MARK = "LCHP_START_MARK"
"""The variable that names the file which a worker makes at its first step."""
HOOK = f'''
import os, sys
class _Marking:
    def find_spec(self, name, path=None, target=None):
        if name != "lchp.training.initialization":
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec
        spec = find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            step = module.Initialization._step
            def marked(self, *arguments):
                open(os.environ["{MARK}"], "w").close()
                return step(self, *arguments)
            module.Initialization._step = marked
        spec.loader.exec_module = exec_module
        return spec
sys.meta_path.insert(0, _Marking())
'''
_SUBREAPER = 36
_TICKS = os.sysconf("SC_CLK_TCK")


def kind(command: str) -> str:
    """What a process is, by its command line."""
    for word, name in (
        ("raylet/raylet", "raylet and head"),  # its own command line tells those of its workers
        ("gcs_server", "raylet and head"),
        ("Agent", "Ray's agents"),
        ("agent", "Ray's agents"),
        ("ray::IDLE", "idle workers"),
        ("ray::", "worker that trains"),
        ("default_worker.py", "idle workers"),
        ("ray_process", "process that talks to Ray"),
        ("lchp.cli", "command"),
    ):
        if word in command:
            return name
    return "others"


def spent() -> Counter[str]:
    """CPU seconds of all that this process has started, and of what those have started, by kind."""
    parents: dict[int, int] = {}
    seconds: dict[int, tuple[str, float]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        # The children that have ended and were waited for count with their parents.
        seconds[int(folder.name)] = kind(command), sum(map(int, fields[11:15])) / _TICKS
        parents[int(folder.name)] = int(fields[1])
    found: Counter[str] = Counter()
    for process, (name, amount) in seconds.items():
        above = parents.get(process)
        while above and above != os.getpid():
            above = parents.get(above)
        if above:
            found[name] += amount
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    found["others"] += ended.ru_utime + ended.ru_stime
    return found


def start(words: list[str], folder: Path, cache: Path) -> tuple[Counter[str], float]:
    """One start until the first step; gives CPU seconds by kind, and seconds by the clock."""
    folder.mkdir()
    (folder / "hook").mkdir()
    (folder / "hook/sitecustomize.py").write_text(HOOK)
    mark = folder / "first"
    path = os.pathsep.join(filter(None, [str(folder / "hook"), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", "from lchp.cli import main; main()", "study", "run", *words]
    command += ["--output", str(folder / "analysis"), "--cache", str(cache), "--device", "cpu"]
    command += ["--tracking-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    before, begun = spent(), time.monotonic()
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": path, MARK: str(mark)},
        cwd=folder,
        stdout=(folder / "said").open("w"),
        stderr=subprocess.STDOUT,
    )
    try:
        while not mark.exists():
            if process.poll() is not None:
                raise RuntimeError((folder / "said").read_text())
            time.sleep(0.02)
        found, seconds = spent(), time.monotonic() - begun
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        while _reaped():
            pass
    found.subtract(before)
    return found, seconds


def _reaped() -> bool:
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        return False
    return True


def main() -> None:
    """Measure, and print a line for each start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    chosen, words = parser.parse_known_args()
    words = words or ["quickstart", "--seeds", "0"]
    # What loses its parent becomes a child of this process: nothing that has ended goes uncounted.
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    made = describe("cpu")
    print(f"{made['cpu']}, {os.cpu_count()} cores, {platform.system()}; commit {made['commit']}; {made['versions']}")
    with tempfile.TemporaryDirectory(prefix="lchp-start-") as scratch:
        for number in range(chosen.repeat + 1):
            found, seconds = start(words, Path(scratch) / str(number), Path(scratch) / "cache")
            if not number:
                continue
            parts = ", ".join(f"{name} {amount:.1f}" for name, amount in found.most_common() if amount >= 0.05)
            print(f"{found.total():.1f} CPU s, {seconds:.1f} s, load {os.getloadavg()[0]:.1f}: {parts}", flush=True)


if __name__ == "__main__":
    main()
