"""Which files a dataset's images are, told without reading them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from lchp.data.once import remedy
from lchp.data.records import ImageRecord


def identity_of(records: Sequence[ImageRecord], identities: Mapping[str, str]) -> str:
    """One digest over the paths of ``records`` and what :func:`file_identity` says of each, in their order."""
    lines = (f"{record.path}\0{identities[record.path]}\n" for record in records)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def file_identity(file: Path) -> str:
    """:func:`state_of` an image's file. ValueError if it is missing."""
    try:
        return state_of(file)
    except OSError as error:
        raise unreadable(file, error) from error


def state_of(file: Path | str) -> str:
    """Length and times of a file, which tell without reading it whether it may have changed. OSError if missing."""
    stat = os.stat(file)  # noqa: PTH116 - called a million times, and Path.stat takes twice as long
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def unreadable(file: Path, error: OSError) -> ValueError:
    """What to say of an image that is missing or may not be read."""
    return ValueError(f"{file}: the image cannot be read ({error.strerror}): {remedy(file)}")
