"""A study that arrives in an archive: checked as a whole, then put beside the others."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lchp.at_work import doing
from lchp.data.files import replacing
from lchp.data.fingerprint import fingerprint
from lchp.errors import Refusal, refusing
from lchp.store.folder import CHECKPOINT, StageFolder
from lchp.store.in_use import using
from lchp.store.study_folder import LEDGER, StudyFolder, store_of
from lchp.study.kept.archive import FORMAT, INDEX, LISTS, SEAL, STORE, STUDY, is_placed
from lchp.study.run.ledger import entries_of
from lchp.study.run.ownership import alone
from lchp.study.spec.schema import NAME, RESERVED

_BLOCK = 1 << 20
_ENCRYPTED = 1
"""The bit of an entry's flags that says so."""
_LARGEST_INDEX = 256 << 20
_REMEDY = "make it again with `lchp study archive`, or copy it again"


@dataclass(frozen=True)
class Arrived:
    """A study that lies in its folder now."""

    folder: Path
    stages: int
    """How many stages were brought."""
    known: int
    """How many were there already."""
    size: int
    """Bytes written."""


def put_archive(file: Path, output: Path, say: Callable[[str], None]) -> Arrived:
    """Put the study of an archive into ``output``, once every byte of it is known to be what was written. The list of
    its trials goes last: after a kill in between the same command goes on.

    Raises:
        Refusal: the file is no archive of a study, is cut or changed, names a place outside of its folders, or the
            study is there.
    """
    with _opened(file) as (archive, index):
        listed: Mapping[str, Mapping[str, Any]] = index["files"]
        folder = output.absolute() / index["study"]
        _require_room(file, folder, listed)
        done = 0
        with doing(lambda: f"comparing {file.name}, {done} of {len(listed)} files"):
            for name, one in listed.items():
                for _ in _blocks(archive, file, name, one):
                    pass
                done += 1
        _require_trials(archive, file)
        stages: dict[str, list[str]] = {}
        for name in listed:
            place = PurePosixPath(name).parent.as_posix()
            stages.setdefault(place, []).append(name)
        own = [name for place, names in stages.items() if place.split("/")[0] == STUDY for name in names]
        store, brought, known, size = store_of(folder.parent), 0, 0, 0

        def copy(name: str, target: Path) -> int:
            with replacing(target) as part, part.open("wb") as out:
                for block in _blocks(archive, file, name, listed[name]):
                    out.write(block)
            return int(listed[name]["bytes"])

        with using(store), alone(folder), doing(lambda: f"writing {folder.name}, {size >> 20:,} MB"):
            for place, names in stages.items():
                root, _, below = place.partition("/")
                if root == STORE and below == LISTS:
                    missing = [name for name in names if not (store / LISTS / PurePosixPath(name).name).exists()]
                    size += sum(copy(name, store / LISTS / PurePosixPath(name).name) for name in missing)
                elif root == STORE:
                    try:
                        written = _put_stage(StageFolder(store / below), names, copy, say)
                    except BlockingIOError:
                        say(f"{store / below}: a process is at work on it: left to that")
                        written = 0
                    brought, known, size = brought + bool(written), known + (not written), size + written
            ledger = StudyFolder(folder).ledger
            for name in sorted(own, key=lambda name: name == f"{STUDY}/{ledger.name}"):
                size += copy(name, folder / name.removeprefix(f"{STUDY}/"))
    return Arrived(folder, brought, known, size)


def _put_stage(
    stage: StageFolder, names: list[str], copy: Callable[[str, Path], int], say: Callable[[str], None]
) -> int:
    """Put the files of a stage into its folder, in their order, unless it is done or under way there; gives bytes.

    Raises:
        BlockingIOError: another process holds the folder.
    """
    with stage.lock(wait=False):
        if (fault := stage.fault()) is not None:
            say(f"{stage.path}: {fault}: set aside as {stage.set_aside().name}")
        arrives_done = not any(PurePosixPath(name).name == CHECKPOINT for name in names)
        if stage.done or (stage.has_checkpoint and not arrives_done):
            return 0
        size = sum(copy(name, stage.path / PurePosixPath(name).name) for name in names)
        if arrives_done:
            (stage.path / CHECKPOINT).unlink(missing_ok=True)
        return size


@contextmanager
def _opened(file: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, Any]]]:
    """An archive, and what its index says of it."""
    if not file.is_file():
        what = "is no plain file" if file.exists() else "there is no such file"
        raise Refusal(f"{file}: {what}: give an archive that `lchp study archive` has written")
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive, _index(archive, file)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
        raise Refusal(f"{file}: is no whole archive ({error}): {_REMEDY}") from error


def _index(archive: zipfile.ZipFile, file: Path) -> dict[str, Any]:
    names = archive.namelist()
    if INDEX not in names:
        # What is left of one that was cut may end in an archive that lay in it.
        raise Refusal(f"{file}: is cut, or no archive of a study, it holds no {INDEX}: {_REMEDY}")
    if archive.getinfo(INDEX).file_size > _LARGEST_INDEX:
        raise Refusal(f"{file}: its {INDEX} is too large to be one: {_REMEDY}")
    for info in archive.infolist():
        if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Refusal(f"{file}: {info.filename} is encrypted, or packed as lchp packs nothing: {_REMEDY}")
    try:
        index = json.loads(archive.read(INDEX))
        seal = index.pop(SEAL)
        whole = fingerprint(index) == seal
        known, study, listed = index["format"] == FORMAT, index["study"], index["files"]
        folders = {PurePosixPath(name).parent.as_posix() for name in listed}
        wrong = next((name for name in listed if not is_placed(name) or name in folders), None)
        if not all(one.keys() == {"bytes", "sha256"} and isinstance(one["bytes"], int) for one in listed.values()):
            raise TypeError("it lists no sizes and digests")
        if not isinstance(study, str):
            raise TypeError("it names no study")
        if f"{STUDY}/{LEDGER}" not in listed:
            raise KeyError(f"{STUDY}/{LEDGER}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refusal(f"{file}: its {INDEX} does not say what it holds ({error!r}): {_REMEDY}") from error
    if not whole:
        raise Refusal(f"{file}: its {INDEX} is not what was written: {_REMEDY}")
    if not known:
        raise Refusal(f"{file}: is an archive of the format {index['format']!r}: use the version of lchp that wrote it")
    if wrong is not None or not re.fullmatch(NAME, study) or study.lower() in RESERVED:
        raise Refusal(f"{file}: {wrong or study!r} leads out of the study's folder, or is none of its files: not taken")
    if sorted(names) != sorted([*listed, INDEX]):
        raise Refusal(f"{file}: its files are not those that its {INDEX} lists: {_REMEDY}")
    return dict(index)


def _require_trials(archive: zipfile.ZipFile, file: Path) -> None:
    """See that the list of trials is one: nobody could read, continue or remove the study otherwise."""
    name = f"{STUDY}/{LEDGER}"
    try:
        plain = json.loads(archive.read(name))
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{file}: {name} is no JSON ({error}): {_REMEDY}") from error
    with refusing():
        entries_of(plain, f"{file}: {name}", _REMEDY)


def _require_room(file: Path, folder: Path, listed: Mapping[str, Mapping[str, Any]]) -> None:
    """See that the study is not there, and that it fits."""
    if StudyFolder(folder).ledger.exists():
        raise Refusal(
            f"{folder}: holds a study of that name: give another --output, or remove it with `lchp study rm {folder}`"
        )
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise Refusal(f"{folder}: is no folder, and the study goes there: give another --output")
    there = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    foreign = [path for path in there if f"{STUDY}/{path.relative_to(folder).as_posix()}" not in listed]
    if foreign:
        raise Refusal(f"{foreign[0]}: is none of the study's files, which go there: give another --output")
    size = sum(int(one["bytes"]) for one in listed.values())
    around = next(path for path in (folder, *folder.parents) if path.is_dir())
    free = shutil.disk_usage(around).free
    if size > free:
        raise Refusal(f"{file}: holds {size:,} bytes, and {free:,} are free at {around}: make room")


def _blocks(archive: zipfile.ZipFile, file: Path, name: str, one: Mapping[str, Any]) -> Iterator[bytes]:
    """What an entry holds, in parts. Refusal where that is not what the index lists, once all was given."""
    if archive.getinfo(name).file_size != one["bytes"]:
        raise Refusal(f"{file}: {name} is not what was written (its size differs): {_REMEDY}")
    digest = hashlib.sha256()
    with archive.open(name) as entry:
        while block := entry.read(_BLOCK):
            digest.update(block)
            yield block
    if digest.hexdigest() != one["sha256"]:
        raise Refusal(f"{file}: {name} is not what was written (its SHA-256 differs): {_REMEDY}")
