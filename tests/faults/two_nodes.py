"""A study on a Ray cluster of two nodes, of which one is killed in the middle: it ends by itself, with the table of a
run on one machine. A script, no test: it takes minutes, and PostgreSQL.

Both nodes are raylets on this machine with one core each, an own session of processes, and own folders; all they have
in common is the shared store, a URI. MLflow is a server on PostgreSQL, for which psycopg2 must be importable; without
``initdb`` it is one on SQLite, which is said.

    python -m tests.faults.two_nodes [--store URI] [--folder DIR]
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pandas as pd
from mlflow.tracking import MlflowClient

import tests.study.small as small
from lchp.store.shared import resolved
from lchp.study.run import ray_tune
from lchp.study.run.cluster import end_session
from lchp.study.run.options import Machine
from lchp.study.run.study import run_study
from lchp.tracking.address import silence

STUDY = small.TINY.replace("train_per_class: 6", "train_per_class: 40").replace("epochs: 2", "epochs: 5") + (
    "vary: {delta: [0.4, 0.5], tau: [0.0, 0.5]}\nfailures: {retries: 3}\n"
)
POSTGRES = Path("/usr/lib/postgresql")
PATIENCE = 300.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(*command: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, which ends with the block, whatever it has started."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield started
    finally:
        end_session(started.pid)
        started.wait()


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """The URI of a PostgreSQL database of its own, or of a SQLite file where that is not installed."""
    if not list(POSTGRES.glob("*/bin/initdb")):
        print("PostgreSQL is not installed: MLflow is on SQLite")
        yield f"sqlite:///{folder / 'mlflow.db'}"
        return
    with served(*cluster(folder), log=folder / "postgres.txt") as (uri, _):
        yield uri


def cluster(folder: Path) -> tuple[int, list[str]]:
    """A new cluster of PostgreSQL databases in a folder: its port on this machine, and the command that serves it."""
    programs, place, port = max(POSTGRES.glob("*/bin/initdb")), folder / "postgres", free_port()
    place.mkdir()
    # PostgreSQL does not run as root.
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    if user:
        shutil.chown(place, "postgres", "postgres")
    data = str(place / "data")
    subprocess.run(
        [*user, str(programs), "-D", data, "-U", "lchp", "--auth=trust", "--no-sync"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    command = [*user, str(programs.with_name("postgres")), "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", ""]
    return port, command


@contextmanager
def served(port: int, command: Sequence[str], log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The URI of a database of a cluster, and the process that serves it while the block lasts."""
    with process(*command, log=log) as server:
        wait(lambda: answers(port), "PostgreSQL")
        yield f"postgresql+psycopg2://lchp@127.0.0.1:{port}/postgres", server


def answers(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def wait(until, what: str) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + PATIENCE
    while not until():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: nothing in {PATIENCE:g} s")
        time.sleep(0.2)


@contextmanager
def tracker(folder: Path, backend: str) -> Iterator[str]:
    """The address of an MLflow server."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", backend, "--artifacts-destination", str(folder / "artifacts")),
    ]
    with process(*command, log=folder / "mlflow.txt", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"):
        address = f"http://127.0.0.1:{port}"
        wait(lambda: silence(address) is None, "the MLflow server")
        yield address


def ray(folder: Path, name: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command that starts a node of one core, and what is in its environment."""
    command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", *arguments]
    command += ["--num-cpus=1", "--node-ip-address=127.0.0.1", "--disable-usage-stats", "--block"]
    return command, {"LCHP_NODE_FOLDER": str(folder / name), "RAY_worker_niceness": "0"}


def alone(folder: Path) -> pd.DataFrame:
    """The numbers of the study, trained in this process."""
    ray_tune.train = small.train_serially
    machine = Machine(folder / "cache", "cpu")
    study, uri = small.load(folder, STUDY), f"sqlite:///{folder / 'alone.db'}"
    assert run_study(study, folder / "alone", uri, machine, lambda _: None) == 0
    return numbers(folder / "alone")


def numbers(output: Path) -> pd.DataFrame:
    return pd.read_csv(output / "tiny/results.csv").drop(columns="run_id")


def states(uri: str) -> Mapping[str, str]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    return {str(run.info.run_name): run.info.status for run in client.search_runs([experiment.experiment_id])}


def main() -> None:
    """Run it; exit code 0 where everything holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="URI of the shared store; a folder by default")
    parser.add_argument("--folder", type=Path, help="where all of it lies; a temporary folder by default")
    chosen = parser.parse_args()
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), NO_PROXY="127.0.0.1")
    with ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="two-")))
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        expected = alone(folder)
        backend = stack.enter_context(database(folder))
        uri = stack.enter_context(tracker(folder, backend))
        port = free_port()
        session = stack.enter_context(tempfile.TemporaryDirectory(prefix="r", dir="/tmp"))
        head = ray(folder, "a", "--head", f"--port={port}", f"--temp-dir={session}", "--include-dashboard=false")
        stack.enter_context(process(*head[0], log=folder / "a.txt", **head[1]))
        wait(lambda: answers(port), "Ray's head")
        other = ray(folder, "b", f"--address=127.0.0.1:{port}")
        second = stack.enter_context(process(*other[0], log=folder / "b.txt", **other[1]))
        (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
        command = [
            *(sys.executable, "-c", "import sys; from lchp.cli import run; sys.exit(run(sys.argv[1:]))"),
            *("study", "run", str(folder / "study.yaml"), "--output", str(folder / "out")),
            *("--cache", str(folder / "driver"), "--tracking-uri", uri, "--address", f"127.0.0.1:{port}"),
            *("--store", resolved(chosen.store or str(folder / "shared")), "--device", "cpu"),
        ]
        started = time.monotonic()
        study = stack.enter_context(process(*command, log=folder / "study.txt"))
        wait(lambda: list(folder.glob("b/store/*/*/checkpoint.pt")), "the second node has trained an epoch")
        end_session(second.pid)
        print(f"{time.monotonic() - started:.0f} s: the second node was killed")
        study.wait(2 * PATIENCE)
        print((folder / "study.txt").read_text(encoding="utf-8"))
        print(f"{time.monotonic() - started:.0f} s: the study has ended with exit code {study.returncode}")
        assert study.returncode == 0
        pd.testing.assert_frame_equal(numbers(folder / "out"), expected, check_exact=True)
        found = states(uri)
        assert set(found.values()) == {"FINISHED"}, found
        print(f"the same {len(expected)} numbers as alone; {len(found)} runs, all FINISHED, in {backend.split('@')[0]}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
