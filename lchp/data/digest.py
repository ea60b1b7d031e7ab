"""Digests over a dataset's images, their labels and splits, so that a changed image is found and named.

True boxes are left out: training cannot see them. They have a digest of their own.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lchp.data.files import read_json, write_text
from lchp.data.headers import Header, header
from lchp.data.identities import file_identity, unreadable
from lchp.data.progress import progress
from lchp.data.records import Dataset, TrueBoxes
from lchp.vocabulary import TEST, TRAIN, VAL

READING_THREADS = 4
"""Threads that read files: hashing releases the interpreter lock."""
VERSION = 2
"""Of the remembered digests; those of another version are read again."""
CHUNK = 500
"""Images that are handed to the threads at once."""
CHUNKS_BETWEEN_WRITES = 100
"""How much work an interruption may cost: digesting ImageNet takes hours on a slow disk."""


@dataclass(frozen=True)
class Digest:
    """``files`` gives every image path a sha256 over its bytes, label and split; ``total`` is one over them all."""

    total: str
    files: dict[str, str]


@dataclass(frozen=True)
class ImageFiles:
    """What the image files of a dataset are, by path, as they were when they were read."""

    identities: dict[str, str]
    """Length and times, from which it is seen that a file may have changed."""
    hashes: dict[str, str]
    """The sha256 over its bytes."""
    headers: dict[str, Header]
    """Size and orientation; those that cannot be read are absent."""


def dataset_digest(dataset: Dataset, hashes: Mapping[str, str]) -> Digest:
    """The digest of a dataset whose images have the sha256s ``hashes``. It depends on images, labels, splits and
    relative paths, not on the root.
    """
    files = {
        record.path: _sha256(
            f"{hashes[record.path]} {VAL if record.path in dataset.held_out else split} {record.label}"
        )
        for split, records in ((TRAIN, dataset.train), (TEST, dataset.test))
        for record in records
    }
    return Digest(total_of(files), files)


def total_of(files: Mapping[str, str]) -> str:
    """The ``total`` of a :class:`Digest` with these ``files``."""
    return _sha256("".join(f"{path}\0{files[path]}\n" for path in sorted(files)))


def read_image_files(dataset: Dataset, cache: Path) -> ImageFiles:
    """Reads every image file once; an unchanged one never again. ValueError names a file that is missing.

    What was read is remembered in ``cache/digests``, by path, length, and times of modification and of change.
    """
    store = cache / "digests" / f"{_sha256(str(dataset.root.resolve()))[:16]}.json"
    known = _remembered(store)
    paths = [record.path for record in (*dataset.train, *dataset.test)]
    identities = {path: file_identity(dataset.root / path) for path in paths}
    unread = [path for path in paths if path not in known or known[path][0] != identities[path]]
    starts = range(0, len(unread), CHUNK)
    with ThreadPoolExecutor(READING_THREADS) as pool:
        for start in progress(starts, f"digesting {len(unread)} images", images=CHUNK):
            part = unread[start : start + CHUNK]
            for path, found in zip(part, pool.map(lambda path: _read(dataset.root / path), part), strict=True):
                known[path] = [identities[path], *found]
            if (start // CHUNK) % CHUNKS_BETWEEN_WRITES == CHUNKS_BETWEEN_WRITES - 1:
                _remember(store, known)
    if unread:
        _remember(store, known)
    hashes = {path: known[path][1] for path in paths}
    return ImageFiles(identities, hashes, {path: Header(*known[path][2:]) for path in paths if len(known[path]) > 2})


def boxes_digest(true_boxes: TrueBoxes) -> str:
    """One sha256 over the boxes of every image, in the order of their paths."""
    digest = hashlib.sha256()
    for path in sorted(true_boxes):
        digest.update(f"{path}\0{true_boxes[path].tolist()}\n".encode())
    return digest.hexdigest()


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """What differs between two ``Digest.files``, one line a file by path: ``<path>: changed|missing|new``.

    ``changed`` means other bytes, another label or another split. Empty exactly if the two totals agree.
    """
    differing = sorted(path for path in {*old, *new} if old.get(path) != new.get(path))
    return [
        f"{path}: {'new' if path not in old else 'missing' if path not in new else 'changed'}" for path in differing
    ]


def _remembered(store: Path) -> dict[str, list[Any]]:
    """By path: identity, sha256 and, of an image whose header can be read, width, height and orientation."""
    if not store.exists():
        return {}
    try:
        held = read_json(store, "the images are read again")
    except ValueError as error:
        print(error, file=sys.stderr)
        return {}
    is_ours = isinstance(held, dict) and held.get("version") == VERSION and isinstance(held.get("images"), dict)
    return held["images"] if is_ours else {}


def _remember(store: Path, known: dict[str, list[Any]]) -> None:
    try:
        write_text(store, json.dumps({"version": VERSION, "images": known}))
    except OSError as error:
        raise ValueError(
            f"{store} cannot be written ({error.strerror}): make room, or give another cache folder with --cache DIR"
        ) from error


def _read(file: Path) -> tuple[object, ...]:
    """sha256, width, height and orientation; an image without a header, which will not decode, has the first alone."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise unreadable(file, error) from error
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        found = header(file, data)
    except ValueError:
        return (sha256,)
    return sha256, found.width, found.height, found.orientation


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
