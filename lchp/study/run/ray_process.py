"""The process that talks to Ray: it starts or joins a cluster, and runs the jobs that the driver gives under Ray Tune.

It is a child of the command's process (:mod:`lchp.study.run.ray_tune`), which knows no Ray. For Ray does not let its
own process live: where the cluster's head is gone its core aborts the process after a minute, and where the node's
raylet is gone calls may hang for ever, neither of which Python can catch or end. So everything that must survive, the
queue, the recorder and the word to the user, is with the parent, and this process may end at any time.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ray
import ray.air._internal.usage
from ray import cloudpickle, tune
from ray._private.node import Node
from ray.exceptions import RayError, RayTaskError
from ray.job_config import JobConfig
from ray.tune.search import Searcher

import lchp
from lchp.errors import Refusal
from lchp.study.run.cluster import FINISHED, Setup, Unstarted, end_session
from lchp.study.run.faults import PREEMPTED
from lchp.study.run.fitness import cluster_address, too_few
from lchp.study.run.queue import Job
from lchp.study.run.trainable import Session, TrialTrainable
from lchp.training.cores import cores

UNUSED = ("start_monitor", "start_log_monitor", "start_api_server")
"""What a node starts and no study asks: the autoscaler's monitor, what carries logs to the driver, the dashboard's
server. On a busy machine they take the time in which Ray's own parts must have started: 28 s became 18.
"""
ALIVE_SECONDS = 5.0
"""How often the parent hears that Tune's loop turns."""


def main(requests: int, commands: int) -> None:
    """Serve the driver at the other ends of two pipes, which these file descriptors are, until it has no more jobs."""
    parent = Parent(Connection(requests))
    setup: Setup = parent.requests.recv()
    attempts: dict[str, Any] = {}
    threading.Thread(target=_obey, args=(Connection(commands), attempts), daemon=True).start()
    try:
        with _cluster(setup):
            slots = _slots(setup)
            parent.tell("up", slots, _servers())
            _fit(setup, slots, parent, attempts)
            parent.tell("done")
    except Unstarted as error:
        parent.tell("unstarted", str(error))
    except Refusal as error:
        parent.tell("refused", str(error))
    except Exception:  # Ray raises whatever it meets: the parent judges
        parent.tell("crashed", traceback.format_exc())


@contextmanager
def _cluster(setup: Setup) -> Iterator[None]:
    """A Ray cluster, the one at RAY_ADDRESS or one of this machine that nobody else joins.

    Raises:
        Unstarted: it does not start, or cannot be joined.
        Refusal: it has fewer GPUs, or at RAY_ADDRESS fewer cores, than one trial takes.
    """
    # Failed trials are told by the recorder, with their whole traceback in MLflow.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    address = cluster_address()
    for name in UNUSED:
        setattr(Node, name, lambda *_, **__: None)
    own = {
        "address": "local",
        # A machine with fewer cores than one trial asks for trains it nevertheless, only slower.
        "num_cpus": max(cores(), math.ceil(setup.resources["cpu"])),
        "_node_ip_address": "127.0.0.1",
        "_temp_dir": str(setup.folder),
    }
    options: dict[str, Any] = {"address": address} if address else own
    if "://" not in options["address"]:  # Ray's client makes a job of its own
        options["job_config"] = _Job()
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray raises whatever it meets, bare Exception too.
        lines = (line.strip() for line in str(error).splitlines())
        raise Unstarted(next(filter(None, lines), type(error).__name__)) from error
    try:
        there = ray.cluster_resources()
        for name, amount in setup.resources.items():
            if amount > there.get(name.upper(), 0.0):
                raise Refusal(too_few(name, amount, there.get(name.upper(), 0.0)))
        yield
    finally:
        ray.shutdown()


class _Job(JobConfig):  # type: ignore[misc]
    """A job whose workers do not look for modules in the folder that the user stands in, where a `random.py` may lie.

    Ray puts that folder before all else, unless the job brings a folder of its own.
    """

    def _runtime_env_has_working_dir(self) -> bool:
        # Who stands in a checkout that nothing else leads to has lchp itself from there.
        return Path(lchp.__file__).parents[1] != Path.cwd() or bool(super()._runtime_env_has_working_dir())


def _slots(setup: Setup) -> int:
    """Most trials at once: what the cluster holds, and no more than the study allows."""
    there = ray.cluster_resources()
    taken = [(name, amount) for name, amount in setup.resources.items() if amount]
    holds = [int(there.get(name.upper(), 0.0) / amount + 1e-9) for name, amount in taken]
    return min([*holds, *([setup.concurrent] if setup.concurrent else [])])


def _servers() -> dict[str, str]:
    """Where the servers listen without which Ray does not go on: the cluster's head, and the raylet of this node."""
    here = ray.get_runtime_context()
    node = next(node for node in ray.nodes() if node["NodeID"] == here.get_node_id())
    return {"gcs_server": here.gcs_address, "raylet": f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"}


class Parent:
    """The driver in the parent process, as it is seen from here."""

    def __init__(self, requests: Connection) -> None:
        self.requests = requests

    def tell(self, name: str, *arguments: Any) -> None:
        """Send a message; nothing comes back."""
        self.requests.send((name, *arguments))

    def stops(self, attempt: str, result: dict[str, Any]) -> bool:
        """An epoch has ended; gives whether the attempt is to end."""
        told = ("global_epoch", "done", "reports", "notes", "seconds")
        self.tell("epochs", attempt, {name: result[name] for name in told if name in result})
        return not self.requests.recv()

    def next(self, attempt: str) -> Job | str | None:
        """The job of a new attempt; None where there is none now, :data:`FINISHED` where none will come."""
        self.tell("next", attempt)
        answer: Job | str | None = self.requests.recv()
        return answer


def _obey(commands: Connection, attempts: Mapping[str, Any]) -> None:
    """End the workers of the attempts that the parent names; when the parent has gone, or Ray cannot end one, this
    process with all that it has started.
    """
    try:
        while True:
            trial = attempts.get(commands.recv())
            actor = trial.temporary_state.ray_actor if trial else None
            if actor is not None:
                ray.kill(actor)
    finally:
        # Without its raylet Ray's agents would live for half a minute, and a worker that is stopped for ever.
        end_session(os.getpid())
        os._exit(1)


def _fit(setup: Setup, slots: int, parent: Parent, attempts: dict[str, Any]) -> None:
    # To count callbacks by their kinds Ray imports MLflow and others: more than a second for a number that nobody asks.
    ray.air._internal.usage.tag_callbacks = lambda callbacks: False
    materials = {dataset: ray.put(part) for dataset, part in setup.materials.items()}
    session = Session(setup.runtime, materials, setup.objective, setup.resources["gpu"], setup.judged)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(TrialTrainable, session=session), dict(setup.resources)),
        tune_config=tune.TuneConfig(
            search_alg=_Asking(parent),
            num_samples=-1,  # until the driver has no more
            max_concurrent_trials=slots,
            # Workers that stay have kept GPU memory (ray#32698).
            reuse_actors=not setup.runtime.device.startswith("cuda"),
            trial_name_creator=lambda trial: str(trial.trial_id),
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            storage_path=str(setup.folder / "tune"),
            name="study",
            verbose=0,
            stop=_Deciding(parent),
            callbacks=[_Telling(parent, attempts)],
            # A trial goes on from its own files; Ray would ask for a checkpoint after its last step.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    tuner.fit()


class _Asking(Searcher):  # type: ignore[misc]
    """Asks the driver which job is next. Ray asks again where there is none now.

    Ray's own grid copies the whole of it for every trial; a job holds one.
    """

    def __init__(self, parent: Parent) -> None:
        super().__init__()
        self.parent = parent

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next ``job``."""
        answer = self.parent.next(trial_id)
        if answer == FINISHED:
            return str(Searcher.FINISHED)
        return None if answer is None else {"job": answer}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the driver is told by callbacks."""

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """Ray writes its searchers to its own checkpoints, from which nothing is ever restored."""
        return object, ()

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a study goes on from its own files."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as :meth:`save`."""


class _Deciding(tune.Stopper):  # type: ignore[misc]
    """Tells the driver of every epoch, and ends the trial where it says so."""

    def __init__(self, parent: Parent) -> None:
        self.parent = parent

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self.parent.stops(trial_id, result)

    def stop_all(self) -> bool:
        """Never: the driver has no more jobs then."""
        return False

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """As those of searchers."""
        return tune.stopper.NoopStopper, ()


class _Telling(tune.Callback):  # type: ignore[misc]
    """Tells the driver what Ray reports of a trial."""

    def __init__(self, parent: Parent, attempts: dict[str, Any]) -> None:
        self.parent, self.attempts = parent, attempts
        self._alive = 0.0

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """As those of searchers."""
        return tune.Callback, ()

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        now = time.monotonic()
        if now - self._alive > ALIVE_SECONDS:
            self._alive = now
            self.parent.tell("alive")

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.attempts[trial.trial_id] = trial
        self.parent.tell("started", trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.attempts.pop(trial.trial_id, None)
        self.parent.tell("completed", trial.trial_id, trial.last_result.get("objective"))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.attempts.pop(trial.trial_id, None)
        text = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
        kept = trial.pickled_error_file
        error = cloudpickle.loads(Path(kept).read_bytes()) if kept else None
        self.parent.tell("failed", trial.trial_id, names_of(error), text)


def names_of(error: Exception | None) -> tuple[str, ...]:
    """The names of an error's classes, those of what the training code raised where it did."""
    if error is None:
        return ("RayError",)  # Tune keeps those that training code raises, and those of a worker that died
    cause = error.cause if isinstance(error, RayTaskError) else error
    # What cannot be pickled comes as a plain RayError.
    if getattr(error, "actor_init_failed", False) or (cause is not error and type(cause) is RayError):
        return ()
    names = tuple(kind.__name__ for kind in type(cause).__mro__)
    return (PREEMPTED, *names) if getattr(error, "preempted", False) else names
