"""The images that stages were trained on: a list for each dataset, once in a store, ``<store>/datasets/<digest>.csv``,
and the names of its classes beside it.

Of ImageNet it has 150 MB; the folder of a stage holds the digest alone. Before version 0.3 each held a list.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from lchp.data.digest import Digest, changed, total_of
from lchp.data.files import read_json, replacing, write_json
from lchp.store.checks import Damaged, read_text, rows_of
from lchp.store.folder import StageFolder

_COLUMNS = _PATH, _SHA256 = ("path", "sha256")


def list_file(store: Path, total: str) -> Path:
    """Where a store has the list of the dataset with this ``Digest.total``."""
    return store / "datasets" / f"{total}.csv"


def keep_list(store: Path, digest: Digest) -> Path:
    """Write the list of a dataset into a store, unless it is there; gives its file. One that this process has
    seen to be whole is looked at again where it has changed.
    """
    file = list_file(store, digest.total)
    if file.is_file() and (_state(file) == _seen.get(file) or _holds(file, digest)):
        _seen[file] = _state(file)
        return file
    with replacing(file) as part, part.open("wb") as opened:
        opened.writelines(_text(digest))
    return file


_seen: dict[Path, tuple[int, int]] = {}
"""The lists that this process has seen to be whole, as they were then."""


def _state(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _holds(file: Path, digest: Digest) -> bool:
    with file.open("rb") as opened:
        return all(opened.read(len(part)) == part for part in _text(digest)) and not opened.read(1)


def _text(digest: Digest) -> Iterator[bytes]:
    """The list, in parts: of ImageNet it is 150 MB."""
    lines = iter(digest.lines)
    head: list[tuple[str, ...]] = [_COLUMNS]
    while rows := head or list(islice(lines, _ROWS)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        yield text.getvalue().encode()
        head = []


_ROWS = 10_000


def read_list(file: Path) -> dict[str, str] | None:
    """``Digest.files`` as :func:`keep_list` wrote them; None where the file is gone, or not what its name says."""
    try:
        files = {row[_PATH]: row[_SHA256] for row in rows_of(file, read_text(file))}
    except (Damaged, KeyError):
        return None
    return files if total_of(files) == file.stem else None


def dataset_of(stage: StageFolder) -> str:
    """The ``Digest.total`` of the images that a stage was trained on. Damaged where its files do not say."""
    own = stage.own_list()
    return total_of(own) if own is not None else stage.dataset_digest()


def _classes_file(store: Path, total: str) -> Path:
    return store / "datasets" / f"{total}.classes.json"


def keep_classes(store: Path, total: str, classes: Sequence[str]) -> None:
    """Write the names of a dataset's classes, by index, into a store, unless they are there. The digest does not depend
    on them: those that were read last count.
    """
    if read_classes(store, total) != tuple(classes):
        write_json(_classes_file(store, total), list(classes))


def read_classes(store: Path, total: str) -> tuple[str, ...] | None:
    """The names of the classes of the dataset with this ``Digest.total``; None where they are not kept, or damaged."""
    try:
        names = read_json(_classes_file(store, total))
    except ValueError:
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def changed_images(stage: StageFolder, digest: Digest, listed: Callable[[str], Mapping[str, str] | None]) -> list[str]:
    """What differs between the images that a stage was trained on and those of ``digest``, as
    :func:`lchp.data.digest.changed`; one line without names where no list tells.

    ``listed`` gives the list of a ``Digest.total``, or None where there is none any more.
    """
    own, before = stage.own_list(), dataset_of(stage)
    if before == digest.total:
        return []
    files = own if own is not None else listed(before)
    if files is None:
        return [f"images changed (sha256 {before} -> {digest.total}); which is not known: their list is gone"]
    return changed(files, digest.files)
