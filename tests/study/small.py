"""A study that trains in a second, and a way to train it without Ray."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from lchp.study.run.driver import Driver
from lchp.study.run.options import Machine
from lchp.study.run.queue import Job
from lchp.study.run.recorder import Recorder
from lchp.study.run.study import run_study
from lchp.study.run.trainable import Session, TrialTrainable
from lchp.study.spec.load import Study
from lchp.study.spec.trials import ResolvedTrial
from tests.study.written import GRID, TINY, load

__all__ = ["GRID", "TINY", "load", "run", "session_of", "train_serially", "trainable_of"]


def session_of(study: Study, recorder: Recorder) -> Session:
    """What Ray would carry to the workers: a copy of what is prepared now."""
    materials = recorder.materials
    carried = {dataset: pickle.loads(pickle.dumps(part)) for dataset, part in materials.by_dataset().items()}
    search = study.search
    judged = search is not None and search.pruner is not None
    return Session(materials.runtime, carried, search.objective.key if search else None, judged=judged)


def train_serially(study: Study, trials: Sequence[ResolvedTrial], recorder: Recorder) -> None:
    """Train the trials, or a search's missing suggestions, one after the other in this process, through the same
    Trainable and the same Driver.
    """
    session, driver = session_of(study, recorder), Driver(study, trials, recorder)
    for attempt in map(str, count()):
        job = driver.next(attempt)
        if job is None:
            break
        driver.started(attempt)
        trainable = trainable_of(job, session)
        result: dict[str, Any] = {"done": False}
        while not result["done"]:
            result = trainable.step()
            if not driver.epochs(attempt, result):
                break
        trainable.stop()
        driver.completed(attempt, result.get("objective"))
    assert driver.finished
    driver.close()


def trainable_of(job: Job, session: Session) -> TrialTrainable:
    """A Trainable in this process, as ``tune.with_parameters`` would make it."""

    class Inner(TrialTrainable):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            super().setup(config, session=session)

    return Inner({"job": job})


def run(study: Study, folder: Path, lines: list[str] | None = None) -> int:
    """Run a study into ``folder/out`` with its store, cache and MLflow in ``folder``."""
    said = lines if lines is not None else []
    machine = Machine(folder / "cache", "cpu")
    return run_study(study, folder / "out", f"sqlite:///{folder / 'mlflow.db'}", machine, said.append)
