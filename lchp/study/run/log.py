"""What a study said, and what went wrong in full: ``log.txt`` in its folder."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from lchp.store.study_folder import StudyFolder


class StudyLog:
    """Says lines to a person and keeps them, with the time, in the study's folder."""

    def __init__(self, folder: Path, echo: Callable[[str], None]) -> None:
        self.file = StudyFolder(folder).log
        self._echo = echo

    def say(self, text: str) -> None:
        """One line or several, for the person and the file."""
        self._echo(text)
        self.note(text)

    def note(self, text: str) -> None:
        """Lines for the file alone."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        with self.file.open("a", encoding="utf-8") as file:
            file.writelines(f"{now} {line}\n" for line in text.splitlines())

    def failure(self, error: BaseException) -> None:
        """An exception with its traceback, for the file; the error's notes say where it is."""
        self.note("".join(traceback.format_exception(error)))
        error.add_note(f"details: {self.file}")
