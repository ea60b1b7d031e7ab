"""Which files a dataset's images are, told without reading them."""

from __future__ import annotations

import hashlib
import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lchp.data.once import remedy

if TYPE_CHECKING:
    from lchp.data.columns import Ints
    from lchp.data.records import Records

State = tuple[int, int, int]
"""Length, time of modification and time of change of a file, in bytes and ns."""

_CHUNK = 2**12


def identity_of(records: Records, states: Ints) -> str:
    """One digest over the paths of ``records`` and the states (n, 3) of their files, in their order."""
    digest, paths = hashlib.sha256(), iter(records.paths)
    for start in range(0, len(records), _CHUNK):
        part = states[start : start + _CHUNK].tolist()
        lines = [f"{next(paths)}\0{size} {modified} {changed}\n" for size, modified, changed in part]
        digest.update("".join(lines).encode())
    return digest.hexdigest()


def states_of(root: Path, records: Records) -> Ints:
    """:func:`state_of` the file of every image, (n, 3). ValueError if one is missing."""
    states = np.empty((len(records), 3), np.int64)
    prefix, paths = f"{root}/", iter(records.paths)
    for start in range(0, len(records), _CHUNK):
        found = []
        for path in islice(paths, _CHUNK):
            try:
                found.append(state_of(prefix + path))
            except OSError as error:
                raise unreadable(root / path, error) from error
        states[start : start + len(found)] = found
    return states


def state_of(file: str) -> State:
    """What tells without reading a file whether it may have changed. OSError if missing."""
    stat = os.stat(file)  # noqa: PTH116 - called a million times, and Path.stat takes twice as long
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def unreadable(file: Path, error: OSError) -> ValueError:
    """What to say of an image that is missing or may not be read."""
    return ValueError(f"{file}: the image cannot be read ({error.strerror}): {remedy(file)}")
