"""One trial under Ray Tune: a step is an epoch, over both stages. Ray keeps no checkpoint of it: a trial goes on from
its own files.

What trains is imported where it begins, in a worker: Ray's own process names the class, and would wait for torch.
"""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import ray
import ray.tune

from lchp.data.config import DatasetConfig
from lchp.study.run.node import limit_memory, material_here
from lchp.study.run.options import epoch_line, total_epochs
from lchp.study.run.pictures import keep_picture
from lchp.study.run.queue import Job
from lchp.study.run.system import Meter, is_wanted
from lchp.training.box_free import objective
from lchp.training.config import TrialConfig
from lchp.training.material import Material, Runtime
from lchp.vocabulary import INITIALIZATION, REFINEMENT

if TYPE_CHECKING:
    from lchp.training.stages import EpochReport
    from lchp.training.trial import TrialResult


@dataclass(frozen=True)
class Session:
    """What the trials of one study have in common; Ray carries it to each worker once.

    ``materials`` holds what the driver prepared (:meth:`lchp.study.run.materials.Materials.by_dataset`), or references
    to it, pickled, in Ray's store, so that a worker fetches its own trial's dataset alone. A search says in
    ``objective`` which final score it wants.
    """

    runtime: Runtime
    materials: Mapping[DatasetConfig, Mapping[Hashable, Material] | ray.ObjectRef]
    objective: str | None = None
    gpus: float = 0.0
    """The share of a GPU that a trial has, or how many of them."""
    judged: bool = False
    """Whether a search may stop a trial after any epoch, those included that were found trained."""

    def material(self, config: TrialConfig) -> Material:
        """The data of one configuration."""
        held = self.materials[config.dataset]
        if isinstance(held, ray.ObjectRef):
            held = _fetched(held)
        return material_here(held[Material.key(config)], config, self.runtime)


@lru_cache(maxsize=1)
def _fetched(reference: ray.ObjectRef) -> Mapping[Hashable, Material]:
    """The materials of a dataset, unpickled once in a worker however many trials it goes on with."""
    materials: Mapping[Hashable, Material] = pickle.loads(ray.get(reference))
    return materials


class TrialTrainable(ray.tune.Trainable):  # type: ignore[misc]
    """A trial whose steps Ray calls. It begins where the trial's files end."""

    def setup(self, config: dict[str, Any], session: Session) -> None:
        """``config`` holds the ``job`` of this worker."""
        self.session = session
        self.job: Job = config["job"]
        self.trial = self.job.trial
        limit_memory(session.runtime.device, session.gpus)
        self.material = session.material(self.trial.config)
        self.epochs: Iterator[EpochReport] | None = None
        self.notes: list[str] = []
        self.last: EpochReport | None = None
        self.meter = Meter() if is_wanted() else None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """A worker goes on with another job, which saves its start."""
        # Ray has wrapped `setup`, which gets the session from its store, in one that takes no argument.
        TrialTrainable.setup(self, new_config, session=self.session)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch, of a stage, of the classifiers of its confidence or of a reference; epochs that files hold
        are passed over, unless they are to be judged. The last one also measures and draws.

        Raises:
            FloatingPointError: the objective is not a finite number.
            ValueError, FloatingPointError: as ``lchp.training.trial.trial_epochs``.
        """
        started = time.monotonic()
        return {**self._step(), "seconds": time.monotonic() - started}

    def _step(self) -> dict[str, Any]:
        from lchp.training.trial import finished_trial

        config, runtime = self.trial.config, self.material.runtime
        self.epochs = self.epochs or self._all_epochs()
        reports: list[EpochReport] = []
        for report in self.epochs:
            if report.stage not in (INITIALIZATION, REFINEMENT):
                if report.reused:
                    continue
                self.notes.append(epoch_line(report))
                return self._result(reports, None)
            reports.append(report)
            self.last = report
            ended = self.session.judged or not report.reused
            if ended and (report.step < total_epochs(config) or self.job.references):
                return self._result(reports, None)
        result = finished_trial(config, runtime, self.material)
        assert result is not None, "a trial without further epochs is finished"
        keep_picture(self.material, result.folder)
        return self._result(reports, result)

    def _all_epochs(self) -> Iterator[EpochReport]:
        """Those of the trial, for whose stages others may wait, then those of the references of this job."""
        from lchp.training.references import reference_epochs
        from lchp.training.trial import trial_epochs

        config, runtime = self.trial.config, self.material.runtime
        yield from trial_epochs(config, runtime, self.material, self.notes.append)
        for method in self.job.references:
            yield from reference_epochs(method, config, runtime, self.material, self.notes.append)

    def _result(self, reports: list[EpochReport], result: TrialResult | None) -> dict[str, Any]:
        values: dict[str, Any] = {
            "global_epoch": self.last.step if self.last else 0,
            "done": result is not None,
            "reports": [self._told(report) for report in reports],
            "notes": [*self.notes],
        }
        self.notes.clear()
        key = self.session.objective
        if key is not None:
            metrics = self.last.metrics if self.last else {}
            reached = objective(key, self.trial.config, self.material) if result else metrics.get(key, 0.0)
            if reached is None or not math.isfinite(reached):
                raise FloatingPointError(f"the objective {key} is not a finite number: the trial cannot be judged")
            values["objective"] = float(reached)
        return values

    def _told(self, report: EpochReport) -> dict[str, Any]:
        """An epoch and, where it was trained now and somebody wants to know, what it used of the machine."""
        system = {"system": self.meter.read()} if self.meter and not report.reused else {}
        return {**asdict(report), **system}

    def cleanup(self) -> None:
        """Let the locks of an unfinished trial go."""
        self.epochs = None
