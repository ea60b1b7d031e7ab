"""Folders that the user names, tried before anything starts."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lchp.study.source import Refusal


def require_writable(folder: Path, option: str) -> None:
    """Make ``folder`` where it is missing and write into it, once, for trial.

    Raises:
        Refusal: that cannot be done; names the option, the folder and what the system says.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise Refusal(
            f"{option} {folder}: is no folder that can be written ({error.strerror or error}): "
            f"give another with {option} DIR"
        ) from error
