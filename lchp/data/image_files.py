"""What the image files of a dataset are, read once: their hashes and headers, remembered in columns that every later
process maps as long as no file has changed.
"""

from __future__ import annotations

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lchp.at_work import speaking
from lchp.data.columns import Ints, Texts, read_columns, write_columns
from lchp.data.digest import Digest, Hashes, dataset_digest, splits_of
from lchp.data.files import read_json
from lchp.data.headers import Headers, header
from lchp.data.identities import states_of, unreadable
from lchp.data.progress import progress
from lchp.data.records import Dataset, Records

READING_THREADS = 4
"""Threads that read files: hashing releases the interpreter lock."""
VERSION = 3
"""Of what is remembered; what another version remembered is read again, but for version 2, which was in JSON."""
CHUNK = 500
"""Images that are handed to the threads at once."""
CHUNKS_BETWEEN_WRITES = 100
"""How much work an interruption may cost: digesting ImageNet takes hours on a slow disk."""


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """What the image files of a dataset are, by its rows, as they were when they were read."""

    images: Records
    states: Ints
    """Length and times, (n, 3), from which it is seen that a file may have changed; -1 where it was not read yet."""
    hashes: Hashes
    headers: Headers
    digest: Digest
    """That of the dataset."""


def read_image_files(dataset: Dataset, cache: Path) -> ImageFiles:
    """Reads every image file once; an unchanged one never again. ValueError names a file that is missing.

    What was read is remembered in ``cache/digests``, by path, length, and times of modification and of change.
    """
    store = cache / "digests" / f"{_name(dataset.source)}.columns"
    images = dataset.images
    states = states_of(dataset.root, images)
    known = _remembered(store)
    if known is None:
        known = _of_version_2(store.with_name(f"{_name(dataset.root)}.json"))
    if known is not None and known.paths.same_as(images.all_paths) and np.array_equal(known.states, states):
        # What is mapped takes the place of what was listed.
        return _found(dataset.over(known.paths), known, store)
    now = _taken_over(known, images, states)
    unread = np.flatnonzero(now.states[:, 0] < 0)
    _read_all(dataset, now, unread, states, store)
    return _found(dataset, now, store, write=True)


@dataclass(frozen=True, eq=False)
class _Known:
    """What is remembered: of any images, by path."""

    paths: Texts
    states: Ints
    hashes: Hashes
    headers: Headers
    total: str | None = None
    """That of the digest of a dataset of these images with ``labels`` and ``splits`` (``digest.splits_of``)."""
    labels: Any = None
    splits: Any = None


def _found(dataset: Dataset, known: _Known, store: Path, write: bool = False) -> ImageFiles:
    images, splits = dataset.images, splits_of(dataset)
    is_same = np.array_equal(known.labels, images.labels) and np.array_equal(known.splits, splits)
    digest = dataset_digest(dataset, known.hashes, known.total if is_same else None)
    if write or not is_same or known.total is None:
        _remember(store, replace(known, total=digest.total, labels=images.labels, splits=splits))
    return ImageFiles(images, known.states, known.hashes, known.headers, digest)


def _taken_over(known: _Known | None, images: Records, states: Ints) -> _Known:
    """Columns for ``images`` with what is known of those whose state is the same; the others' state is -1."""
    count = len(images)
    now = _Known(
        images.all_paths,
        np.full((count, 3), -1, np.int64),
        np.zeros((count, 32), np.uint8),
        np.zeros((count, 3), np.int32),
    )
    if known is None:
        return now
    rows = {path: row for row, path in enumerate(known.paths)}
    before = np.fromiter((rows.get(path, -1) for path in images.paths), np.int64, count)
    here = np.flatnonzero(before >= 0)
    here = here[(known.states[before[here]] == states[here]).all(1)]
    for new, old in (
        (now.states, known.states),
        (now.hashes, known.hashes),
        (now.headers, known.headers),
    ):
        new[here] = old[before[here]]
    return now


def _read_all(dataset: Dataset, now: _Known, unread: Ints, states: Ints, store: Path) -> None:
    """Fills the columns of ``now`` in the rows ``unread``."""
    starts = range(0, len(unread), CHUNK)
    with ThreadPoolExecutor(READING_THREADS) as pool:
        for start in progress(starts, f"digesting {len(unread)} images", images=CHUNK):
            rows = unread[start : start + CHUNK]
            files = [dataset.root / path for path in now.paths.at(rows)]
            for row, (sha256, size) in zip(rows.tolist(), pool.map(_read, files), strict=True):
                now.states[row], now.hashes[row], now.headers[row] = states[row], np.frombuffer(sha256, np.uint8), size
            if (start // CHUNK) % CHUNKS_BETWEEN_WRITES == CHUNKS_BETWEEN_WRITES - 1:
                _remember(store, now)


def _remembered(store: Path) -> _Known | None:
    if not store.exists():
        return None
    try:
        about, columns = read_columns(store)
    except (ValueError, OSError) as error:
        with speaking():
            print(f"{store} is cut or damaged ({error}): the images are read again", file=sys.stderr)
        return None
    if about.get("version") != VERSION:
        return None
    paths = Texts(columns["paths"], columns["ends"])
    return _Known(paths, total=about["total"], **{name: columns[name] for name in columns.keys() - {"paths", "ends"}})


def _of_version_2(store: Path) -> _Known | None:
    """What versions before 0.4 remembered in JSON, by path: identity, sha256 and, where there is a header, its three
    numbers.
    """
    try:
        held = read_json(store) if store.exists() else None
    except ValueError:
        return None
    if not isinstance(held, dict) or held.get("version") != 2:
        return None
    images: dict[str, list[Any]] = held["images"]
    states = [[int(number) for number in image[0].split()] for image in images.values()]
    hashes = b"".join(bytes.fromhex(image[1]) for image in images.values())
    headers = [image[2:] or (0, 0, 0) for image in images.values()]
    return _Known(
        Texts.of(images),
        np.array(states, np.int64).reshape(-1, 3),
        np.frombuffer(hashes, np.uint8).reshape(-1, 32),
        np.array(headers, np.int32).reshape(-1, 3),
    )


def _remember(store: Path, known: _Known) -> None:
    columns = {
        "paths": known.paths.data,
        "ends": known.paths.ends,
        "states": known.states,
        "hashes": known.hashes,
        "headers": known.headers,
        **({} if known.labels is None else {"labels": known.labels, "splits": known.splits}),
    }
    try:
        write_columns(store, {"version": VERSION, "total": known.total}, columns)
    except OSError as error:
        raise ValueError(
            f"{store} cannot be written ({error.strerror}): make room, or give another cache folder with --cache DIR"
        ) from error


def _read(file: Path) -> tuple[bytes, tuple[int, int, int]]:
    """sha256 and header, of zeros for an image without one, which will not decode."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise unreadable(file, error) from error
    sha256 = hashlib.sha256(data).digest()
    try:
        found = header(file, data)
    except ValueError:
        return sha256, (0, 0, 0)
    return sha256, (found.width, found.height, found.orientation)


def _name(path: Path) -> str:
    return hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()[:16]
