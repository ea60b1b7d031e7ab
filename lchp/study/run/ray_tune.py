"""Trials under Ray Tune: how many at once; which is next, and what becomes of each, is the driver's."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from lchp.study.run.cluster import cluster
from lchp.study.run.driver import Driver
from lchp.study.run.recorder import Recorder
from lchp.study.run.scratch import scratch_folder
from lchp.study.run.trainable import Session, TrialTrainable
from lchp.study.spec.load import Study
from lchp.study.spec.trials import ResolvedTrial


def train(study: Study, trials: Sequence[ResolvedTrial], recorder: Recorder) -> None:
    """Train trials to their end: the given ones in this order, or, where none are, what a search still suggests.

    A trial that fails does not keep the others from going on; the recorder knows which did.
    """
    runtime = recorder.materials.runtime
    device = runtime.device
    with cluster(study, device) as resources, scratch_folder(Path(tempfile.gettempdir())) as scratch:
        materials = {dataset: ray.put(part) for dataset, part in recorder.materials.by_dataset().items()}
        session = Session(runtime, materials, study.search.objective.key if study.search else None)
        slots = _concurrent(study, resources)
        driver = Driver(study, trials, recorder, slots)
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(TrialTrainable, session=session), resources),
            tune_config=tune.TuneConfig(
                search_alg=_Asking(driver),
                num_samples=-1,  # until the driver has no more
                max_concurrent_trials=slots,
                # Workers that stay have kept GPU memory (ray#32698).
                reuse_actors=not device.startswith("cuda"),
                trial_name_creator=lambda trial: str(trial.trial_id),
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                storage_path=str(scratch),
                name=study.name,
                verbose=0,
                callbacks=[_Telling(driver)],
                # A trial goes on from its own files; Ray would ask for a checkpoint after its last step.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()
        driver.close()


class _Asking(Searcher):  # type: ignore[misc]
    """Asks the driver which job is next. Ray asks again where there is none now.

    Ray's own grid copies the whole of it for every trial; a job holds one.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self.driver = driver

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next ``job``."""
        job = self.driver.next(trial_id)
        if job is None:
            return str(Searcher.FINISHED) if self.driver.finished else None
        return {"job": job}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the driver is told by callbacks."""

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """Ray writes its searchers to its own checkpoints, from which nothing is ever restored."""
        return object, ()

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a study goes on from its own files."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as :meth:`save`."""


class _Telling(tune.Callback):  # type: ignore[misc]
    """Tells the driver what Ray reports of a trial."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """As those of searchers."""
        return tune.Callback, ()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.driver.started(trial.trial_id)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        self.driver.epochs(trial.trial_id, result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.driver.completed(trial.trial_id, trial.last_result.get("objective"))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        text = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else "the worker died"
        self.driver.failed(trial.trial_id, text)


def _concurrent(study: Study, resources: dict[str, float]) -> int:
    """Most trials at once: what the cluster holds, and no more than the study allows."""
    there = ray.cluster_resources()
    holds = [int(there.get(name.upper(), 0.0) / amount + 1e-9) for name, amount in resources.items() if amount]
    return min([*holds, *([study.resources.concurrent] if study.resources.concurrent else [])])
