"""A search whose suggestions are in PostgreSQL: its driver is killed at statements drawn from a seed, then the server
is stopped under it, and in the end it is the search that nothing befell. A script, no test: it takes minutes,
PostgreSQL, and psycopg2.

The first start trains under Ray, the others in the driver's process.

    python -m tests.faults.search_database [--kills 6] [--seed 0] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna

import tests.study.small as small
from lchp.study.run import ray_tune
from lchp.study.run.options import Machine
from lchp.study.run.study import run_study
from tests.faults.outcome import differences, outcome
from tests.faults.subjects import SEARCH
from tests.faults.two_nodes import cluster, served

STATEMENTS = 12
"""A kill comes at one of so many writing statements after a start, if there are as many."""
CHILD = """
import os, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine

limit, server, under_ray, seen = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "ray", 0

@event.listens_for(Engine, "after_cursor_execute")
def executed(connection, cursor, statement, *_):
    global seen
    if connection.dialect.name == "postgresql" and statement.startswith(("INSERT", "UPDATE", "DELETE")):
        seen += 1
        if limit and seen == limit:
            print(f"statement {seen}: {statement.split(' (')[0].splitlines()[0][:60]}", flush=True)
            os.kill(server or os.getpid(), signal.SIGINT if server else signal.SIGKILL)

from lchp.cli import run
if not under_ray:
    import tests.study.small as small
    from lchp.study.run import ray_tune
    ray_tune.train = small.train_serially
sys.exit(run(sys.argv[4:]))
"""


def undisturbed(folder: Path) -> None:
    """The same search, whose suggestions are in its folder, in this process."""
    ray_tune.train = small.train_serially
    machine = Machine(folder / "cache", "cpu")
    uri = f"sqlite:///{folder / 'calm/mlflow.db'}"
    assert run_study(small.load(folder, SEARCH), folder / "calm/out", uri, machine, lambda _: None) == 0


def start(folder: Path, url: str, limit: int, stopped: int, how: str) -> int:
    """Run the search until its end, or to a statement at which it is killed or its server is stopped; gives the exit
    code.
    """
    place = folder / "disturbed"
    command = [sys.executable, "-c", CHILD, str(limit), str(stopped), how, "study", "run", str(folder / "study.yaml")]
    command += ["--output", str(place / "out"), "--cache", str(folder / "cache"), "--device", "cpu"]
    command += ["--tracking-uri", f"sqlite:///{place / 'mlflow.db'}", "--search-storage", url]
    done = subprocess.run(command, capture_output=True, text=True, cwd=place)
    told = [line for line in done.stdout.splitlines() if line.startswith("statement ") or "search" in line]
    print(f"{how}: exit code {done.returncode}; {'; '.join(told)}", flush=True)
    if done.returncode not in (0, -signal.SIGKILL):
        print(done.stderr.strip(), flush=True)
    return done.returncode


def suggestions(url: str | None, folder: Path) -> list[tuple[Any, ...]]:
    """What Optuna keeps of the search, but for suggestions that came to nothing."""
    from lchp.study.run.optuna_storage import STORAGE, open_search

    os.environ.pop(STORAGE, None)
    if url is not None:
        os.environ[STORAGE] = url
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials = open_search("tiny", folder).get_trials()
    return [(one.number, one.state.name, one.value, one.params, one.intermediate_values) for one in trials]


def main() -> None:
    """Run it; exit code 0 where everything holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where all of it lies; a temporary folder by default")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="search-")))
        folder.chmod(0o755)
        undisturbed(folder)
        (folder / "study.yaml").write_text(SEARCH, encoding="utf-8")
        (folder / "disturbed").mkdir()
        drawn = random.Random(chosen.seed)
        port, command = cluster(folder)
        with served(port, command, folder / "postgres-1.txt") as (url, postgres):
            for attempt in range(chosen.kills):
                code = start(folder, url, drawn.randint(1, STATEMENTS), 0, "serially" if attempt else "ray")
                assert code in (0, -signal.SIGKILL)
            assert start(folder, url, drawn.randint(1, 5), postgres.pid, "serially") == 1
        with served(port, command, folder / "postgres-2.txt"):
            assert start(folder, url, 0, 0, "serially") == 0
            kept = suggestions(url, folder / "disturbed/out/tiny")
        assert kept == suggestions(None, folder / "calm/out/tiny"), kept
        lines = differences(*(outcome(folder / name) for name in ("calm", "disturbed")))
        lines = [line for line in lines if not line.startswith("tiny/optuna.journal")]
        print("\n".join(lines) or f"the same {len(kept)} suggestions, files and runs as undisturbed")
        assert not lines, json.dumps(lines)


if __name__ == "__main__":
    main()
