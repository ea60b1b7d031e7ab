"""The file system of a URI, by pyarrow or fsspec: what may be asked of it, whatever it is, and what of that is this
machine's own.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20
_OBJECT_STORES = ("s3", "gcs", "abfs")
_PART = re.compile(r".+\.[0-9a-f]{32}")
"""The temporary names of :func:`replacing`."""
_STALE_SECONDS = 86_400.0


class Here(Exception):
    """What this machine's own files have raised while the store was asked, which is not at fault."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


@cache
def opened(uri: str) -> tuple[Any, str]:
    """The file system of a URI, and the path that it has there. Whatever error a library has for one that it cannot
    use.
    """
    from pyarrow import fs  # a study without a shared store does without

    try:
        files, path = fs.FileSystem.from_uri(uri)
    except (ValueError, NotImplementedError) as error:
        # Of what it knows itself, it alone can tell what is wrong.
        if isinstance(error, ValueError) and "Unrecognized filesystem type" not in str(error):
            raise
        import fsspec

        plain, path = fsspec.core.url_to_fs(uri)
        files = fs.PyFileSystem(fs.FSSpecHandler(plain))
    return files, path.rstrip("/")


def is_there(files: Any, path: str) -> bool:
    """Whether there is a file at a path."""
    return bool(files.get_file_info(path).is_file)


def names(files: Any, folder: str) -> list[str]:
    """The names of what lies in a folder; none where there is no such folder."""
    from pyarrow.fs import FileSelector

    return [info.base_name for info in files.get_file_info(FileSelector(folder, allow_not_found=True))]


def read(files: Any, path: str) -> str | None:
    """The text of a small file; None where there is none."""
    if not is_there(files, path):
        return None
    with files.open_input_stream(path) as stream:
        return bytes(stream.read()).decode(errors="replace")


def write(files: Any, path: str, text: str) -> None:
    """Write a small file, by way of :func:`replacing`."""
    with replacing(files, path) as stream:
        stream.write(text.encode())


@contextmanager
def replacing(files: Any, path: str) -> Iterator[Any]:
    """A stream to a file that is there when the block ends, in one piece: an object store does so by itself, a file
    system by another name.
    """
    part = path if files.type_name in _OBJECT_STORES else f"{path}.{uuid.uuid4().hex}"
    try:
        with files.open_output_stream(part) as stream:
            yield stream
        if part != path:
            files.move(part, path)
    except BaseException:
        if part != path:
            with suppress(Exception):  # what failed is told, not this
                remove(files, part)
        raise


def sweep(files: Any, folder: str) -> None:
    """Remove what processes that were killed a day ago or before have left of :func:`replacing` files of a folder."""
    from pyarrow.fs import FileSelector

    if files.type_name in _OBJECT_STORES:
        return
    for info in files.get_file_info(FileSelector(folder, allow_not_found=True)):
        if _PART.fullmatch(info.base_name) and info.mtime_ns and time.time() - info.mtime_ns / 1e9 > _STALE_SECONDS:
            files.delete_file(info.path)


@contextmanager
def here(path: Path) -> Iterator[None]:
    """What goes wrong in the block is no fault of the store: it is the file ``path`` of this machine."""
    try:
        yield
    except OSError as error:
        raise Here(OSError(error.errno, error.strerror or str(error), str(path))) from error


def blocks(path: Path) -> Iterator[bytes]:
    """The content of a file of this machine, in parts. Here where it cannot be read."""
    with here(path), path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def keep(stream: Any, path: Path) -> None:
    """Write what a stream of the store gives into a file of this machine. Here where that cannot be written."""
    with here(path):
        file = path.open("wb")
    try:
        while block := stream.read(_BLOCK):
            with here(path):
                file.write(block)
        with here(path):
            file.flush()
    finally:
        with suppress(OSError):  # all is written, or why it is not is told
            file.close()


def remove(files: Any, path: str) -> None:
    """Remove a file, if it is there."""
    if is_there(files, path):
        files.delete_file(path)
