"""Brings the runs of a study in the tracking store to what their cards and the files of their trials say.

Whatever a run says already, it says the same afterwards: so a run is written again after any fault, and nobody needs to
know how far it had come. A trial's run has the trial's folder name, a digest of its configuration and data, as its key,
and is looked for among those that name this study's folder, by the key of the study's own run: a study that is moved
keeps its runs, and what somebody else makes of the same study, or the same study with another --output, has others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from lchp.reporting.evidence import read_evidence
from lchp.store.datasets import dataset_of, read_classes
from lchp.store.folder import StageFolder
from lchp.store.model import judge_weights, write_model
from lchp.study.run.cards import Card, Cards, State
from lchp.study.run.ledger import GONE
from lchp.study.run.run_cards import (
    DATASET_TAG,
    INITIALIZATION_TAG,
    KIND_TAG,
    REPRODUCTION,
    TRIAL,
    is_initialization,
    is_trial,
)
from lchp.tracking.models import keep_model
from lchp.tracking.runs import (
    COUNTS_TAG,
    DESCRIPTION_TAG,
    PARENT_TAG,
    STUDY_TAG,
    WARNINGS_TAG,
    ensure_run,
    fail_run,
    find_run,
    finish_run,
    is_complete,
    keep_config,
    keep_dataset,
    keep_lists,
    keep_metrics,
    log_history,
    log_result,
    set_tags,
    stop_run,
)
from lchp.tracking.store import ensure_experiment
from lchp.tracking.views import REPRODUCTIONS, TRIALS, keep_view
from lchp.vocabulary import GT_KNOWN, METHODS, METRICS, TEST, VAL, Score, predicting

INITIALIZATION_RUN_TAG = "lchp.initialization_run"
"""The tag of a trial's run that says which run is its initialization's."""
_VERSIONS = ("lchp", "python", "torch", "torchvision")
"""Of the libraries whose versions are tags; environment.json has all."""


@dataclass(frozen=True)
class _Written:
    """What this process has written of a run."""

    run_id: str
    state: State
    last: float
    """Its last epoch."""


class Scribe:
    """Writes the runs of one study. What it writes it reads from files, each time.

    Args:
        uri: the tracking store, as ``open_store`` resolved it.
        experiment: its name.
        study: the study's folder.
        store: the store of trained stages.
        parent: the key of the study's own run, below which the others are folded.
        say: takes a line for people.
        at_work: whether a process is at work on the study; if not, what runs has ended.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        study: Path,
        store: Path,
        parent: str,
        say: Callable[[str], None],
        at_work: bool = True,
    ) -> None:
        self.uri, self.study, self.store, self.parent, self.at_work = uri, study, store, parent, at_work
        self.cards, self._say = Cards(study), say
        self._name = experiment
        self._experiment: str | None = None
        self._written: dict[str, _Written] = {}

    def write(self, key: str) -> str:
        """Bring the run of that key to what its card says; gives its id.

        Raises:
            Exception: whatever the tracking store, or a damaged file, gives; the next call starts from what is there.
        """
        if self._experiment is None:
            self._experiment = ensure_experiment(self.uri, self._name)
        card = self.cards.read(key)
        if card.state == "running" and not self.at_work:
            card = card.failed(GONE)
        before = self._written.pop(key, None)
        written = self._trial(card, before) if card.folder else self._own(card, before)
        self._written[key] = written
        return written.run_id

    def forget(self) -> None:
        """Take nothing for granted: somebody may have deleted a run, or the experiment."""
        self._experiment = None
        self._written.clear()

    def _opened(self, card: Card, before: _Written | None, parent: str | None) -> _Written:
        """The run, RUNNING if it is not this process that has just written to it as such."""
        if before is not None and before.state == "running":
            return before
        assert self._experiment is not None, "a run lies in an experiment"
        tags = {name: value for name, value in card.tags.items() if value is not None}
        shown = card.params if card.shown is None else card.shown
        run_id = ensure_run(self.uri, self._experiment, card.name, card.key, parent, shown, tags, card.started)
        return _Written(run_id, "running", before.last if before is not None else -1.0)

    def _own(self, card: Card, before: _Written | None) -> _Written:
        """The study's run, with its tables and the lists of its images."""
        written = self._opened(card, before, None)
        if before is None and card.view is not None:
            assert self._experiment is not None, "a run lies in an experiment"
            for kind, key in ((TRIAL, TRIALS), (REPRODUCTION, REPRODUCTIONS)):
                keep_view(self.uri, self._experiment, f"tags.`{KIND_TAG}` = '{kind}'", **card.view, key=key)
        if before is None:
            keep_lists(self.uri, written.run_id, [self.store / name for name in card.lists])
        set_tags(self.uri, written.run_id, card.tags)
        keep_metrics(self.uri, written.run_id, card.metrics, card.ended)
        if card.state != "running":
            finish_run(self.uri, written.run_id, [self.study / name for name in card.files], card.ended)
        if card.state == "failed":
            fail_run(self.uri, written.run_id, card.error or "", card.ended)
        return replace(written, state=card.state)

    def _trial(self, card: Card, before: _Written | None) -> _Written:
        """A trial's run, or one of what stands beside trials."""
        assert card.folder is not None, "the run of a study is another matter"
        folder, parent = self.store / card.folder, self._run_of(self.parent)
        card = replace(card, tags={**card.tags, STUDY_TAG: self.parent, **self._links(card)})
        if card.state == "finished" and before is None and (found := self._complete(card, folder, parent)):
            # The parent that it had may have been deleted, and made anew; a study that varies more names it otherwise.
            set_tags(self.uri, found, {**card.tags, **environment_tags(folder), PARENT_TAG: parent}, card.name)
            return _Written(found, "finished", -1.0)
        written = self._opened(card, before, parent)
        # The files of an initialization go with the runs of its trials.
        if before is None and card.shown is not None and (card.state != "finished" or is_initialization(card)):
            keep_config(self.uri, written.run_id, card.params)
        if before is None and is_trial(card):
            dataset = card.params["dataset"]
            keep_dataset(self.uri, written.run_id, dataset["kind"], str(card.tags[DATASET_TAG]), dataset)
        if card.epochs and card.epochs[-1]["step"] > written.last:
            known = written.last if written.last >= 0 else None
            log_history(self.uri, written.run_id, card.epochs, known, card.first)
            written = replace(written, last=card.epochs[-1]["step"])
        if card.state == "finished":
            if card.classifier is not None:
                self._keep_model(written.run_id, card.name, folder, self.store / card.classifier)
            tags = {**card.tags, **(final_tags(folder) if is_trial(card) else environment_tags(folder))}
            log_result(
                self.uri, written.run_id, folder, tags=tags, ended=card.ended, metrics=costs(card),
                with_files=not is_initialization(card), first=card.first,
            )  # fmt: skip
        elif card.state == "failed":
            fail_run(self.uri, written.run_id, card.error or "", card.ended)
        elif card.state == "stopped":
            stop_run(self.uri, written.run_id, card.error or "", card.ended, costs(card), int(written.last))
        return replace(written, state=card.state)

    def _keep_model(self, run_id: str, name: str, folder: Path, classifier: Path) -> None:
        """Store the model of a trial with its run, where its classifier is still there and whole."""
        trial, initialization = StageFolder(folder), StageFolder(classifier)
        if not initialization.done:
            return
        if (fault := initialization.fault()) is not None:
            # Who reads the output may be gone: the study meets that itself.
            with suppress(OSError):
                self._say(f"{name}: its run holds no model, since its initialization is damaged: {classifier}: {fault}")
            return

        def write(out: Path) -> None:
            judge = judge_weights(initialization.networks())
            classes = read_classes(self.store, dataset_of(trial))
            write_model(trial.config(), trial.networks()["regressor"], judge, classes, out)

        keep_model(self.uri, run_id, write, trial.environment()["versions"], trial.first_image())

    def _complete(self, card: Card, folder: Path, parent: str) -> str | None:
        """The id of the finished run that says all that the files of its trial say; None where there is none."""
        assert self._experiment is not None, "a run lies in an experiment"
        run_id = find_run(self.uri, self._experiment, card.key, self.parent, parent)
        with_files = not is_initialization(card)
        is_there = run_id is not None and is_complete(self.uri, run_id, folder, with_files, card.first)
        return run_id if is_there else None

    def _links(self, card: Card) -> dict[str, str]:
        """The tag of a trial's run that leads to that of its initialization, where that has a card."""
        key = card.tags.get(INITIALIZATION_TAG)
        return {INITIALIZATION_RUN_TAG: self._run_of(key)} if key and self.cards.has(key) else {}

    def _run_of(self, key: str) -> str:
        """The id of a run to which others point; it is made where it is missing."""
        known = self._written.get(key)
        if known is not None:
            return known.run_id
        assert self._experiment is not None, "a run lies in an experiment"
        if key == self.parent:
            found = find_run(self.uri, self._experiment, key)
        else:
            found = find_run(self.uri, self._experiment, key, self.parent, self._run_of(self.parent))
        return found or self.write(key)


def costs(card: Card) -> dict[str, float]:
    """What a trial cost, and what it would have cost alone, in seconds of its epochs: those that it found trained by
    another cost it nothing; and by the clock, for how long workers were at it. Empty where no epoch is known.
    """
    if not card.epochs:
        return {}
    own = sum(epoch["seconds"] for epoch in card.epochs if not epoch["reused"])
    alone, clock = sum(epoch["seconds"] for epoch in card.epochs), sum(end - begin for begin, end in card.spent)
    by_clock = {"cost/wall_seconds": clock / 1000} if card.spent else {}
    return {"cost/seconds": own, "cost/seconds_alone": alone, **by_clock}


def final_tags(folder: Path) -> dict[str, str | None]:
    """The tags of the finished trial in ``folder``: how it was made, on how many images it was measured, and how its
    training degenerated.
    """
    found = read_evidence(folder)
    lines = {COUNTS_TAG: found.counts, WARNINGS_TAG: found.warnings}
    counted = {tag: "\n".join(several) or None for tag, several in lines.items()}
    return {**environment_tags(folder), **counted, DESCRIPTION_TAG: sentence(StageFolder(folder).scores())}


def sentence(scores: Mapping[str, float]) -> str | None:
    """What a trial came to, in a sentence; None where no image has a true box."""
    for split in (TEST, VAL):
        found = [(METHODS[name].title, scores.get(Score(name, split, GT_KNOWN).key)) for name in predicting()]
        reached = [f"{100 * value:.2f}% by {title}" for title, value in found if value is not None]
        if reached:
            return f"{METRICS[GT_KNOWN].title} on {split}: {', '.join(reached)}."
    return None


def environment_tags(folder: Path) -> dict[str, str | None]:
    """The tags that say with which commit, versions and hardware the finished trial in ``folder`` was made: those of
    the worker that trained it, which may be another machine's, or an older version's.
    """
    made = StageFolder(folder).environment()
    return {
        **{f"lchp.{name}": str(made[name]) for name in ("commit", "cpu", "device")},
        **{f"lchp.version.{name}": str(made["versions"][name]) for name in _VERSIONS if name in made["versions"]},
        "mlflow.source.git.commit": made["commit"],
    }
