"""What the documents tell people to write: studies, command lines, Python."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MADE = {"commands.md", "keys.md"}
PAGES = [ROOT / "README.md", *(page for page in sorted(ROOT.glob("docs/**/*.md")) if page.name not in MADE)]
"""Every document that people write, README first."""


@dataclass(frozen=True)
class Line:
    """A command line of a document: its words and, where its output goes into a file, the name of that."""

    page: str
    words: tuple[str, ...]
    piped: bool = False
    into: str | None = None


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of code in a document that are marked as of a language; '' for those that are not marked."""
    text = page.read_text(encoding="utf-8")
    return [code for marked, code in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.M) if marked == language]


def section(page: Path, title: str) -> list[tuple[str, str]]:
    """The blocks of code below a heading of a document, in their order: how each is marked, and the code."""
    pages = page.read_text(encoding="utf-8")
    (text,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", pages, re.DOTALL | re.MULTILINE)
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def lines(program: str) -> list[Line]:
    """Every command line of a program in the documents, in their order."""
    found = []
    for page in PAGES:
        for line in "".join(blocks(page, "")).splitlines():
            for number, part in enumerate(_parts(line)):
                if part[0] == program:
                    into = part[part.index(">") + 1] if ">" in part else None
                    words = part[1 : part.index(">")] if into else part[1:]
                    found.append(Line(page.name, tuple(words), piped=number > 0, into=into))
    return found


def _parts(line: str) -> list[list[str]]:
    """The commands of a pipe, in words; none of a line that is no shell's."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return []
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part]
