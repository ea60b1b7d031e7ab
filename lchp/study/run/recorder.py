"""What the driver of a study writes down while trials run: MLflow runs, the ledger, one line an epoch.

A trial's run has the trial's folder name, a digest of its configuration and data, as its key. So a trial has one true
run in a tracking store, wherever its files lie: a study that is moved keeps its runs, and the same study with another
--output and the same store writes into them again. Give it another --tracking-uri to keep the two apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import tune

from lchp.reporting.frame import read_json
from lchp.study.plan.trials import suggestion_name, trial_name
from lchp.study.run.ledger import Entry, Ledger, State
from lchp.study.run.options import epoch_line, total_epochs
from lchp.study.run.trainable import Session, draw_predictions
from lchp.study.spec.load import Study
from lchp.study.spec.values import config_value
from lchp.tracking.runs import ensure_run, fail_run, log_history, log_result
from lchp.training import environment
from lchp.training.config import TrialConfig
from lchp.training.material import Material
from lchp.training.trial import DONE

WEIGHTS_TAG = "lchp.weights."
"""Before a role: the tag that holds the sha256 of its weight file."""


def weight_tags(material: Material) -> dict[str, str]:
    """The tags that say which weight files a trial started from."""
    return {f"{WEIGHTS_TAG}{role}": digest for role, digest in material.weight_digests.items() if digest is not None}


@dataclass(frozen=True)
class Tracker:
    """The MLflow experiment of a study: the store's URI, the experiment's id, the parent run's id."""

    uri: str
    experiment: str
    parent: str


@dataclass
class Materials:
    """The data of trials, opened once for all configurations that share it."""

    session: Session
    known: dict[str, Material] = field(default_factory=dict)

    def of(self, config: TrialConfig) -> Material:
        """The data of one configuration. Raises ValueError for what is missing or wrong."""
        key = config.model_dump_json(include={"dataset", "split", "weights"})
        if key not in self.known:
            self.known[key] = Material.prepare(config, self.session.runtime)
        return self.known[key]

    def folder(self, config: TrialConfig) -> str:
        """The trial's folder in the store, relative to it."""
        return self.of(config).trial_folder(config).relative_to(self.session.runtime.store).as_posix()


class Recorder(tune.Callback):  # type: ignore[misc]
    """Records every trial of a study, whether Ray trains it now or its files are there already."""

    def __init__(
        self,
        study: Study,
        session: Session,
        materials: Materials,
        tracker: Tracker,
        ledger: Ledger,
        count: int,
        echo: Callable[[str], None],
    ) -> None:
        self.study, self.session, self.materials = study, session, materials
        self.tracker, self.ledger, self.echo = tracker, ledger, echo
        self.folder = ledger.file.parent
        self.failed = 0
        self.count = count

    def entry(self, config: TrialConfig, number: int | None = None) -> Entry:
        """The ledger's entry of a configuration, added if the search has just suggested it."""
        folder = self.materials.folder(config)
        if folder not in self.ledger.entries:
            varied = {key: config_value(config, key) for key in self.study.varied}
            name = trial_name(varied, config.seed) if number is None else suggestion_name(number, varied)
            place = len(self.ledger.entries) if number is None else number
            self.ledger.put(Entry(name, config.seed, varied, folder, total_epochs(config), place))
        return self.ledger.entries[folder]

    def start(self, config: TrialConfig, entry: Entry) -> Entry:
        """Open the trial's MLflow run."""
        described = self._environment(entry)
        versions = described["versions"]
        assert isinstance(versions, dict)
        tags = {
            "lchp.commit": str(described["commit"]),
            "lchp.dataset": self.materials.of(config).digest.total,
            "lchp.seed": str(config.seed),
            "lchp.cpu": str(described["cpu"]),
            "lchp.device": str(described["device"]),
            **{f"lchp.version.{library}": str(version) for library, version in versions.items()},
            **weight_tags(self.materials.of(config)),
        }
        tracker = self.tracker
        run_id = ensure_run(
            tracker.uri, tracker.experiment, entry.name, Path(entry.folder).name, tracker.parent,
            config.model_dump(mode="json"), tags,
        )  # fmt: skip
        return self.ledger.change(entry.folder, run_id=run_id, state="running", message=None)

    def _environment(self, entry: Entry) -> dict[str, Any]:
        """What the trial was made with, or will be: a finished one says so itself."""
        folder = self.session.runtime.store / entry.folder
        if (folder / DONE).exists():
            made: dict[str, Any] = read_json(folder, "environment.json")
            return made
        return environment.describe(self.session.runtime.device)

    def finish(self, config: TrialConfig, entry: Entry) -> None:
        """Complete the MLflow run of a trial whose files are complete."""
        folder = self.session.runtime.store / entry.folder
        draw_predictions(config, self.session.runtime, folder)
        assert entry.run_id is not None, "a trial that finishes was started"
        log_result(self.tracker.uri, entry.run_id, folder)
        self.ledger.change(entry.folder, state="finished", epochs=entry.of)

    def fail(self, entry: Entry, message: str, state: State = "failed") -> None:
        """Mark a trial failed or stopped; MLflow shows both as FAILED."""
        if entry.run_id is not None:
            fail_run(self.tracker.uri, entry.run_id, message)
        self.ledger.change(entry.folder, state=state, message=message.strip().splitlines()[-1])

    def say(self, entry: Entry, text: str) -> None:
        """One line of progress."""
        finished = sum(other.state == "finished" for other in self.ledger.entries.values())
        self.echo(f"[{finished}/{self.count}] {entry.name}: {text}")

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Ray has begun a trial."""
        config = self.session.config(trial.config)
        self.start(config, self.entry(config, trial.config.get("number")))

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """A step ended: its epochs."""
        config = self.session.config(trial.config)
        entry = self.entry(config, trial.config.get("number"))
        reports = result.get("reports", [])
        assert entry.run_id is not None, "a trial that reports was started"
        log_history(self.tracker.uri, entry.run_id, reports)
        entry = self.ledger.change(entry.folder, epochs=int(result["global_epoch"]))
        reused = [report for report in reports if report["reused"]]
        if reused:
            self.say(entry, f"{len(reused)} epochs reused")
        for report in reports:
            if not report["reused"]:
                self.say(entry, epoch_line(report))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial is finished."""
        config = self.session.config(trial.config)
        entry = self.entry(config, trial.config.get("number"))
        self.finish(config, entry)
        self.say(self.ledger.entries[entry.folder], "finished")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial failed, or its worker died."""
        config = self.session.config(trial.config)
        entry = self.entry(config, trial.config.get("number"))
        text = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else "the worker died"
        self.failed += 1
        self.fail(entry, text)
        self.say(entry, f"FAILED: {self.ledger.entries[entry.folder].message}")

    def interrupt(self) -> None:
        """Mark what was running as stopped."""
        for entry in list(self.ledger.entries.values()):
            if entry.state == "running":
                self.fail(entry, "stopped before its end: the same command continues it", "stopped")
