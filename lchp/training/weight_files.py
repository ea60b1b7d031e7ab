"""Which weight files a trial starts from."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from lchp.training.config import TrialConfig, WeightsFile


def given_files(config: TrialConfig) -> dict[str, WeightsFile | None]:
    """Every file that a trial is given beside its dataset, by the role under which its digest identifies the trial;
    None where a role has no file of the user's.
    """
    # A role that version 0.1 did not have must be absent where it has no file: results of before have no digest of it.
    roles = {"classifier": config.weights.classifier, "regressor": config.weights.regressor}
    return {role: source if isinstance(source, WeightsFile) else None for role, source in roles.items()}


def digest_of(source: WeightsFile | None, role: str) -> str | None:
    """The SHA-256 of a weight file; None of none. A file that has not changed is read once in a process.

    Raises:
        ValueError: the file is missing, or hashes to something else than ``weights.<role>.sha256``.
    """
    if source is None:
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
    """The SHA-256 of a file's bytes, in 64 lower-case hexadecimal digits. OSError if it cannot be read."""
    stat = path.stat()
    return _sha256_of(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))


@lru_cache(maxsize=64)
def _sha256_of(path: Path, state: tuple[int, ...]) -> str:
    """``state`` changes whenever the file does."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
