"""Whose a study's folder is: the configuration that it holds, and the process that works in it."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lchp.data.files import left_parts, read_json, write_text
from lchp.data.fingerprint import differences, fingerprint
from lchp.errors import Refusal, refusing
from lchp.store.folder import StageFolder
from lchp.store.study_folder import StudyFolder
from lchp.study.run.ledger import Entry
from lchp.study.spec.load import Study
from lchp.training.identity import trial_form

if TYPE_CHECKING:
    from lchp.study.run.prepare import Materials
    from lchp.training.config import TrialConfig

_NAMED = 20


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a study's folder, which is made; the lock goes with the process, however it ends. What a process that was
    killed left half-written there is removed; a folder that was made for what is then refused goes, too.

    Raises:
        Refusal: another process holds it.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = StudyFolder(folder).lock
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refusal(f"{folder}: another process is running this study: wait for it, or stop it") from error
        for part in left_parts(folder):
            part.unlink(missing_ok=True)
        try:
            yield
        except Refusal:
            if made and list(folder.iterdir()) == [lock]:
                lock.unlink()
                folder.rmdir()
            raise


def is_running(folder: Path) -> bool:
    """Whether a process holds a study's folder now."""
    try:
        with StudyFolder(folder).lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def require_same(study: Study, folder: Path) -> None:
    """See that a study's folder holds this configuration, whatever the data; a folder that holds none passes.

    Raises:
        Refusal: it holds another; names the fields.
    """
    held = _held(folder)
    if held is not None:
        _refuse_other(study, folder, {**held, "data": None}, {**study.identity(), "data": None})


def claim(study: Study, folder: Path, materials: Materials, entries: Sequence[Entry]) -> None:
    """Write the study's configuration and data into its folder, or check that those there are the same; ``entries`` are
    the trials of earlier runs.

    Raises:
        Refusal: they are others; names the fields and, where a trial is finished, the images.
    """
    data: dict[str, str] = {}
    for config in _configs(study).values():
        name = f"{config.dataset.kind} {fingerprint(trial_form(config)['dataset'])[:6]}"
        digest = materials.of(config).digest.total
        # Two datasets of one kind may differ in nothing but where they lie.
        if data.setdefault(name, digest) != digest:
            data[f"{name} {digest[:6]}"] = digest
    held = _held(folder)
    if held is None:
        write_text(StudyFolder(folder).configuration, json.dumps({**study.identity(), "data": data}, indent=1))
        return
    images = _changed_images(study, entries, materials) if held.get("data") != data else []
    _refuse_other(study, folder, held, {**study.identity(), "data": data}, images)


def _held(folder: Path) -> dict[str, Any] | None:
    file = StudyFolder(folder).configuration
    if not file.exists():
        return None
    remedy = "delete it, and run the study again"
    with refusing():
        held = read_json(file, remedy)
    if not isinstance(held, dict):
        raise Refusal(f"{file} is not what a study writes there, it holds no object: {remedy}")
    return held


def _refuse_other(
    study: Study, folder: Path, held: dict[str, Any], mine: dict[str, Any], images: list[str] | None = None
) -> None:
    lines = differences(held, json.loads(json.dumps(mine)))
    if lines:
        raise Refusal(
            "\n".join(
                [
                    f"{folder} holds another configuration of {study.name}:",
                    *(f"  {line}" for line in [*lines, *(images or ())]),
                    "name the study otherwise, give another --output, or undo the change",
                ]
            )
        )


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
