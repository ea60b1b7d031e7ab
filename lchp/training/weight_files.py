"""Which weight files a trial starts from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lchp.training.config import WeightsFile


def digest_of(source: str | WeightsFile, role: str) -> str | None:
    """The SHA-256 of a weight file; None of weights that lie in no file of the user's.

    Raises:
        ValueError: the file is missing, or hashes to something else than ``weights.<role>.sha256``.
    """
    if not isinstance(source, WeightsFile):
        return None
    where = f"weights.{role}.file {source.file}"
    try:
        if source.file.exists() and not source.file.is_file():
            what = "a folder" if source.file.is_dir() else "no regular file"
            raise ValueError(f"{where} is {what}: name a file that holds a state dict")
        found = sha256_of(source.file)
    except FileNotFoundError as error:
        raise ValueError(
            f"{where} does not exist: correct the path, or set weights.{role} to imagenet or none"
        ) from error
    except OSError as error:
        raise ValueError(f"{where} cannot be read ({error.strerror}): correct the path or its permissions") from error
    if source.sha256 not in (None, found):
        raise ValueError(
            f"{where} hashes to {found}, not to weights.{role}.sha256 {source.sha256}: "
            "fetch the file again, or correct the hash"
        )
    return found


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in 64 lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
