"""The Ray cluster of a study: its own, on loopback and behind a token, unless the user names one."""

from __future__ import annotations

import logging
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from lchp.errors import Refusal
from lchp.study.run.cores import cores
from lchp.study.run.fitness import cluster_address, short_folder, too_few
from lchp.study.run.scratch import end_processes, scratch_folder
from lchp.study.run.stopping import listen
from lchp.study.spec.load import Study
from lchp.surroundings import unproxied

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    # Ray's own choice is 15: beside any other work on the machine training then starves.
    "RAY_worker_niceness": "0",
}
"""Ray sends no usage statistics, prints no tables, leaves Ctrl-C to us, hands every epoch over at once, and its workers
have the priority of the command that started them."""
ATTEMPTS = 3


@contextmanager
def cluster(study: Study, device: str) -> Iterator[dict[str, float]]:
    """A Ray cluster, the one at RAY_ADDRESS or one of this machine; gives the resources of a trial.

    Raises:
        Refusal: it does not start or cannot be reached; it has fewer GPUs, or at RAY_ADDRESS fewer cores, than one
            trial takes.
    """
    cpus = study.resources.cpus or study.base.compute.cpu_threads
    wanted = {"cpu": float(cpus), "gpu": study.resources.gpus if device.startswith("cuda") else 0.0}
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.update(unproxied(os.environ))
    # Failed trials are told by the recorder, with their whole traceback in MLflow.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    address = cluster_address()
    # A machine with fewer cores than one trial asks for trains it nevertheless, only slower.
    with _joined(address) if address else _own(max(cores(), math.ceil(cpus))):
        there = ray.cluster_resources()
        for name, amount in wanted.items():
            if amount > there.get(name.upper(), 0.0):
                raise Refusal(too_few(name, amount, there.get(name.upper(), 0.0)))
        yield wanted


@contextmanager
def _joined(address: str) -> Iterator[None]:
    try:
        _init(address=address)
    except Exception as error:  # Ray raises whatever it meets, bare Exception too.
        raise Refusal(
            f"Ray cluster {address} cannot be joined ({_first_line(error)}): see that it runs this version of Ray and "
            "Python, and where it asks for a token that RAY_AUTH_MODE=token and RAY_AUTH_TOKEN are set here as there"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own(cpus: int) -> Iterator[None]:
    """A cluster that nobody else joins, in a folder of its own: /tmp/ray may be another user's."""
    os.environ.update(_guarded())
    with scratch_folder(short_folder()) as folder:
        try:
            _start(folder, cpus)
            yield
        finally:
            ray.shutdown()


def _guarded() -> dict[str, str]:
    """The variables of a cluster that serves this user on this machine alone.

    Ray takes the machine's outward address even where loopback is asked for, except where clusters are not supported:
    so they are not. It asks for a token by itself unless RAY_AUTH_MODE says otherwise, and would leave one in the home
    folder if the environment held none.
    """
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False  # read from the variable at import, which may be long ago
    os.environ.pop("RAY_AUTH_MODE", None)
    variables = {ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}
    if not os.environ.get("RAY_AUTH_TOKEN") and not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        variables["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return variables


def _start(folder: Path, cpus: int) -> None:
    """Start Ray below ``folder``; on a busy machine one start in five has failed, so several are made.

    Raises:
        Refusal: the last has failed, too.
    """
    for attempt in range(ATTEMPTS):
        try:
            _init(address="local", num_cpus=cpus, _node_ip_address="127.0.0.1", _temp_dir=str(folder))
            return
        except Exception as error:  # Ray raises whatever it meets, bare Exception too.
            ray.shutdown()
            end_processes(folder)
            if attempt + 1 == ATTEMPTS:
                raise Refusal(
                    f"Ray does not start, {ATTEMPTS} times in a row ({_first_line(error)}): see that the machine has "
                    "memory and processes to spare (free, ulimit -u), then run the same command again; or start Ray "
                    "yourself with `ray start --head` and give its HOST:PORT with --address"
                ) from error


def _init(**options: Any) -> None:
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **options)
    finally:
        listen()  # Ray has taken the signals.


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
