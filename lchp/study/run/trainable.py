"""One trial under Ray Tune: a step is an epoch, over both stages; the trial's own files are its checkpoint."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray.tune

from lchp.study.run.options import total_epochs
from lchp.study.spec.values import with_values
from lchp.training.config import TrialConfig
from lchp.training.material import Material, Runtime
from lchp.training.trial import CHECKPOINT, DONE, EpochReport, TrialResult, finished_trial, trial_epochs

PICTURE = "predictions.png"


@dataclass(frozen=True)
class Session:
    """What the trials of one study have in common, as it travels to Ray's workers.

    ``configs`` holds the configuration of every planned trial; a search has the one that suggestions are laid over,
    under the empty name, and says in ``objective`` which final score it wants.
    """

    runtime: Runtime
    configs: dict[str, TrialConfig]
    objective: str | None = None

    def config(self, parameters: dict[str, Any]) -> TrialConfig:
        """The configuration of one Ray trial."""
        return with_values(self.configs[parameters["trial"]], parameters.get("suggestion", {}))


class TrialTrainable(ray.tune.Trainable):  # type: ignore[misc]
    """A trial whose steps Ray calls. It begins where the trial's files end."""

    def setup(self, config: dict[str, Any]) -> None:
        """Ray's parameters: ``session``, the name ``trial`` and, in a search, the ``suggestion``."""
        self.session: Session = config["session"]
        self.trial_config = self.session.config(config)
        self.epochs: Iterator[EpochReport] | None = None
        self.last = EpochReport("initialization", 0, 0, {}, 0.0)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """A worker goes on with another trial, which saves its start."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch; epochs that files hold already are passed over. The last one also measures and draws.

        Raises:
            FloatingPointError: the objective is not a finite number.
            ValueError, FloatingPointError: as ``lchp.training.trial.trial_epochs``.
        """
        config, runtime = self.trial_config, self.session.runtime
        self.epochs = self.epochs or trial_epochs(config, runtime)
        reports = []
        for report in self.epochs:
            reports.append(report)
            self.last = report
            if not report.reused and report.step < total_epochs(config):
                return self._result(reports, None)
        result = finished_trial(config, runtime)
        assert result is not None, "a trial without further epochs is finished"
        draw_predictions(config, runtime, result.folder)
        return self._result(reports, result)

    def _result(self, reports: list[EpochReport], result: TrialResult | None) -> dict[str, Any]:
        found: dict[str, Any] = {
            "global_epoch": self.last.step,
            "done": result is not None,
            "reports": [asdict(report) for report in reports],
        }
        key = self.session.objective
        if key is not None:
            known = result.scores if result else self.last.metrics
            found["objective"] = float(known.get(key, 0.0))
            if result and not math.isfinite(known.get(key, math.nan)):
                raise FloatingPointError(f"the objective {key} is not a finite number: the trial cannot be judged")
        return found

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Copy the checkpoint of the stage in which the trial is."""
        for stage, folder in self._stages().items():
            if (folder / CHECKPOINT).exists():
                shutil.copyfile(folder / CHECKPOINT, Path(checkpoint_dir) / stage)

    def load_checkpoint(self, checkpoint: str) -> None:
        """Put back what the store lacks; the store's own files are never older."""
        for stage, folder in self._stages().items():
            saved = Path(checkpoint) / stage
            if saved.exists() and not any((folder / name).exists() for name in (CHECKPOINT, DONE)):
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(saved, folder / CHECKPOINT)
        self.epochs = None

    def _stages(self) -> dict[str, Path]:
        material = Material.prepare(self.trial_config, self.session.runtime)
        return {
            "initialization": material.initialization_folder(self.trial_config),
            "refinement": material.trial_folder(self.trial_config),
        }

    def cleanup(self) -> None:
        """Let the locks of an unfinished trial go."""
        self.epochs = None


def draw_predictions(config: TrialConfig, runtime: Runtime, folder: Path) -> None:
    """Draw ``predictions.png`` into the folder of a finished trial, if it is not there."""
    import pandas as pd

    from lchp.data.reading import open_dataset, read_pixel_boxes
    from lchp.reporting.figures import predictions

    if (folder / PICTURE).exists():
        return
    dataset = open_dataset(config.dataset, runtime.cache)
    boxes = read_pixel_boxes(config.dataset, dataset, dataset.test)
    rows = [(path, *box) for path, several in (boxes or {}).items() for box in several]
    truth = pd.DataFrame(rows, columns=["path", "x1", "y1", "x2", "y2"]) if boxes else None
    predictions(pd.read_csv(folder / "per_image.csv"), dataset.root, folder / PICTURE, truth=truth)
