"""What the driver of a study writes down while trials run: MLflow runs, the ledger, one line an epoch.

It knows no Ray: whoever trains tells it what happened. A trial's run has the trial's folder name, a digest of its
configuration and data, as its key. So a trial has one true run in a tracking store, wherever its files lie: a study
that is moved keeps its runs, and the same study with another --output and the same store writes into them again. Give
it another --tracking-uri to keep the two apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lchp.reporting.evidence import read_evidence
from lchp.store.folder import StageFolder
from lchp.study.run.ledger import Entry, Ledger, State
from lchp.study.run.options import epoch_line, total_epochs
from lchp.study.run.pictures import keep_picture
from lchp.study.run.prepare import Materials
from lchp.study.spec.trials import ResolvedTrial, suggestion_name
from lchp.tracking.runs import (
    COUNTS_TAG,
    PARENT_TAG,
    WARNINGS_TAG,
    ensure_run,
    fail_run,
    find_run,
    is_complete,
    log_history,
    log_result,
    set_tags,
)
from lchp.training.identity import reference_key
from lchp.training.material import Material
from lchp.vocabulary import METHODS

WEIGHTS_TAG = "lchp.weights."
"""Before a role: the tag that holds the sha256 of its weight file."""

REFERENCE_TAG = "lchp.reference"
"""The tag that says which method the run of a reference measured."""

STOPPED = "stopped before its end: the same command continues it"


def weight_tags(material: Material) -> dict[str, str]:
    """The tags that say which weight files a trial started from."""
    return {f"{WEIGHTS_TAG}{role}": digest for role, digest in material.given_digests.items() if digest is not None}


def environment_tags(folder: Path) -> dict[str, str | None]:
    """The tags that say with which commit, versions and hardware the finished trial in ``folder`` was made: those of
    the worker that trained it, which may be another machine's, or an older version's.
    """
    made = StageFolder(folder).environment()
    return {
        **{f"lchp.{name}": str(made[name]) for name in ("commit", "cpu", "device")},
        **{f"lchp.version.{library}": str(version) for library, version in made["versions"].items()},
    }


@dataclass(frozen=True)
class Tracker:
    """The MLflow experiment of a study: the store's URI, the experiment's id, the parent run's id."""

    uri: str
    experiment: str
    parent: str


class Recorder:
    """Records every trial of a study, whether it is trained now or its files are there already."""

    def __init__(
        self,
        materials: Materials,
        tracker: Tracker,
        ledger: Ledger,
        count: int,
        say: Callable[[str], None],
        references: Sequence[str] = (),
    ) -> None:
        self.materials, self.tracker, self.ledger, self.count, self.say = materials, tracker, ledger, count, say
        self.references = references
        self.store = materials.runtime.store
        self.trained = False
        """Whether a trial was trained to its end by this process."""
        self._folders: dict[str, str] = {}

    def entry(self, trial: ResolvedTrial) -> Entry:
        """The ledger's entry of a trial, added if the search has just suggested it."""
        if trial.name not in self._folders:
            self._folders[trial.name] = self.materials.folder(trial.config)
        folder = self._folders[trial.name]
        if folder not in self.ledger.entries:
            entry = Entry(trial.name, trial.config.seed, trial.varied, folder, total_epochs(trial.config), trial.number)
            beside = {method: self.materials.reference(trial.config, method) for method in self.references}
            self.ledger.put(replace(entry, references=beside))
        return self.ledger.entries[folder]

    def is_finished(self, trial: ResolvedTrial) -> bool:
        """Whether the files of the trial, and of the references beside it, are complete and whole."""
        entry = self.entry(trial)
        return all(StageFolder(self.store / place).whole for place in (entry.folder, *entry.references.values()))

    def keep(self, trial: ResolvedTrial) -> None:
        """Record a trial whose files are complete; its MLflow run is mended where it is not."""
        entry, tracker = self.entry(trial), self.tracker
        run_id = find_run(tracker.uri, tracker.experiment, Path(entry.folder).name)
        if run_id is not None and is_complete(tracker.uri, run_id, self.store / entry.folder):
            # The parent that it had may have been deleted, and made anew.
            made = environment_tags(self.store / entry.folder)
            set_tags(tracker.uri, run_id, {**made, PARENT_TAG: tracker.parent})
            self._record_references(trial)
            self.ledger.change(entry.folder, state="finished", epochs=entry.of, run_id=run_id)
        else:
            self.start(trial)
            self.finish(trial)

    def start(self, trial: ResolvedTrial) -> None:
        """Open the trial's MLflow run."""
        entry, material, tracker = self.entry(trial), self.materials.of(trial.config), self.tracker
        tags = {
            "lchp.dataset": material.digest.total,
            "lchp.seed": str(trial.config.seed),
            **weight_tags(material),
        }
        run_id = ensure_run(
            tracker.uri, tracker.experiment, entry.name, Path(entry.folder).name, tracker.parent,
            trial.config.model_dump(mode="json"), tags,
        )  # fmt: skip
        self.ledger.change(entry.folder, run_id=run_id, state="running", message=None)

    def _record_references(self, trial: ResolvedTrial) -> None:
        """Complete the MLflow runs of the references beside a trial, whose files are complete: one run each, however
        many trials share them.
        """
        tracker = self.tracker
        for method, place in self.entry(trial).references.items():
            folder, key = self.store / place, Path(place).name
            run_id = find_run(tracker.uri, tracker.experiment, key)
            if run_id is None or not is_complete(tracker.uri, run_id, folder):
                tags = {
                    "lchp.dataset": self.materials.of(trial.config).digest.total,
                    "lchp.seed": str(trial.config.seed),
                    REFERENCE_TAG: method,
                }
                name = f"{METHODS[method].title} seed={trial.config.seed}"
                params = reference_key(trial.config, method)
                run_id = ensure_run(tracker.uri, tracker.experiment, name, key, tracker.parent, params, tags)
                log_result(tracker.uri, run_id, folder)
            set_tags(tracker.uri, run_id, {**environment_tags(folder), PARENT_TAG: tracker.parent})

    def epochs(
        self, trial: ResolvedTrial, step: int, reports: Sequence[dict[str, Any]], notes: Sequence[str] = ()
    ) -> None:
        """Some epochs ended, the last of them being ``step`` over both stages; ``notes`` tell of damaged files."""
        entry = self.entry(trial)
        assert entry.run_id is not None, "a trial that reports was started"
        log_history(self.tracker.uri, entry.run_id, reports)
        self.ledger.change(entry.folder, epochs=step)
        for note in notes:
            self._say(entry, note)
        reused = sum(bool(report["reused"]) for report in reports)
        if reused:
            self._say(entry, f"{reused} epochs reused")
        for report in reports:
            if not report["reused"]:
                self._say(entry, epoch_line(report))

    def complete(self, trial: ResolvedTrial) -> None:
        """A trial that was trained now is finished."""
        self.trained = True
        warnings = self.finish(trial)
        entry = self.entry(trial)
        self._say(entry, "finished")
        for warning in warnings:
            self._say(entry, f"warning: {warning}")

    def finish(self, trial: ResolvedTrial) -> list[str]:
        """Complete the MLflow run of a trial whose files are complete; gives how its training degenerated."""
        entry = self.entry(trial)
        folder = self.store / entry.folder
        self._record_references(trial)
        keep_picture(self.materials.of(trial.config), folder)
        assert entry.run_id is not None, "a trial that finishes was started"
        found = read_evidence(folder)
        lines = {COUNTS_TAG: found.counts, WARNINGS_TAG: found.warnings}
        tags = environment_tags(folder) | {tag: "\n".join(several) or None for tag, several in lines.items()}
        log_result(self.tracker.uri, entry.run_id, folder, tags=tags)
        self.ledger.change(entry.folder, state="finished", epochs=entry.of)
        return found.warnings

    def fail(self, trial: ResolvedTrial, message: str) -> None:
        """A trial ended before its end; the last line of ``message`` is told, all of it kept in MLflow."""
        self._end(self.entry(trial), message, "failed")
        entry = self.entry(trial)
        self._say(entry, f"FAILED: {entry.message}")

    def refuse(self, number: int, values: dict[str, Any], message: str) -> None:
        """A search suggested values that do not fit together: a failed trial without files."""
        entry = Entry(suggestion_name(number, values), 0, values, f"refused/{number}", 0, number, 0, "failed")
        self._say(self.ledger.put(replace(entry, message=message)), f"FAILED: {message}")

    def end(self, reason: str, state: State = "stopped") -> None:
        """The study ends early: what was running is ``state`` in the ledger and, with the parent run, in MLflow.

        The ledger comes first, because the tracking store may be what has failed; its first failure is raised after all
        runs were tried.
        """
        running = [entry for entry in self.ledger.entries.values() if entry.state == "running"]
        for entry in running:
            self.ledger.change(entry.folder, state=state, message=_last_line(reason))
        failures = []
        for run_id in [*(entry.run_id for entry in running if entry.run_id is not None), self.tracker.parent]:
            try:
                fail_run(self.tracker.uri, run_id, reason)
            except Exception as error:  # raised below
                failures.append(error)
        if failures:
            raise failures[0]

    def _end(self, entry: Entry, message: str, state: State) -> None:
        self.ledger.change(entry.folder, state=state, message=_last_line(message))
        if entry.run_id is not None:
            fail_run(self.tracker.uri, entry.run_id, message)

    def _say(self, entry: Entry, text: str) -> None:
        finished = sum(other.state == "finished" for other in self.ledger.entries.values())
        self.say(f"[{finished}/{self.count}] {entry.name}: {text}")


def _last_line(message: str) -> str:
    return (message.strip() or "no reason was given").splitlines()[-1]
