"""Archives, extracted once into the cache folder, without trust in what they hold."""

from __future__ import annotations

import hashlib
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, NoReturn, cast

from tqdm import tqdm

from lchp.data.once import build_once

SUFFIXES = (".tar", ".tgz", ".tar.gz", ".zip")
LARGEST_EXPANSION = 100
"""An archive of photographs hardly shrinks; one that claims to grow a hundredfold is not a dataset."""
SMALL = 2**27
"""Bytes up to which an archive's growth is not looked at."""


def is_archive(path: Path) -> bool:
    """Whether ``path`` is named like an archive this module reads."""
    return path.name.lower().endswith(SUFFIXES)


def extracted(path: Path, cache: Path) -> Path:
    """The folder ``cache/extracted/<name>-<key>`` with what the archive holds; the key is its path, length and time.

    Only plain files and folders below that folder are accepted. Raises ValueError naming the archive where it is
    corrupt, holds links, devices or paths that leave the folder, or would grow beyond reason or beyond the disk.
    """
    status = path.stat()
    key = hashlib.sha256(f"{path.resolve()}\n{status.st_size}\n{status.st_mtime_ns}".encode()).hexdigest()[:16]
    name = next(
        path.name[: -len(suffix)]
        for suffix in sorted(SUFFIXES, key=len, reverse=True)
        if path.name.lower().endswith(suffix)
    )
    return build_once(cache / "extracted" / f"{name}-{key}", lambda part: _extract(path, part))


def _extract(path: Path, folder: Path) -> None:
    folder.mkdir()
    try:
        if path.name.lower().endswith(".zip"):
            _extract_zip(path, folder)
        else:
            _extract_tar(path, folder)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: the archive is corrupt ({reason}): fetch it again") from error


def _extract_tar(path: Path, folder: Path) -> None:
    with path.open("rb") as raw, _bar(path) as bar, tarfile.open(fileobj=raw) as archive:
        grown = 0
        for member in archive:
            if not (member.isfile() or member.isdir()):
                raise _unsafe(path, member.name, "is neither a file nor a folder")
            _check_name(path, member.name)
            grown += member.size
            _check_growth(path, folder, grown, member.size)
            archive.extract(member, folder, filter="data")
            bar.update(raw.tell() - bar.n)
        _check_end(archive)


def _check_end(archive: tarfile.TarFile) -> None:
    """tarfile takes a damaged header for the end of the archive: only a block of zeros is one."""
    stream = cast("IO[bytes]", archive.fileobj)
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends within its members")


def _extract_zip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive, _bar(path) as bar:
        members = archive.infolist()
        _check_growth(
            path, folder, sum(member.file_size for member in members), sum(member.file_size for member in members)
        )
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(path, member.filename, "is neither a file nor a folder")
            _check_name(path, member.filename)
            archive.extract(member, folder)
            bar.update(member.compress_size)


def _check_name(path: Path, name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (parts.parts and parts.parts[0].endswith(":")):
        raise _unsafe(path, name, "leaves the folder")


def _check_growth(path: Path, folder: Path, grown: int, coming: int) -> None:
    """``grown`` bytes in all, ``coming`` of them not yet written."""
    if grown > max(SMALL, LARGEST_EXPANSION * path.stat().st_size):
        raise ValueError(
            f"{path}: the archive would grow to more than {LARGEST_EXPANSION} times its length: it is no dataset"
        )
    free = shutil.disk_usage(folder).free
    if coming > free:
        raise ValueError(
            f"{path}: extracting takes {coming:,} bytes, {folder.parent} has {free:,} left: make room, "
            "or extract it elsewhere and give the folder"
        )


def _unsafe(path: Path, name: str, fault: str) -> ValueError:
    return ValueError(
        f"{path}: refused, its member {name!r} {fault}: extract it yourself if you trust it, and give the folder"
    )


def _bar(path: Path) -> tqdm[NoReturn]:
    return tqdm(
        total=path.stat().st_size, desc=f"extracting {path.name}", unit="B", unit_scale=True, delay=2, leave=False
    )
