"""Files that another process may read are written whole or not at all; text that people give is read as UTF-8.

It lies with the data because every floor above writes files.
"""

from __future__ import annotations

import codecs
import errno
import fcntl
import json
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TextIO, TypeVar

from lchp.data.locks import hold, is_held, machine

Read = TypeVar("Read")

_FULL = (errno.ENOSPC, errno.EDQUOT)
DRAWN = b"drawn by lchp predict"
"""The comment in a JPEG that says so: another picture is somebody's own."""
_PART = re.compile(r"\..+\.\d+(\.[^.]*)?")
"""The temporary names of :func:`replacing`."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


def set_aside(path: Path) -> Path:
    """Renames a damaged file to ``<name>.damaged-<N>`` beside it, and gives that: what is made again takes its place,
    and nothing is lost.
    """
    aside = unused_aside(path)
    path.rename(aside)
    return aside


def unused_aside(path: Path) -> Path:
    """The first ``<name>.damaged-<N>`` beside ``path`` that is not there."""
    places = (path.with_name(f"{path.name}.damaged-{number}") for number in count(1))
    return next(place for place in places if not place.exists())


def require_replaceable(path: Path) -> None:
    """See that a file may take the place of what is at ``path``: a plain file, or nothing yet.

    Raises:
        OSError: a folder, a device or a pipe is there; as root a file would take the place of ``/dev/null``, too.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "Is no plain file", str(path))


def is_drawn(path: Path) -> bool:
    """Whether a file is a picture with :data:`DRAWN`, which stands at its head."""
    with path.open("rb") as file:
        return DRAWN in file.read(1 << 10)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, of the same ending; it takes its place when the block ends without an error.

    The folder of ``path`` is made if it is not there.
    What an error or an interruption leaves of it is removed, what a kill leaves is taken up by who writes to ``path``
    next, and a file that was at ``path`` stays whole.

    Raises:
        OSError: as :func:`require_replaceable`.
    """
    require_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = None
    try:
        part, held = _held_part(path)
        with held:
            try:
                yield part
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        # Neither a full disk nor the temporary name tells a person which file it is.
        if error.filename == str(part) or (error.filename is None and error.errno in _FULL):
            error.filename = str(path)
        raise


def _held_part(path: Path) -> tuple[Path, TextIO]:
    """An empty temporary file beside ``path``, and what holds it: one that a killed process has left is taken up, so
    that nobody need look for it, until the machine is started again. It has a number of this machine
    (:func:`lchp.data.locks.machine`), since another's locks may not be honoured here.
    """
    for number in count(zlib.crc32(machine().encode())):
        part = path.with_name(f".{path.stem}.{number}{path.suffix}")
        try:
            held = hold(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if isinstance(error, BlockingIOError) or (isinstance(error, PermissionError) and part.exists()):
                continue  # somebody else writes to the same path now, or has left another user's
            if error.errno not in _NO_LOCKS:
                error.filename = str(path)
                raise
            part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
            held = part.open("w")
        held.truncate(0)
        return part, held
    raise AssertionError("numbers end")


def left_parts(folder: Path) -> list[Path]:
    """The temporary files of :func:`replacing` in a folder whose process is gone; where the locks of another machine
    are not honoured, its own look so, too: who removes them holds the folder's lock.
    """
    return [path for path in folder.glob(".*") if _PART.fullmatch(path.name) and not is_held(path)]


def read_or_set_aside(path: Path, read: Callable[[], Read], say: Callable[[str], None]) -> Read | None:
    """What ``read`` makes of a file that is written again by whoever goes on; None where there is none, or where
    ``read`` raises ValueError: a damaged one is told of and set aside.
    """
    if not path.exists():
        return None
    try:
        return read()
    except ValueError as error:
        say(f"{error}; it is set aside as {set_aside(path).name}")
        return None


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` in UTF-8, with the line ends it has, by way of :func:`replacing`."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file as :func:`as_json` gives it, by way of :func:`replacing`."""
    write_text(path, as_json(value))


def as_json(value: Any) -> str:
    """The text of a JSON file, floats with all their digits. ValueError for a number that is not finite."""
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def read_json(path: Path, remedy: str = "restore it, or run the study again") -> Any:
    """Reads a JSON file.

    Raises:
        ValueError: it is missing, cut or no JSON; names it and ``remedy``.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is cut or damaged, it is no JSON ({error}): {remedy}") from error


def read_utf8(path: Path) -> str:
    """The text of a file that people or a dataset's archive gave.

    Raises:
        ValueError: it is not UTF-8; names file, line and remedy.
    """
    data = path.read_bytes()
    if data.startswith(b"PK\x03\x04"):
        raise ValueError(
            f"{path}: is an archive, or a workbook of a spreadsheet, and no text: save what it holds in UTF-8"
        )
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise ValueError(f"{path}, line 1: is text in UTF-32: save the file in UTF-8")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:2]:
        raise ValueError(f"{path}, line 1: is text in UTF-16: save the file in UTF-8")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: the byte 0x{data[error.start]:02x} is not UTF-8: save the file in UTF-8, "
            "or restore it from the dataset's archive"
        ) from error


def unwritable(folder: Path) -> str | None:
    """Why nothing can be written into ``folder``, which is made where it is missing; None where something can.

    Something is written indeed: a full disk and a spent quota refuse nothing before.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 16))
    except OSError as error:
        return error.strerror or str(error)
    return None
