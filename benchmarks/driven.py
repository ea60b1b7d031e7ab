"""A study's driver with its workers in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

from lchp.study.run.driver import Driver
from lchp.study.run.queue import Job
from lchp.study.run.recorder import Recorder
from lchp.study.spec.load import Study
from lchp.study.spec.trials import ResolvedTrial
from lchp.training.material import Material

Work = Callable[[Job, Material], Iterable[dict[str, Any]]]
"""Does a job's trial; gives what a worker reports of it, as it comes."""


def drive(study: Study, trials: Sequence[ResolvedTrial], recorder: Recorder, work: Work) -> None:
    """Have every trial done that the driver gives out."""
    driver = Driver(study, trials, recorder)
    for attempt in map(str, count()):
        job = driver.next(attempt)
        if job is None:
            break
        driver.started(attempt)
        for reported in work(job, recorder.materials.of(job.trial.config)):
            driver.epochs(attempt, reported)
        driver.completed(attempt, None)
    driver.close()
