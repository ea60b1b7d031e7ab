"""Trials under Ray Tune: how many at once, and what the driver records of every epoch."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from lchp.study.run.cluster import cluster
from lchp.study.run.optuna_search import ContinuedSearch
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
        objective = study.search.objective.key if study.search else None
        session = Session(runtime, materials, objective, study.references)
        queue = TrialQueue(trials) if trials else ContinuedSearch(study, recorder.ledger.folder, recorder.refuse)
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(TrialTrainable, session=session), resources),
            tune_config=tune.TuneConfig(
                search_alg=queue,
                num_samples=len(trials) or study.count,
                max_concurrent_trials=_concurrent(study, resources),
                # Workers that stay have kept GPU memory (ray#32698).
                reuse_actors=not device.startswith("cuda"),
                trial_name_creator=lambda trial: str(trial.trial_id),
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                storage_path=str(scratch),
                name=study.name,
                verbose=0,
                callbacks=[_Recording(recorder)],
                # A trial goes on from its own files; Ray would ask for a checkpoint after its last step.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()


class TrialQueue(Searcher):  # type: ignore[misc]
    """Hands Ray the planned trials in their order, each with its own configuration and no other.

    Ray's own grid copies the whole of it for every trial.
    """

    def __init__(self, trials: Sequence[ResolvedTrial]) -> None:
        super().__init__()
        self._waiting = list(reversed(trials))

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next trial, under ``trial``."""
        return {"trial": self._waiting.pop()} if self._waiting else str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the recorder writes down what became of a trial."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a study goes on from its own files."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as :meth:`save`."""


class _Recording(tune.Callback):  # type: ignore[misc]
    """Tells the recorder what Ray reports of a trial."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """Ray writes its callbacks to its own checkpoints, from which nothing is ever restored."""
        return tune.Callback, ()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.recorder.start(trial.config["trial"])

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        reports, notes = result.get("reports", []), result.get("notes", [])
        self.recorder.epochs(trial.config["trial"], int(result["global_epoch"]), reports, notes)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.recorder.complete(trial.config["trial"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        text = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else "the worker died"
        self.recorder.fail(trial.config["trial"], text)


def _concurrent(study: Study, resources: dict[str, float]) -> int:
    """Most trials at once: what the cluster holds, and no more than the study allows."""
    there = ray.cluster_resources()
    holds = [int(there.get(name.upper(), 0.0) / amount + 1e-9) for name, amount in resources.items() if amount]
    return min([*holds, *([study.resources.concurrent] if study.resources.concurrent else [])])
