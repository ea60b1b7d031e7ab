"""The folder of a stage or of a whole trial: the only place that names, writes, reads and checks its files.

``manifest.json`` is the last file to be written, and lists every other with its size and digest: where it lies and no
checkpoint does, the stage is done. Old folders have none, and ``scores.json`` was their last; they are checked by the
structure of their files.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lchp.data.files import replacing, unused_aside, write_json, write_text
from lchp.data.locks import locked
from lchp.store.checks import (
    Damaged,
    check_listed,
    check_picture,
    described,
    read_bytes,
    read_object,
    read_objects,
    read_text,
    rows_of,
)
from lchp.store.per_image import PATH
from lchp.store.selection import SelectionRow, selection_rows
from lchp.store.shared import SharedFolder
from lchp.store.tensors import check_tensors, load_tensors, save_tensors

CONFIG, _ENVIRONMENT, _HISTORY, _SCORES = "config.json", "environment.json", "history.json", "scores.json"
_PER_IMAGE, _SELECTION = "per_image.csv", "selection.csv"
_DATASET, _OWN_LIST = "dataset.json", "dataset.csv"
_NETWORKS, CHECKPOINT, MANIFEST, PICTURE, _LOCK = (
    "networks.pt", "checkpoint.pt", "manifest.json", "predictions.png", ".lock"
)  # fmt: skip

BROUGHT = ".shared-"
"""How the temporary folder begins in which another machine's checkpoint is looked at."""
REMOVED = ".removed"
"""How the name of a folder ends that is being removed."""

RECORDS = (CONFIG, _SCORES, _HISTORY, _PER_IMAGE, _ENVIRONMENT, _DATASET)
"""What a tracking store keeps of every finished trial; beside them selection and picture, where there are such."""

_KEPT = (*RECORDS, _OWN_LIST, _SELECTION, _NETWORKS)
_EPOCH = frozenset(("stage", "epoch", "step", "metrics", "seconds"))

_checked: dict[tuple[Path, bool], tuple[object, str | None]] = {}
"""What was found of a folder whose files had certain sizes and times: digests are computed once in a process."""


def lacking(names: Container[str]) -> list[str]:
    """The records that a finished trial has and that are not among ``names``. Before version 0.3 a list of all images
    with their digests, dataset.csv, stood for dataset.json.
    """
    return sorted(name for name in RECORDS if name not in names and not (name == _DATASET and _OWN_LIST in names))


@dataclass(frozen=True)
class StageResult:
    """What a finished stage leaves: plain values for JSON, text of CSV files, state dicts.

    ``history`` holds one mapping an epoch; ``selection`` is None where no image has true boxes; ``dataset`` is the
    digest of the images.
    """

    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    scores: Mapping[str, float]
    per_image: str
    selection: str | None
    dataset: str
    networks: dict[str, Any]


@dataclass(frozen=True)
class StageFolder:
    """The folder of a stage, or of a whole trial, or a tracking store's copy of one (which has no networks).

    What reads a file raises :class:`Damaged` where it is missing, cut or changed.
    """

    path: Path
    shared: SharedFolder | None = None
    """Where machines that train together leave it for each other (``lchp.store.exchange``)."""

    @property
    def done(self) -> bool:
        """Whether the stage was trained and measured to its end; :meth:`fault` tells whether its files still are so."""
        # A checkpoint tells of a process that ended before its last step, in which that becomes a milestone.
        return (self._has(MANIFEST) or (self._has(_SCORES) and not self._is_new)) and not self.has_checkpoint

    @property
    def _is_new(self) -> bool:
        """Whether it is the folder of a stage that ended with a manifest; copies hold no networks."""
        return self._has(_DATASET) and self._has(_NETWORKS)

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is something to continue from."""
        return self._has(CHECKPOINT)

    @property
    def whole(self) -> bool:
        """Whether the stage is done and every file is what was written."""
        return self.done and self.fault() is None

    def fault(self, networks: bool = True) -> str | None:
        """Which file is damaged, and how; None for a folder that is whole, or whose stage is under way.

        Every file is compared with its digest; the networks, the only large ones, by their size alone where
        ``networks`` is false: for who does not read them.
        """
        state = self._state()
        if _checked.get((self.path, True)) == (state, None):
            return None  # whole with its networks, and so without them
        found = _checked.get((self.path, networks))
        if found is None or found[0] != state:
            try:
                self._check(networks)
                fault = None
            except Damaged as error:
                fault = error.fault
            found = _checked[self.path, networks] = (state, fault)
        return found[1]

    @property
    def complaint(self) -> str | None:
        """What keeps tables from reading a stage that was finished, as a line for people; networks, which they do not
        read, are compared by their size alone. None where nothing does.
        """
        fault = self.fault(networks=False) or (None if self.done else "its files are gone")
        return None if fault is None else f"{self.path}: {fault}: `lchp study run` makes it again"

    def set_aside(self) -> Path:
        """Moves every file but the lock, which the caller holds, into ``<folder>.damaged-<N>`` beside; gives that."""
        aside = unused_aside(self.path)
        aside.mkdir()
        # What says that the stage is done goes last: after a kill in between the rest follows.
        for file in sorted(self.path.iterdir(), key=lambda file: file.name in (_SCORES, MANIFEST)):
            if file.name != _LOCK:
                file.rename(aside / file.name)
        return aside

    def remove(self) -> None:
        """Removes the folder with all that lies in it, under another name: after a kill in between it is no stage, and
        a process that waits for it makes it anew.

        Raises:
            BlockingIOError: another process holds the folder.
        """
        with self.lock(wait=False):
            aside = self.path.with_name(f"{self.path.name}{REMOVED}")
            shutil.rmtree(aside, ignore_errors=True)
            self.path.rename(aside)
            shutil.rmtree(aside)

    def files(self) -> list[Path]:
        """Every file that belongs to the stage or trial, finished or not, those last that say that it is done."""
        names = (*_KEPT, CHECKPOINT, PICTURE, MANIFEST)
        there = [self.path / name for name in names if self._has(name)]
        return sorted(there, key=lambda file: (file.name in (_SCORES, MANIFEST), file.name == MANIFEST, file.name))

    @property
    def lock_file(self) -> Path:
        """What :meth:`lock` holds."""
        return self.path / _LOCK

    @contextmanager
    def lock(self, wait: bool = True) -> Iterator[None]:
        """Holds the folder, which is made, for this process; the lock goes with the process, however it ends.

        Raises:
            BlockingIOError: another process holds it, and this one is not to wait.
        """
        with locked(self.lock_file, wait=wait):
            yield

    def finish(self, result: StageResult, last_checkpoint: Path | None = None) -> None:
        """Writes what a finished stage leaves, the manifest last; its checkpoint goes, to ``last_checkpoint`` where
        that is given.
        """
        self._write_optional(_SELECTION, result.selection)
        save_tensors(self.path / _NETWORKS, result.networks)
        write_json(self.path / CONFIG, result.config)
        write_json(self.path / _ENVIRONMENT, result.environment)
        write_json(self.path / _HISTORY, result.history)
        write_text(self.path / _PER_IMAGE, result.per_image)
        write_json(self.path / _DATASET, {"sha256": result.dataset})
        write_json(self.path / _SCORES, result.scores)
        names = [*RECORDS, _NETWORKS, *([] if result.selection is None else [_SELECTION])]
        write_json(self.path / MANIFEST, {name: described(self.path / name) for name in sorted(names)})
        if last_checkpoint is not None and self.has_checkpoint:
            last_checkpoint.parent.mkdir(parents=True, exist_ok=True)
            (self.path / CHECKPOINT).replace(last_checkpoint)
        (self.path / CHECKPOINT).unlink(missing_ok=True)

    def config(self) -> dict[str, Any]:
        """The configuration that the stage was trained with."""
        return read_object(self.path / CONFIG)

    def environment(self) -> dict[str, Any]:
        """Commit, versions and hardware that the stage was trained with."""
        return read_object(self.path / _ENVIRONMENT)

    def history(self) -> list[dict[str, Any]]:
        """The finished epochs, those of both stages in the folder of a trial."""
        return read_objects(self.path / _HISTORY, _EPOCH)

    def scores(self) -> dict[str, float]:
        """The final scores by ``<method>/<split>/<metric>``."""
        scores = read_object(self.path / _SCORES)
        wrong = [name for name, value in scores.items() if not isinstance(value, int | float)]
        if wrong:
            raise Damaged(self.path / _SCORES, f"cannot be read ({wrong[0]} is no number)")
        return scores

    @property
    def has_history(self) -> bool:
        """Whether the epochs were kept, as every finished stage keeps them; of some committed results they are not."""
        return self._has(_HISTORY)

    @property
    def has_per_image(self) -> bool:
        """Whether the boxes of single images were kept, as every finished stage keeps them."""
        return self._has(_PER_IMAGE)

    def per_image_text(self) -> str:
        """One line for every image, split and method, under a header: boxes in pixels, IoU, Top-1 and Top-5 hits."""
        return read_text(self.path / _PER_IMAGE)

    def per_image_bytes(self) -> bytes:
        """The same as it lies there: 1,000 of them are not decoded for who reads the bytes."""
        return read_bytes(self.path / _PER_IMAGE)

    def first_image(self) -> str:
        """The path in its dataset of the first image that was measured."""
        return next(csv.DictReader(io.StringIO(self.per_image_text())))[PATH]

    def per_image(self) -> list[dict[str, str]]:
        """The rows of :meth:`per_image_text`."""
        return rows_of(self.path / _PER_IMAGE, self.per_image_text())

    def selection_text(self) -> str | None:
        """How many boxes of the training images pass each tau, and their GT-Known; None where no true box is known."""
        return read_text(self.path / _SELECTION) if self._has(_SELECTION) else None

    def selection(self) -> list[dict[str, str]] | None:
        """The rows of :meth:`selection_text`."""
        text = self.selection_text()
        return None if text is None else rows_of(self.path / _SELECTION, text)

    def selection_rows(self) -> list[SelectionRow]:
        """What :meth:`selection` says, of this version or of 0.1; empty where no true box is known."""
        try:
            return selection_rows(self.selection() or ())
        except (KeyError, ValueError) as error:
            raise Damaged(self.path / _SELECTION, f"cannot be read ({error})") from error

    def dataset_digest(self) -> str:
        """The digest of the images that the stage was trained on; their list is elsewhere (``lchp.store.datasets``)."""
        digest = read_object(self.path / _DATASET).get("sha256")
        if not isinstance(digest, str):
            raise Damaged(self.path / _DATASET, "cannot be read (it holds no sha256)")
        return digest

    def own_list(self) -> dict[str, str] | None:
        """The SHA-256 of every image that the stage read, by its path in the dataset, where its folder is of before
        version 0.3; else None.
        """
        path = self.path / _OWN_LIST
        if self._has(_DATASET) or not self._has(_OWN_LIST):
            return None
        try:
            return {row["path"]: row["sha256"] for row in rows_of(path, read_text(path))}
        except KeyError as error:
            raise Damaged(path, f"cannot be read (it has no column {error})") from error

    def networks(self) -> dict[str, Any]:
        """The state dicts of the networks that the stage trained, on the CPU."""
        return load_tensors(self.path / _NETWORKS)

    def save_checkpoint(self, payload: dict[str, Any]) -> None:
        """Keeps everything that the stage's next epoch depends on."""
        save_tensors(self.path / CHECKPOINT, payload)

    def checkpoint(self) -> dict[str, Any]:
        """What :meth:`save_checkpoint` kept last, on the CPU."""
        return load_tensors(self.path / CHECKPOINT)

    @property
    def picture(self) -> Path | None:
        """The picture of predictions; None where it was not drawn, or is not what was drawn."""
        path = self.path / PICTURE
        try:
            if not path.is_file():
                return None
            if not self._has(MANIFEST):
                check_picture(path)
            else:
                listed = self._manifest().get(PICTURE)
                if listed is None:
                    return None
                check_listed(path, listed, digest=True)
        except Damaged:
            return None
        return path

    @contextmanager
    def drawing(self) -> Iterator[Path]:
        """A path to draw the picture to, which becomes part of the folder when the block ends."""
        with replacing(self.path / PICTURE) as part:
            yield part
        if self._has(MANIFEST):
            write_json(self.path / MANIFEST, {**self._manifest(), PICTURE: described(self.path / PICTURE)})

    def check_records(self) -> None:
        """See that every file that a tracking store keeps can be read. Damaged names the first that cannot."""
        for read in (self.config, self.environment, self.history, self.scores, self.per_image, self.selection):
            read()
        if self.own_list() is None:
            self.dataset_digest()

    def records(self) -> list[Path]:
        """The files that a tracking store keeps.

        Raises:
            ValueError: one is missing that every finished trial has.
        """
        there = [name for name in (*RECORDS, _OWN_LIST, _SELECTION) if self._has(name)]
        if missing := lacking(there):
            raise ValueError(
                f"{self.path} is no finished trial, it lacks {', '.join(missing)}: run the trial to its end first"
            )
        return [*(self.path / name for name in there), *([self.picture] if self.picture else [])]

    def _has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def _write_optional(self, name: str, text: str | None) -> None:
        if text is None:
            (self.path / name).unlink(missing_ok=True)
        else:
            write_text(self.path / name, text)

    def _state(self) -> object:
        """What changes whenever a file of the folder is written."""
        found = {}
        for name in (*_KEPT, MANIFEST, CHECKPOINT):
            with suppress(OSError):
                stat = (self.path / name).stat()
                found[name] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        return found

    def listed(self) -> list[str]:
        """The names of the files of a stage that is done, as its manifest has them."""
        return list(self._manifest())

    def _manifest(self) -> dict[str, Any]:
        path = self.path / MANIFEST
        manifest = read_object(path)
        if not all(isinstance(listed, dict) and {"bytes", "sha256"} == listed.keys() for listed in manifest.values()):
            raise Damaged(path, "cannot be read (it lists no sizes and digests)")
        unlisted = [*lacking(manifest), *({_NETWORKS} - manifest.keys())]
        if unlisted:
            raise Damaged(path, f"does not list {', '.join(unlisted)}")
        return manifest

    def _check(self, networks: bool) -> None:
        if not self.done:
            left = [name for name in _KEPT if self._has(name)]
            if left and not self.has_checkpoint:
                raise Damaged(self.path / (MANIFEST if self._has(_SCORES) else _SCORES), "is missing")
        elif self._has(MANIFEST):
            for name, listed in self._manifest().items():
                if name != PICTURE:
                    check_listed(self.path / name, listed, digest=networks or name != _NETWORKS)
        else:
            self.check_records()
            check_tensors(self.path / _NETWORKS, checksums=networks)
