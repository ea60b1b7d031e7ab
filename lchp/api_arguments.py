"""What people give from Python, seen to be what is asked for: as the options of the command line are.

Each raises Refusal, which names the argument, what it was given and what would be right.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lchp.errors import Refusal

DEVICES = ("auto", "cpu", "cuda")
"""Where something may be computed, for options of commands, too; so with the next."""
MOST_WORKERS = 1024
"""Threads that decode images."""
_SHOWN = 80


def named(value: Any) -> str:
    """A value in a message: its type, and how it begins."""
    return f"{type(value).__name__} {' '.join(repr(value).split())[:_SHOWN]}"


def place(name: str, value: Any) -> Path:
    """A path."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise Refusal(f"{name}: {named(value)} is no path: give one")
    return Path(text)


def device(value: Any) -> str:
    """One of :data:`DEVICES`."""
    if value not in DEVICES:
        raise Refusal(f"device: {named(value)} is none of {', '.join(DEVICES)}: give one of these")
    return str(value)


def workers(value: Any) -> int:
    """A number of threads."""
    if type(value) is not int or not 0 <= value <= MOST_WORKERS:
        raise Refusal(f"workers: {named(value)} is no whole number from 0 to {MOST_WORKERS}: give one")
    return value


def uri(name: str, value: Any) -> str | None:
    """A URI, or None."""
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise Refusal(f"{name}: {named(value)} is no URI: give one, or leave it out")
    return value


def require_speaker(say: Any) -> None:
    """See that ``say`` can be told something."""
    if not callable(say):
        raise Refusal(f"say: {named(say)} cannot be called: give print, or any function of a line")
