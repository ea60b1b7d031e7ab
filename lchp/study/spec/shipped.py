"""The studies that come with the package, for people who look for one to begin with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lchp.shipped import SCHEMA, SCHEMA_LINE, STUDIES, study_names
from lchp.study.spec.source import read, text_of


def shipped_studies() -> dict[str, dict[str, Any]]:
    """Name to ``file``, ``question``, ``preset`` and, of its head, ``cost``."""
    found = {}
    for name in study_names():
        file = STUDIES / f"{name}.yaml"
        values = read(file).values
        found[name] = {
            "file": str(file),
            "question": str(values.get("question", "")),
            "preset": values.get("preset"),
            "cost": _of_head("Cost", text_of(file)),
        }
    return found


def _of_head(word: str, text: str) -> str:
    """What the comment at the head of a study says under ``word``, on one line."""
    said = re.search(rf"^# {word}:(.*(?:\n#  .*)*)", text, re.MULTILINE)
    return " ".join(said[1].replace("\n#", " ").split()) if said else ""


def shown_study(file: Path) -> str:
    """The text of a study's file; where it comes with the package, its head names the schema by its whole path.

    Raises:
        Refusal: it cannot be read, or is no YAML.
    """
    read(file)
    text = text_of(file)
    own = f"{SCHEMA_LINE}{SCHEMA.name}\n"
    return f"{SCHEMA_LINE}{SCHEMA}\n{text.removeprefix(own)}" if text.startswith(own) else text
