"""A study on the services of deploy/compose.yaml, without containers: PostgreSQL, an S3 store (moto's server in
place of the one there), MLflow's server, a Ray cluster of a head and two workers; its table is that of a run on one
machine. A script, no test: it takes minutes.

Commands, environments and health checks are those of compose.yaml; only names of services become 127.0.0.1 and ports
free ones. It wants what ``lchp[cluster]`` installs, PostgreSQL, and ``moto_server`` on the PATH
(not that of moto 5.2.1, whose answers pyarrow takes for errors).

    python -m tests.faults.composed [--folder DIR]
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pandas as pd
import psycopg2
import yaml

from tests.faults.two_nodes import alone, answers, cluster, free_port, numbers, process, served, states, wait

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PROGRAMS = {
    "ray": [sys.executable, "-c", "from ray.scripts.scripts import main; main()"],
    "mlflow": [sys.executable, "-m", "mlflow"],
    "python3": [sys.executable],
    "lchp": [sys.executable, "-c", "import sys; from lchp.cli import run; sys.exit(run(sys.argv[1:]))"],
}
WORKERS = 2


@dataclass(frozen=True)
class Services:
    """What compose.yaml says of its services, for this machine: ``ports`` are free ones, by those that are there."""

    folder: Path
    file: Mapping[str, Any]
    ports: Mapping[str, int]

    def command(self, service: str, *more: str) -> list[str]:
        said = self.file["services"][service]
        program, *rest = [*said["entrypoint"], *said.get("command", [])]
        return [*PROGRAMS[program], *rest, *more]

    def environment(self, service: str, name: str) -> dict[str, str]:
        """Of one process of a service, whose container's folders are those of that name here."""
        said = {**self.file["services"][service]["environment"], "HOME": str(self.folder / name)}
        return {key: str(self.folder / name) if value == "/node" else value for key, value in said.items()}

    @contextmanager
    def running(self, service: str, name: str, *more: str) -> Iterator[None]:
        (self.folder / name).mkdir()
        environment = self.environment(service, name)
        with process(*self.command(service, *more), log=self.folder / f"{name}.txt", **environment):
            wait(lambda: self.healthy(service, environment), f"the health of {name}")
            yield

    def healthy(self, service: str, environment: Mapping[str, str]) -> bool:
        _, program, *rest = self.file["services"][service]["healthcheck"]["test"]
        command = [*PROGRAMS[program], *rest]
        return (
            subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False).returncode == 0
        )


def here(folder: Path, ports: Mapping[str, int], variables: Mapping[str, str]) -> Services:
    """The services of compose.yaml with these variables of ``.env``."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    text = re.sub(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)\}", lambda found: variables.get(found[1], found[2] or ""), text)
    names = "|".join([*yaml.safe_load(text)["services"], "localhost"])
    text = re.sub(rf"(?<!\w)({names})(?=:\d)|\b0\.0\.0\.0\b", "127.0.0.1", text)
    text = re.sub(rf"\b({'|'.join(ports)})\b", lambda found: str(ports[found[1]]), text)
    return Services(folder, yaml.safe_load(text), ports)


def databases(services: Services) -> None:
    """Make those that PostgreSQL's container makes at its first start."""
    said = services.file["services"]["database"]["environment"]
    user, password = said["POSTGRES_USER"], said["POSTGRES_PASSWORD"]
    address = {"host": "127.0.0.1", "port": services.ports["5432"], "user": user, "password": password}

    def ready() -> bool:
        with suppress(psycopg2.OperationalError):  # it takes calls before it answers them
            psycopg2.connect(dbname="postgres", **address).close()
            return True
        return False

    wait(ready, "PostgreSQL")
    connection = psycopg2.connect(dbname="postgres", **address)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in (f"CREATE DATABASE {said['POSTGRES_DB']}", services.file["configs"]["databases"]["content"]):
            cursor.execute(statement)
    connection.close()


@contextmanager
def all_running(folder: Path) -> Iterator[Services]:
    """The services, in the order in which they need each other."""
    with ExitStack() as stack:
        port, postgres = cluster(folder)
        ports = {"5432": port, **{text: free_port() for text in ("9000", "5000", "6379", "8265")}}
        secret = {name: secrets.token_hex(32) for name in ("RAY_AUTH_TOKEN", "POSTGRES_PASSWORD", "STORE_SECRET")}
        services = here(folder, ports, {**secret, "WORKERS": str(WORKERS), "WORKER_CPUS": "1"})
        stack.enter_context(served(port, postgres, folder / "database.txt"))
        databases(services)
        store = ["moto_server", "-H", "127.0.0.1", "-p", str(ports["9000"])]
        stack.enter_context(process(*store, log=folder / "store.txt"))
        wait(lambda: answers(ports["9000"]), "the S3 store")
        buckets = {**os.environ, **services.environment("buckets", "buckets")}
        subprocess.run(services.command("buckets"), env=buckets, check=True)
        stack.enter_context(services.running("mlflow", "mlflow"))
        session = stack.enter_context(tempfile.TemporaryDirectory(prefix="r", dir="/tmp"))
        place = "--node-ip-address=127.0.0.1"
        stack.enter_context(services.running("head", "head", place, f"--temp-dir={session}"))
        for index in range(services.file["services"]["worker"]["deploy"]["replicas"]):
            stack.enter_context(services.running("worker", f"worker{index}", place))
        yield services


def run(services: Services, output: Path) -> None:
    """Run the study as ``docker compose exec head`` would."""
    study = ["study", "run", str(services.folder / "study.yaml"), "--output", str(output)]
    command = [*PROGRAMS["lchp"], *study, "--cache", str(services.folder / "driver"), "--device", "cpu"]
    environment = {**os.environ, **services.environment("head", "head")}
    started = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, sep="\n")
    print(f"{time.monotonic() - started:.0f} s: exit code {done.returncode}")
    assert done.returncode == 0


def objects(services: Services, bucket: str) -> int:
    said = services.environment("buckets", "buckets")
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{services.ports['9000']}",
        region_name=said["AWS_DEFAULT_REGION"],
        aws_access_key_id=said["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=said["AWS_SECRET_ACCESS_KEY"],
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return sum(page["KeyCount"] for page in pages)


def answer(port: int, host: str) -> int:
    """The status with which MLflow's server answers a request to that host."""
    body = b'{"max_results": 1}'
    headers = {"Host": host, "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search", body, headers)
    try:
        with urllib.request.urlopen(request) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def main() -> None:
    """Run it; exit code 0 where everything holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where all of it lies; a temporary folder by default")
    chosen = parser.parse_args()
    os.environ["NO_PROXY"] = "127.0.0.1"
    with ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="composed-")))
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        expected = alone(folder)
        services = stack.enter_context(all_running(folder))
        print("all services are healthy")
        mlflow = services.ports["5000"]
        found = {host: answer(mlflow, host) for host in ("mlflow:5000", "localhost:5000", "elsewhere:5000")}
        print(f"MLflow's server answers requests to {found}")
        assert list(found.values()) == [200, 200, 403]
        run(services, folder / "out")
        pd.testing.assert_frame_equal(numbers(folder / "out"), expected, check_exact=True)
        runs = states(f"http://127.0.0.1:{mlflow}")
        assert set(runs.values()) == {"FINISHED"}, runs
        trained = [len(list(folder.glob(f"worker{index}/store/*/*/manifest.json"))) for index in range(WORKERS)]
        stored = {bucket: objects(services, bucket) for bucket in ("lchp", "mlflow")}
        assert any(trained), trained  # one worker may have joined when the other had begun
        assert all(stored.values()), stored
        print(f"the same {expected.size} values as alone; {len(runs)} runs, all FINISHED")
        print(f"stages in the workers' stores {trained}; objects in the buckets {stored}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
