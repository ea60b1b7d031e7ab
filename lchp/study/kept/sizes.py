"""Bytes on disk, for programs and for people."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def bytes_of(place: Path) -> int:
    """The bytes of a file, or of all files below a folder; of a link those of the link; 0 of what is gone."""
    paths: Iterable[Path] = place.rglob("*") if place.is_dir() and not place.is_symlink() else (place,)
    total = 0
    for path in paths:
        with suppress(OSError):
            if path.is_symlink() or path.is_file():
                total += path.lstat().st_size
    return total


def shown_size(count: int) -> str:
    """Bytes for people.

    >>> shown_size(999), shown_size(34_700_000), shown_size(12_000_000_000)
    ('999 bytes', '34.7 MB', '12.0 GB')
    """
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
