"""Trials under Ray Tune: the cluster, the resources of a trial, and what the driver records of every epoch."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune

from lchp.errors import Refusal
from lchp.study.run.optuna_search import ContinuedSearch
from lchp.study.run.recorder import Recorder
from lchp.study.run.trainable import TrialTrainable
from lchp.study.spec.load import Study

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
}
"""Ray sends no usage statistics, prints no tables, leaves Ctrl-C to us and hands every epoch over at once."""


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def cluster(study: Study, device: str) -> Iterator[dict[str, float]]:
    """A Ray cluster, the one at RAY_ADDRESS or one of this machine; gives the resources of a trial.

    Raises:
        Refusal: the cluster has fewer GPUs, or at RAY_ADDRESS fewer cores, than one trial takes.
    """
    cpus = study.resources.cpus or study.base.compute.cpu_threads
    wanted = {"cpu": float(cpus), "gpu": study.resources.gpus if device.startswith("cuda") else 0.0}
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # Failed trials are told by the recorder, with their whole traceback in MLflow.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    # A machine with fewer cores than one trial asks for trains it nevertheless, only slower.
    local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": max(cores(), math.ceil(cpus))}
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **local)
    try:
        there = ray.cluster_resources()
        for name, amount in wanted.items():
            if amount > there.get(name.upper(), 0.0):
                raise Refusal(
                    f"resources.{name}s = {amount:g}: the machine has {there.get(name.upper(), 0.0):g}: "
                    f"lower it with --set resources.{name}s=..." + (", or --device cpu" if name == "gpu" else "")
                )
        yield wanted
    finally:
        ray.shutdown()


def train(study: Study, names: Sequence[str], missing: int, recorder: Recorder) -> None:
    """Train trials to their end: those planned under ``names``, or of a search ``missing`` further suggestions.

    A trial that fails does not keep the others from going on; the recorder knows which did.
    """
    session = recorder.session
    device = session.runtime.device
    with cluster(study, device) as resources, tempfile.TemporaryDirectory(prefix="lchp-ray-") as scratch:
        space: dict[str, Any] = {"session": session, "trial": "" if study.search else tune.grid_search(list(names))}
        searcher = ContinuedSearch(study.name, recorder.folder, study.search) if study.search else None
        tuner = tune.Tuner(
            tune.with_resources(TrialTrainable, resources),
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=missing if study.search else 1,
                max_concurrent_trials=_concurrent(study, resources),
                # Workers that stay have kept GPU memory (ray#32698).
                reuse_actors=not device.startswith("cuda"),
            ),
            run_config=tune.RunConfig(storage_path=scratch, name=study.name, verbose=0, callbacks=[recorder]),
        )
        failed = tuner.fit().num_errors
    assert failed == recorder.failed, f"Ray counts {failed} failed trials, {recorder.failed} were recorded"


def _concurrent(study: Study, resources: dict[str, float]) -> int:
    """Most trials at once: what the cluster holds, and no more than the study allows."""
    there = ray.cluster_resources()
    holds = [int(there.get(name.upper(), 0.0) / amount + 1e-9) for name, amount in resources.items() if amount]
    return min([*holds, *([study.resources.concurrent] if study.resources.concurrent else [])])
