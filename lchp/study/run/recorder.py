"""What the driver of a study writes down while trials run: the cards of its runs, the ledger, one line an epoch.

It knows no Ray and no MLflow: whoever trains tells it what happened, and it tells a writer which cards have changed,
which brings the tracking store up to them in its own time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lchp.reporting.evidence import read_evidence
from lchp.store.folder import StageFolder
from lchp.store.shared import StoreAway
from lchp.study.run.cards import Card, Cards
from lchp.study.run.faults import last_line
from lchp.study.run.ledger import Entry, Ledger, State
from lchp.study.run.materials import Materials
from lchp.study.run.options import epoch_line, total_epochs
from lchp.study.run.pictures import keep_picture
from lchp.study.run.remaining import Pace, epochs_left
from lchp.study.run.run_cards import (
    KIND_TAG,
    STUDY,
    initialization_card,
    is_initialization,
    made_by,
    reference_card,
    trial_card,
)
from lchp.study.run.writer import Writer
from lchp.study.spec.trials import ResolvedTrial, suggestion_name
from lchp.tracking.shown import HEADLINE
from lchp.vocabulary import INITIALIZATION

STOPPED = "stopped before its end: the same command continues it"
LEFT = "the study was changed, and has this trial no more"
_EPOCH_SECONDS = 2.0
"""Epochs that end within so much time go to the tracking store together: each call costs it 20 ms."""
_LAST_SECONDS = 10.0
"""How long a study that ends early waits for the tracking store."""


class Recorder:
    """Records every trial of a study, whether it is trained now or its files are there already."""

    def __init__(
        self,
        materials: Materials,
        writer: Writer,
        ledger: Ledger,
        count: int,
        say: Callable[[str], None],
        references: Sequence[str] = (),
        models: bool = True,
        first: tuple[str, ...] = HEADLINE,
    ) -> None:
        self.materials, self.writer, self.ledger, self.count, self.say = materials, writer, ledger, count, say
        self.references, self.models, self.first = references, models, first
        self.store = materials.runtime.store
        self.trained = False
        """Whether a trial was trained to its end by this process."""
        self._away = False
        """Whether the shared store was away when what is finished was looked for."""
        self._cards = Cards(ledger.folder)
        self._folders: dict[str, str] = {}
        self._reused: Counter[str] = Counter()
        """Epochs of a trial that were found trained, of which nothing is told yet."""
        self._pace = Pace()
        self._initialized: set[str] = set()
        """The places of initializations whose runs are finished."""

    def begin(self, name: str, params: Mapping[str, Any], view: Mapping[str, Sequence[str]]) -> None:
        """Open the study's own run, which holds the lists of the images of its datasets; ``view`` as a card has it."""
        key = self.writer.scribe.parent
        lists = [file.relative_to(self.store).as_posix() for file in self.materials.lists()]
        card = self._card(key) or Card(key, name, params, {})
        tags = {**card.tags, KIND_TAG: STUDY, **made_by()}
        self._write(replace(card.running(), key=key, name=name, params=params, lists=lists, view=view, tags=tags))

    def leave(self, places: Container[str]) -> None:
        """End what runs that killed processes left of trials which the study has no more, and of what these shared:
        of all that does not lie in these places of the store.
        """
        for card in self._cards.running():
            if card.folder not in places:
                self._end_card(card, lambda card: card.failed(LEFT))

    def close(
        self, tags: Mapping[str, str | None], metrics: Mapping[str, float], files: Sequence[Path], error: str | None
    ) -> None:
        """Complete the study's own run, with some of the files of its folder; ``error`` says what is not finished."""
        card = self._cards.read(self.writer.scribe.parent)
        card = card.finished() if error is None else card.failed(error)
        names = [file.relative_to(self.ledger.folder).as_posix() for file in files]
        self._write(replace(card, tags={KIND_TAG: STUDY, **made_by(), **tags}, metrics=metrics, files=names))

    def entry(self, trial: ResolvedTrial) -> Entry:
        """The ledger's entry of a trial, added if the search has just suggested it."""
        if trial.name not in self._folders:
            self._folders[trial.name] = self.materials.folder(trial.config)
        folder = self._folders[trial.name]
        if folder not in self.ledger.entries:
            entry = Entry(trial.name, trial.config.seed, trial.varied, folder, total_epochs(trial.config), trial.number)
            entry = replace(entry, initialization=self.materials.initialization(trial.config))
            beside = {method: self.materials.reference(trial.config, method) for method in self.references}
            self.ledger.put(replace(entry, references=beside))
        return self.ledger.entries[folder]

    @property
    def shares(self) -> bool:
        """Whether machines leave their stages for each other."""
        return self.materials.runtime.shared is not None

    def has(self, place: str) -> bool:
        """Whether the stage at this place of the store is complete and whole, by now. StoreAway where the shared store
        cannot tell.
        """
        return self.materials.has(place, self.say)

    def is_here(self, trial: ResolvedTrial) -> bool:
        """As :meth:`is_trained`, without asking the shared store."""
        return StageFolder(self.store / self.entry(trial).folder).whole

    def is_trained(self, trial: ResolvedTrial) -> bool:
        """Whether the trial's own files are complete and whole, whatever is beside it."""
        return self.has(self.entry(trial).folder)

    def is_finished(self, trial: ResolvedTrial) -> bool:
        """Whether the files of the trial, and of the references beside it, are complete and whole; what is finished of
        it is left for other machines. What a shared store that is away may hold does not count: who trains asks again.
        """
        entry = self.entry(trial)
        places = (entry.folder, *entry.references.values())
        if not self._away:
            try:
                self.materials.offer(trial.config, self.say)
                return all(self.has(place) for place in places)
            except StoreAway as error:
                self._away = True
                self.say(f"{error}: trials begin with what is here")
        return all(StageFolder(self.store / place).whole for place in places)

    def keep(self, trial: ResolvedTrial) -> None:
        """Record a trial whose files, and those of the references beside it, are complete; its run is mended where it
        is not.
        """
        entry = self.entry(trial)
        try:
            keep_picture(self.materials.of(trial.config), self.store / entry.folder)
        except StoreAway as error:
            self._say(entry, f"{error}: its picture is here alone")
        for method, place in entry.references.items():
            self._write(self._card_of_reference(trial, method, place).finished())
        self._keep_initialization(trial)
        self._write(self._card_of(trial).finished())
        self._change(entry, state="finished", epochs=entry.of)

    def start(self, trial: ResolvedTrial) -> None:
        """Open the trial's run."""
        entry = self.entry(trial)
        self._follow_initialization(trial, [])
        self._write(self._card_of(trial).running())
        self._change(entry, state="running", message=None)

    def epochs(
        self,
        trial: ResolvedTrial,
        step: int,
        reports: Sequence[dict[str, Any]],
        notes: Sequence[str] = (),
        seconds: float = 0.0,
    ) -> None:
        """Some epochs ended, the last of them being ``step`` over both stages, in a step of a worker that took so many
        seconds; ``notes`` tell of damaged files and of what is trained beside.
        """
        entry = self.entry(trial)
        card = self._card_of(trial).with_time(seconds)
        if reports:
            self._follow_initialization(trial, reports)
            self._write(card.with_epochs(reports), _EPOCH_SECONDS)
        else:
            # Of time alone no run tells.
            self._cards.write(card)
        self._change(entry, epochs=step)
        for note in notes:
            self._say(entry, note)
        self._reused[trial.name] += sum(bool(report["reused"]) for report in reports)
        # They come one by one where a search judges them.
        all_told = step == entry.of or not all(report["reused"] for report in reports)
        if all_told and (reused := self._reused.pop(trial.name)):
            self._say(entry, f"{reused} epochs reused")
        fresh = [report for report in reports if not report["reused"]]
        for report in fresh:
            self._pace.trained(report["seconds"])
            left = epochs_left(self.ledger.entries.values(), self.count)
            told = self._pace.left(left, entry.of - report["step"], report["seconds"])
            self._say(entry, f"{epoch_line(report)}{told}")

    def complete(self, trial: ResolvedTrial) -> None:
        """A trial that was trained now is finished."""
        self.trained = True
        self.keep(trial)
        entry = self.entry(trial)
        self._say(entry, "finished")
        for warning in read_evidence(self.store / entry.folder).warnings:
            self._say(entry, f"warning: {warning}")

    def again(self, trial: ResolvedTrial, line: str) -> None:
        """A trial was ended, and goes on: its run does, too."""
        entry = self.entry(trial)
        self._change(entry, message=line)
        self._say(entry, line)

    def fail(self, trial: ResolvedTrial, message: str) -> None:
        """A trial ended before its end; the last line of ``message`` is told, all of it kept in its run."""
        self._end(self.entry(trial), message, "failed")
        entry = self.entry(trial)
        self._say(entry, f"FAILED: {entry.message}")

    def prune(self, trial: ResolvedTrial, reason: str) -> None:
        """A search does not want a trial trained further."""
        self.keep_pruned(trial, reason)
        self._say(self.entry(trial), reason)

    def keep_pruned(self, trial: ResolvedTrial, reason: str) -> None:
        """Record a trial that a search has pruned, now or in an earlier run."""
        entry, card = self.entry(trial), self._card_of(trial).stopped(reason)
        self._end_initialization(entry, lambda card: card.stopped(reason))
        self._write(card)
        self._change(entry, state="pruned", epochs=card.epochs[-1]["step"] if card.epochs else 0, message=reason)

    def refuse(self, number: int, values: dict[str, Any], message: str) -> None:
        """A search suggested values that do not fit together: a failed trial without files."""
        entry = Entry(suggestion_name(number, values), 0, values, f"refused/{number}", 0, number, 0, "failed")
        self._say(self.ledger.put(replace(entry, message=message)), f"FAILED: {message}")

    def end(self, reason: str, state: State = "stopped") -> None:
        """The study ends early: what was running is ``state`` in the ledger and, with the study's own run, FAILED.

        The ledger comes first; the tracking store, which may be away, is waited for a little.
        """
        running = [entry for entry in self.ledger.entries.values() if entry.state == "running"]
        for entry in running:
            self.ledger.change(entry.folder, state=state, message=last_line(reason))
        for entry in running:
            self._end_initialization(entry, lambda card: card.failed(reason))
        for key in [*(Path(entry.folder).name for entry in running), self.writer.scribe.parent]:
            card = self._card(key)
            if card is not None:
                self._write(card.failed(reason))
        self.settle(_LAST_SECONDS)

    def settle(self, seconds: float | None = None) -> None:
        """Wait for what is written to the tracking store, as :meth:`Writer.finish`; write down the ids of its runs."""
        self.writer.finish(seconds)
        with self.ledger.together():
            for entry in self.ledger.entries.values():
                self._change(entry)

    def _end(self, entry: Entry, message: str, state: State) -> None:
        self._change(entry, state=state, message=last_line(message))
        self._end_initialization(entry, lambda card: card.failed(message))
        card = self._card(Path(entry.folder).name)
        if card is not None:
            self._write(card.failed(message))

    def _change(self, entry: Entry, **values: Any) -> None:
        """Change the ledger's entry, with the id of its run where that is known by now."""
        known = self.writer.run_ids.get(Path(entry.folder).name, entry.run_id)
        self.ledger.change(entry.folder, run_id=known, **values)

    def _card(self, key: str) -> Card | None:
        return self._cards.get(key, self.say)

    def _card_of(self, trial: ResolvedTrial) -> Card:
        """The trial's card, as it is or new."""
        material = self.materials.of(trial.config)
        return self._renewed(trial_card(trial, self.entry(trial), material, self.models, self.first))

    def _card_of_reference(self, trial: ResolvedTrial, method: str, place: str) -> Card:
        return self._renewed(reference_card(trial, method, place, self.materials.of(trial.config)))

    def _card_of_initialization(self, trial: ResolvedTrial, place: str) -> Card:
        return self._renewed(initialization_card(trial, place, self.materials.of(trial.config)))

    def _renewed(self, new: Card) -> Card:
        """The card that says what ``new`` says of its run and, where there was one before, what had come of it."""
        card = self._card(new.key)
        if card is None:
            return new
        return replace(
            card, key=new.key, name=new.name, params=new.params, tags=new.tags, folder=new.folder, shown=new.shown,
            first=new.first,
        )  # fmt: skip

    def _follow_initialization(self, trial: ResolvedTrial, reports: Sequence[dict[str, Any]]) -> None:
        """Give the run of the trial's initialization the epochs that are its own, until it is finished."""
        place = self.entry(trial).initialization
        if place is None or place in self._initialized:
            return
        own = [report for report in reports if report["stage"] == INITIALIZATION]
        is_done = StageFolder(self.store / place).whole
        # Who begins opens the run of what is to be trained, and who goes on from it closes it: of what another study
        # has trained, only the first report says what it spared this one.
        if not own and is_done == (not reports):
            return
        card = self._card_of_initialization(trial, place).with_epochs(own)
        self._write(card.finished() if is_done else card.running(), _EPOCH_SECONDS)
        if is_done:
            self._initialized.add(place)

    def _keep_initialization(self, trial: ResolvedTrial) -> None:
        """The run of a finished trial's initialization is finished, unless its files are gone."""
        entry = self.entry(trial)
        if entry.initialization is None or entry.initialization in self._initialized:
            return
        folder = StageFolder(self.store / entry.initialization)
        if folder.done and folder.fault(networks=False) is None:
            self._write(self._card_of_initialization(trial, entry.initialization).finished())
            self._initialized.add(entry.initialization)
        else:
            self._end_initialization(entry, lambda card: card.failed("its files are damaged or gone"))

    def _end_initialization(self, entry: Entry, ended: Callable[[Card], Card]) -> None:
        """A trial has ended before its end, and with it its initialization unless that is finished."""
        card = self._card(Path(entry.initialization).name) if entry.initialization else None
        if card is not None:
            # One that has ended is put in its place nevertheless: a kill may have kept the tracking store from it.
            self._end_card(card, ended if card.state == "running" else lambda card: card)

    def _end_card(self, card: Card, ended: Callable[[Card], Card]) -> None:
        """The run of an initialization is finished where its files are; any other, of what ran, has ended so."""
        done = is_initialization(card) and StageFolder(self.store / str(card.folder)).whole
        self._write(card.finished() if done else ended(card))

    def _write(self, card: Card, within: float = 0.0) -> None:
        self._cards.write(card)
        self.writer.put(card.key, within)

    def _say(self, entry: Entry, text: str) -> None:
        finished = sum(other.state == "finished" for other in self.ledger.entries.values())
        self.say(f"[{finished}/{self.count}] {entry.name}: {text}")
