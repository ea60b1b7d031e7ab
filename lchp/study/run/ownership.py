"""Whose a study's folder is: the configuration that it holds, and the process that works in it."""

from __future__ import annotations

import fcntl
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lchp.data.files import left_parts
from lchp.data.fingerprint import fingerprint
from lchp.data.locks import is_held, locked
from lchp.errors import Refusal
from lchp.store.folder import StageFolder
from lchp.store.study_folder import StudyFolder, store_of
from lchp.study.run.cards import OWN, Cards
from lchp.study.run.earlier import earlier, known
from lchp.study.run.growth import STOPS, Growth, changes, growth
from lchp.study.run.held import held_by, write_held
from lchp.study.run.ledger import Entry, Ledger
from lchp.study.run.repeated import repeated
from lchp.study.spec.load import Study
from lchp.training.identity import trial_form

if TYPE_CHECKING:
    from lchp.study.run.materials import Materials
    from lchp.training.config import TrialConfig

_NAMED = 20
_DIGITS = 6
"""Of a digest, in the name of a dataset."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a study's folder, which is made; the lock goes with the process, however it ends. What a process that was
    killed left half-written there is removed; a folder that was made for what is then refused goes, too.

    Raises:
        Refusal: another process holds it.
    """
    made, lock = not folder.exists(), StudyFolder(folder).lock
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(lock, wait=False))
        except BlockingIOError as error:
            raise Refusal(f"{folder}: another process is running this study: wait for it, or stop it") from error
        for part in (*left_parts(folder), *left_parts(StudyFolder(folder).runs)):
            part.unlink(missing_ok=True)
        try:
            yield
        except Refusal:
            if made and list(folder.iterdir()) == [lock]:
                lock.unlink()
                folder.rmdir()
            raise


@contextmanager
def unchanging(folder: Path) -> Iterator[None]:
    """Keep a study's folder as it is for who reads it, which may be one of several, and need not write there.

    Raises:
        Refusal: a process is running the study.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(StudyFolder(folder).lock.open())
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:  # no process of this version has ever worked there
            pass
        except BlockingIOError as error:
            raise Refusal(f"{folder}: a process is running this study: wait for it, or stop it") from error
        yield


def is_running(folder: Path) -> bool:
    """Whether a process holds a study's folder now."""
    return is_held(StudyFolder(folder).lock)


def trials_before(folder: Path, say: Callable[[str], None]) -> list[Entry]:
    """The trials of earlier runs in a study's folder, as :func:`lchp.study.run.earlier.earlier`."""
    held = held_by(folder)
    return earlier(folder, held.varied if held else (), say)


def outlook(study: Study, folder: Path) -> Growth | None:
    """What becomes of a study's folder with the study as it is now, refusals included; None where it was never run.

    Raises:
        Refusal: a file of the folder is damaged.
    """
    held = held_by(folder)
    if held is None:
        return None
    return growth(study, held.identity, known(folder, held.varied), store_of(folder.parent))


def require_continuable(study: Study, folder: Path) -> None:
    """See that the study can go on in its folder, whatever the data; one in which it was never run passes.

    Raises:
        Refusal: finished trials would mean something else; names the fields.
    """
    held = held_by(folder)
    # What is unchanged goes on whatever its ledger says.
    if held is not None and changes(study, held.identity) and (found := outlook(study, folder)):
        _refuse_other(study, folder, found.refused, repeated(study, held.identity))


def options_before(study: Study, folder: Path) -> str:
    """The options by which the study would be the one that its folder holds; empty where there are none."""
    held = held_by(folder)
    return repeated(study, held.identity) if held is not None else ""


def require_unchanged(study: Study, folder: Path) -> None:
    """See that a study's folder holds this very study; one in which it was never run passes.

    Raises:
        Refusal: it holds another, with which it can go on or not; names the fields.
    """
    require_continuable(study, folder)
    held = held_by(folder)
    lines = changes(study, held.identity) if held is not None else ()
    if lines:
        changed = "\n".join(f"  {line}" for line in lines)
        again = _again(options_before(study, folder))
        raise Refusal(f"{folder} holds {study.name} as it was before a change:\n{changed}\nrun the study first{again}")


@dataclass(frozen=True)
class Claim:
    """A study's folder that a run has made its own."""

    run: str
    """The key of the study's own run in the tracking store: the same however the study grows, and no other folder's."""
    entries: tuple[Entry, ...]
    """The trials of earlier runs that the study still has."""
    places: frozenset[str]
    """Where in the store its trials lie, and their initializations; of a search those that were suggested."""


def claim(
    study: Study, folder: Path, materials: Materials, entries: Sequence[Entry], say: Callable[[str], None]
) -> Claim:
    """Write the study's configuration and data into its folder; if others are there, tell what becomes of its trials
    before. ``entries`` are the trials of earlier runs.

    Raises:
        Refusal: finished trials would mean something else; names the fields and the images.
    """
    data, held = _digests(study, materials), held_by(folder)
    if held is None:
        # One whose file is gone goes on under the name of its run.
        run = Cards(folder).own_key() or f"{OWN}{uuid.uuid4().hex}"
        write_held(study, folder, data, run, None)
        return Claim(run, tuple(entries), _places(study, entries, materials))
    found = growth(study, held.identity, entries, materials.runtime.store)
    _refuse_other(study, folder, found.refused, repeated(study, held.identity))
    others = _other_data(held.data, data)
    if others and not found.is_free:
        _refuse_other(study, folder, [*others, *_changed_images(study, entries, materials)])
    if found.changes and not found.is_free:
        say(f"{study.name} was changed since its last run: {found}")
    if (
        study.search
        and found.is_free
        and not all(line.startswith(("search.trials: ", STOPS)) for line in found.changes)
    ):
        _forget_suggestions(study, folder, say)
        entries = ()
    places = _places(study, entries, materials)
    stay = tuple(entry for entry in entries if entry.folder in places)
    if found.changes or held.data != data:
        # First those that go: after a kill in between the study is still a changed one, and they do not come back.
        Ledger(folder, stay).write()
    if found.changes or held.data != data or not held.current:
        write_held(study, folder, data, held.run, held.search_key)
    return Claim(held.run, stay, places)


def _places(study: Study, entries: Sequence[Entry], materials: Materials) -> frozenset[str]:
    """Where in the store the trials lie that a study has, and their initializations; of a search those that were
    suggested.
    """
    if study.search:
        return frozenset(place for entry in entries for place in (entry.folder, entry.initialization) if place)
    configs = [trial.config for trial in study.trials]
    return frozenset(
        place for config in configs for place in (materials.folder(config), materials.initialization(config))
    )


def _forget_suggestions(study: Study, folder: Path, say: Callable[[str], None]) -> None:
    """Let a search begin anew of which no suggestion is finished, because it was changed."""
    from lchp.study.run.optuna_storage import place_of, set_search_aside

    assert study.search is not None, "only a search suggests"
    aside = set_search_aside(study.name, folder, study.search.directions)
    if aside is not None:
        say(f"{place_of(folder)}: none of its suggestions is finished, and {study.name} was changed: {aside}")


def _again(options: str) -> str:
    return f", or repeat the options of the run: {options}" if options else ""


def _refuse_other(study: Study, folder: Path, lines: Sequence[str], options: str = "") -> None:
    if lines:
        raise Refusal(
            "\n".join(
                [
                    f"{folder} holds another configuration of {study.name}:",
                    *(f"  {line}" for line in lines),
                    f"name the study otherwise, give another --output, or undo the change{_again(options)}",
                ]
            )
        )


def _digests(study: Study, materials: Materials) -> dict[str, str]:
    """The digests of a study's datasets by kind and configuration."""
    data: dict[str, str] = {}
    for config in _configs(study).values():
        name = f"{config.dataset.kind} {fingerprint(trial_form(config)['dataset'])[:_DIGITS]}"
        digest = materials.of(config).digest.total
        # Two datasets of one kind may differ in nothing but where they lie.
        if data.setdefault(name, digest) != digest:
            data[f"{name} {digest[:_DIGITS]}"] = digest
    return data


def _other_data(held: Mapping[str, str], mine: Mapping[str, str]) -> list[str]:
    """The datasets whose images are others than before; a study may have more datasets, or fewer."""
    lines = []
    for name in dict.fromkeys(_dataset(name) for name in held):
        before, now = ({side[other] for other in side if _dataset(other) == name} for side in (held, mine))
        if before - now and now - before:
            lines.append(f"data.{name}: {', '.join(sorted(before - now))} -> {', '.join(sorted(now - before))}")
    return lines


def _dataset(name: str) -> str:
    """Kind and configuration alone."""
    return " ".join(name.split()[:2])


def _configs(study: Study) -> dict[str, TrialConfig]:
    """The configurations by trial; the one that a search lays its suggestions over under the empty name."""
    return {"": study.searched} if study.search else {trial.name: trial.config for trial in study.trials}


def _changed_images(study: Study, entries: Sequence[Entry], materials: Materials) -> list[str]:
    """The images that are not those of the finished trials, by name."""
    from lchp.store.datasets import changed_images, list_file, read_list

    store = materials.runtime.store
    listed = cache(lambda total: read_list(list_file(store, total)))
    configs, lines = _configs(study), dict[str, None]()
    for entry in entries:
        stage = StageFolder(store / entry.folder)
        config = configs.get(entry.name) or configs.get("")
        if config is not None and stage.whole:
            lines.update(dict.fromkeys(changed_images(stage, materials.of(config).digest, listed)))
    named = list(lines)[:_NAMED]
    return named + ([f"... and {len(lines) - _NAMED} more images"] if len(lines) > _NAMED else [])
