"""Whether a file is what was written, and what to say of one that is not."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Damaged(ValueError):
    """A file is missing, cut or not what was written. The message names it and the remedy, ``fault`` file and fault
    alone.
    """

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"{path} {fault}: run the study again, which makes it again")
        self.fault = f"{path.name} {fault}"


def described(path: Path) -> dict[str, Any]:
    """What a manifest says of a file: ``bytes`` and ``sha256``."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def check_listed(path: Path, listed: Mapping[str, Any], digest: bool) -> None:
    """See that a file is the one that a manifest lists, by its size and, where asked, its digest.

    Raises:
        Damaged: it is not.
    """
    try:
        size = path.stat().st_size
        if size != listed["bytes"]:
            raise Damaged(path, f"has {size} bytes of {listed['bytes']}")
        if digest and described(path) != listed:
            raise Damaged(path, "is not what was written (its SHA-256 differs)")
    except FileNotFoundError as error:
        raise Damaged(path, "is missing") from error
    except OSError as error:
        raise Damaged(path, f"cannot be read ({error.strerror})") from error


def read_text(path: Path) -> str:
    """The text of a file. Damaged if it cannot be read."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged(path, "cannot be read (it is not UTF-8)") from error


def read_bytes(path: Path) -> bytes:
    """What a file holds. Damaged if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Damaged(path, "cannot be read (it is missing)") from error
    except OSError as error:
        raise Damaged(path, f"cannot be read ({error.strerror})") from error


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Damaged if the file holds anything else."""
    value = _json(path)
    if not isinstance(value, dict):
        raise Damaged(path, "cannot be read (it holds no object)")
    return value


def read_objects(path: Path, keys: frozenset[str]) -> list[dict[str, Any]]:
    """The list of objects with ``keys`` in a JSON file. Damaged if the file holds anything else, or an empty list."""
    value = _json(path)
    if not isinstance(value, list) or not value:
        raise Damaged(path, "cannot be read (it holds no list)")
    if not all(isinstance(item, dict) and keys <= item.keys() for item in value):
        raise Damaged(path, f"cannot be read (an entry lacks one of {', '.join(sorted(keys))})")
    return value


def _json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise Damaged(path, f"cannot be read ({error})") from error


def rows_of(path: Path, text: str) -> list[dict[str, str]]:
    """The rows of a CSV file's text under its header. Damaged if it is cut."""
    try:
        head, *rows = csv.reader(io.StringIO(text), strict=True)
    except (ValueError, csv.Error) as error:
        raise Damaged(path, "cannot be read (it is no table)") from error
    uneven = next((number for number, row in enumerate(rows, 2) if len(row) != len(head)), None)
    if uneven is not None or not text.endswith("\n"):
        raise Damaged(path, f"is cut or changed (row {uneven or len(rows) + 1})")
    return [dict(zip(head, row, strict=True)) for row in rows]


def check_picture(path: Path) -> None:
    """See that a PNG file has its beginning and its end. Damaged if not."""
    data = path.read_bytes()
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or not data.endswith(b"IEND\xaeB`\x82"):
        raise Damaged(path, "is cut or no picture")
