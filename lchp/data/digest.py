"""Digests over a dataset's images, their labels and splits, so that a changed image is found and named.

True boxes are left out: training cannot see them. They have a digest of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lchp.data.files import write_text
from lchp.data.loader import file_identity
from lchp.data.progress import progress
from lchp.data.records import Dataset, TrueBoxes

READING_THREADS = 4
"""Threads that read files: hashing releases the interpreter lock."""
CHUNK = 500
"""Images that are handed to the threads at once."""
CHUNKS_BETWEEN_WRITES = 100
"""How much work an interruption may cost: digesting ImageNet takes hours on a slow disk."""


@dataclass(frozen=True)
class Digest:
    """``files`` gives every image path a sha256 over its bytes, label and split; ``total`` is one over them all."""

    total: str
    files: dict[str, str]


def dataset_digest(dataset: Dataset, cache: Path) -> Digest:
    """The digest of a dataset. It depends on images, labels, splits and relative paths, not on the root."""
    return digest_of_hashes(dataset, image_hashes(dataset, cache))


def digest_of_hashes(dataset: Dataset, hashes: Mapping[str, str]) -> Digest:
    """The digest of a dataset whose :func:`image_hashes` are known."""
    files = {
        record.path: _sha256(f"{hashes[record.path]} {split} {record.label}")
        for split, records in (("train", dataset.train), ("test", dataset.test))
        for record in records
    }
    return Digest(_sha256("".join(f"{path}\0{files[path]}\n" for path in sorted(files))), files)


def image_hashes(dataset: Dataset, cache: Path) -> dict[str, str]:
    """The sha256 of every image file, by path. ValueError names a file that is missing.

    What was read before is remembered in ``cache/digests``, by path, length, and times of modification and of change.
    """
    store = cache / "digests" / f"{_sha256(str(dataset.root.resolve()))[:16]}.json"
    known: dict[str, list[str]] = _remembered(store)
    paths = [record.path for record in (*dataset.train, *dataset.test)]
    identities = {path: file_identity(dataset.root / path) for path in paths}
    unread = [path for path in paths if known.get(path, [""])[0] != identities[path]]
    starts = range(0, len(unread), CHUNK)
    with ThreadPoolExecutor(READING_THREADS) as pool:
        for start in progress(starts, f"digesting {len(unread)} images", unit=f"{CHUNK} images"):
            part = unread[start : start + CHUNK]
            for path, sha256 in zip(part, pool.map(lambda path: _file_sha256(dataset.root / path), part), strict=True):
                known[path] = [identities[path], sha256]
            if (start // CHUNK) % CHUNKS_BETWEEN_WRITES == CHUNKS_BETWEEN_WRITES - 1:
                _remember(store, known)
    if unread:
        _remember(store, known)
    return {path: known[path][1] for path in paths}


def boxes_digest(true_boxes: TrueBoxes) -> str:
    """One sha256 over the boxes of every image, in the order of their paths."""
    digest = hashlib.sha256()
    for path in sorted(true_boxes):
        digest.update(f"{path}\0{true_boxes[path].double().tolist()}\n".encode())
    return digest.hexdigest()


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """What differs between two ``Digest.files``, one line a file by path: ``<path>: changed|missing|new``.

    ``changed`` means other bytes, another label or another split. Empty exactly if the two totals agree.
    """
    differing = sorted(path for path in {*old, *new} if old.get(path) != new.get(path))
    return [
        f"{path}: {'new' if path not in old else 'missing' if path not in new else 'changed'}" for path in differing
    ]


def _remembered(store: Path) -> dict[str, list[str]]:
    if not store.exists():
        return {}
    known: dict[str, list[str]] = json.loads(store.read_text(encoding="utf-8"))
    return known


def _remember(store: Path, known: dict[str, list[str]]) -> None:
    write_text(store, json.dumps(known))


def _file_sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
