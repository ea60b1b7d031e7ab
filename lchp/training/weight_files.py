"""Which files a trial is given beside its dataset: weights to start from, and boxes of one's own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lchp.training.config import TrialConfig
from lchp.training.network_config import WeightsFile


@dataclass(frozen=True)
class GivenFile:
    """A file that a configuration names."""

    key: str
    """The dotted key that names it."""
    file: Path
    sha256: str | None
    """What it must hash to, where the configuration says so."""
    otherwise: str
    """What else may be done where it is not there."""


BOX_WEIGHTS = "pseudo_boxes.weights"
"""The key of a frozen network's weights, which without any gives boxes of nothing."""


def given_weights(source: Any, key: str) -> GivenFile | None:
    """The weight file of ``source``, the value below ``key``; None of weights that lie in no file of the user's."""
    if not isinstance(source, WeightsFile):
        return None
    words = "pretrained" if key == BOX_WEIGHTS else "imagenet or none"
    return GivenFile(f"{key}.file", source.file, source.sha256, f"set {key} to {words}")


def given_files(config: TrialConfig) -> dict[str, GivenFile | None]:
    """Every file that a trial is given beside its dataset, by the role under which its digest identifies the trial;
    None where a role has no file of the user's.
    """
    files = {
        role: given_weights(getattr(config.weights, role), f"weights.{role}") for role in ("classifier", "regressor")
    }
    # A role that version 0.1 did not have is absent where it has no file: results of before have no digest of it.
    options = config.pseudo_boxes
    box_weights = given_weights(options.weights, BOX_WEIGHTS)
    if options.frozen and box_weights is not None:
        files["pseudo_box_weights"] = box_weights
    if options.source == "file" and options.file is not None:
        files["pseudo_boxes"] = GivenFile("pseudo_boxes.file", options.file, None, "choose another pseudo_boxes.source")
    return files


def digest_of(given: GivenFile | None) -> str | None:
    """The SHA-256 of a given file; None of none. A file that has not changed is read once in a process.

    Raises:
        ValueError: the file is missing, or hashes to something else than its configuration says.
    """
    if given is None:
        return None
    where = f"{given.key} {given.file}"
    try:
        if given.file.exists() and not given.file.is_file():
            what = "a folder" if given.file.is_dir() else "no regular file"
            raise ValueError(f"{where} is {what}: name a file")
        found = sha256_of(given.file)
    except FileNotFoundError as error:
        raise ValueError(f"{where} does not exist: correct the path, or {given.otherwise}") from error
    except OSError as error:
        raise ValueError(f"{where} cannot be read ({error.strerror}): correct the path or its permissions") from error
    if given.sha256 not in (None, found):
        raise ValueError(
            f"{where} hashes to {found}, not to {given.key.removesuffix('file')}sha256 {given.sha256}: "
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
