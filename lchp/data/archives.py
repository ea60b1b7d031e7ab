"""Archives, extracted once into the cache folder, without trust in what they hold.

A .zip has a CRC-32 of every file and a .tgz one of the whole: both are read to their checksums, so that a damaged byte
is refused and never becomes a changed image. A plain .tar has checksums of its members' headers alone: damage within a
file of it cannot be seen. What an archive is follows its content, not its name.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import shutil
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NoReturn, cast

from tqdm import tqdm

from lchp.at_work import FIRST, doing, drawing_bar, is_quiet, on_terminal
from lchp.data.once import build_once

SUFFIXES = (".tar", ".tgz", ".tar.gz", ".zip")
LARGEST_EXPANSION = 100
"""An archive of photographs hardly shrinks; one that claims to grow a hundredfold is not a dataset."""
SMALL = 2**27
"""Bytes up to which an archive's growth is not looked at."""
CHUNK = 2**20
LONGEST_ZIP_END = 2**16 + 200
"""Bytes of a zip's last records, a comment among them."""
GZIP, ZIP = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")
CONTRADICTIONS = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)
"""What extracting meets where the names of an archive cannot all be."""


class _Unacceptable(ValueError):
    """The message says in full what is wrong with the archive."""


def is_archive(path: Path) -> bool:
    """Whether ``path`` is named like an archive this module reads."""
    return path.name.lower().endswith(SUFFIXES)


def extracted(path: Path, cache: Path) -> Path:
    """The folder ``cache/extracted/<name>-<key>`` with what the archive holds; the key is its path, length and time.

    Only plain files and folders below that folder are accepted. Raises ValueError naming the archive where it is
    corrupt or none, holds links, devices or paths that leave the folder, or would grow beyond reason or beyond the
    disk.
    """
    status = path.stat()
    identity = f"{path.resolve()}\n{status.st_size}\n{status.st_mtime_ns}"
    key = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:16]
    name = next(
        path.name[: -len(suffix)]
        for suffix in sorted(SUFFIXES, key=len, reverse=True)
        if path.name.lower().endswith(suffix)
    )
    return build_once(cache / "extracted" / f"{name}-{key}", lambda part: _extract(path, part))


def _extract(path: Path, folder: Path) -> None:
    with path.open("rb") as raw:
        extract = _extractor(path, raw.read(tarfile.BLOCKSIZE))
    folder.mkdir()
    try:
        extract(path, folder)
    except _Unacceptable:
        raise
    except Exception as error:  # damaged headers make tarfile and zipfile raise nearly anything
        if isinstance(error, OSError) and error.errno not in (None, *CONTRADICTIONS):
            raise
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: the archive is corrupt ({reason}): fetch it again") from error


def _extractor(path: Path, start: bytes) -> Callable[[Path, Path], None]:
    """What extracts a file that begins with the block ``start``. ValueError where that is no archive."""
    if not start:
        raise ValueError(f"{path} is empty: fetch the archive again")
    if start.startswith(ZIP):
        return _extract_zip
    if start.startswith(GZIP) or _is_tar_header(start):
        return _extract_tar
    if start.lstrip().startswith(b"<"):
        raise ValueError(
            f"{path} is a web page, not an archive: open it to see what its server says, and fetch it again"
        )
    raise ValueError(
        f"{path} is none of the archives that are read ({', '.join(SUFFIXES)}), or its beginning is damaged: "
        "fetch it again, or extract it and give the folder"
    )


def _is_tar_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _extract_tar(path: Path, folder: Path) -> None:
    with path.open("rb") as raw, _bar(path) as bar:
        is_gzip = raw.read(len(GZIP)) == GZIP
        raw.seek(0)
        stream = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if is_gzip else raw
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            grown = 0
            for member in archive:
                if not (member.isfile() or member.isdir()):
                    raise _unsafe(path, member.name, "is neither a file nor a folder")
                _check_name(path, member.name)
                grown += member.size
                _check_growth(path, folder, grown, member.size)
                archive.extract(member, folder, filter="data")
                bar.update(raw.tell() - bar.n)
            _check_end(stream, archive.offset)


def _check_end(stream: IO[bytes], end: int) -> None:
    """Reads the stream from its end mark on. tarfile takes a damaged header for that mark, which is a block of zeros,
    and reads no further: gzip's checksum and a second archive in the same file come behind it.
    """
    stream.seek(end)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends within its members")
    while rest := stream.read(CHUNK):
        if rest.strip(b"\0"):
            raise tarfile.ReadError("something follows its end: two archives in one file?")


def _extract_zip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive, _bar(path) as bar:
        members = archive.infolist()
        if min((member.header_offset for member in members), default=0):
            raise zipfile.BadZipFile("something precedes its first member: two archives in one file?")
        _check_count(cast("IO[bytes]", archive.fp), len(members))
        size = sum(member.file_size for member in members)
        _check_growth(path, folder, size, size)
        _check_members(path, members)
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(path, member.filename, "is neither a file nor a folder")
            _check_name(path, member.filename)
            if member.is_dir() and (member.file_size or member.CRC):
                raise zipfile.BadZipFile(f"the folder {member.filename} has content")
            archive.extract(member, folder)  # to its end, where zipfile compares the CRC
            bar.update(member.compress_size)


def _check_members(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """See that every member can be read, and that every file is the only one of its name."""
    if any(member.flag_bits & 1 for member in members):
        raise _Unacceptable(f"{path}: the archive is encrypted: extract it yourself, and give the folder")
    twice = [
        name
        for name, count in Counter(member.filename for member in members if not member.is_dir()).items()
        if count > 1
    ]
    if twice:
        raise _Unacceptable(
            f"{path}: holds {twice[0]} twice, and does not say which counts: extract it yourself, and give the folder"
        )


def _check_count(stream: IO[bytes], found: int) -> None:
    """The directory of a zip has no checksum: a damaged length in it swallows the members that follow. Its last record
    says how many there are, in 16 bits, which older programs let overflow, or in 64.
    """
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - LONGEST_ZIP_END))
    end = stream.read()
    small, large = end.rfind(b"PK\x05\x06"), end.rfind(b"PK\x06\x06")
    if large < 0:
        promised, found = int.from_bytes(end[small + 10 : small + 12], "little"), found % 2**16
    else:
        promised = int.from_bytes(end[large + 32 : large + 40], "little")
    if promised != found:
        raise zipfile.BadZipFile(f"its directory lists {found} members of {promised}")


def _check_name(path: Path, name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (parts.parts and parts.parts[0].endswith(":")):
        raise _unsafe(path, name, "leaves the folder")


def _check_growth(path: Path, folder: Path, grown: int, coming: int) -> None:
    """``grown`` bytes in all, ``coming`` of them not yet written."""
    if grown > max(SMALL, LARGEST_EXPANSION * path.stat().st_size):
        raise _Unacceptable(
            f"{path}: the archive would grow to more than {LARGEST_EXPANSION} times its length: it is no dataset"
        )
    free = shutil.disk_usage(folder).free
    if coming > free:
        raise _Unacceptable(
            f"{path}: extracting takes {coming:,} bytes, {folder.parent} has {free:,} left: make room, "
            "or extract it elsewhere and give the folder"
        )


def _unsafe(path: Path, name: str, fault: str) -> _Unacceptable:
    return _Unacceptable(
        f"{path}: refused, its member {name!r} {fault}: extract it yourself if you trust it, and give the folder"
    )


@contextmanager
def _bar(path: Path) -> Iterator[tqdm[NoReturn]]:
    """A bar on a terminal; elsewhere it is told what is being done."""
    told, size = f"extracting {path.name}", path.stat().st_size
    drawn = on_terminal() and not is_quiet()
    bar: tqdm[NoReturn] = tqdm(
        total=size, desc=told, unit="B", unit_scale=True, delay=FIRST, leave=False, disable=not drawn
    )
    with bar, drawing_bar() if drawn else doing(f"{told}, {size >> 20:,} MB"):
        yield bar
