"""How a command speaks: `-q`, `-v` and `--log FILE`, which every command takes.

What is asked for (tables, JSON, predictions) is printed by the commands themselves; what they say while they work goes
by :func:`say`.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from lchp.at_work import fresh_signs, keep_quiet, speaking


@dataclass
class Voice:
    """What the options of this command line say."""

    quiet: bool = False
    verbose: bool = False
    log: Path | None = None
    answers: bool = False
    """Whether standard output is for the answer alone: what is said goes to standard error."""


_voice = Voice()


def fresh_voice() -> None:
    """Begin with a command line of which nothing is known yet."""
    global _voice
    _voice = Voice()
    fresh_signs()


def answer_alone() -> None:
    """Keep standard output for the answer, which a program reads."""
    _voice.answers = True


def is_verbose() -> bool:
    """Whether more is told of what goes wrong."""
    return _voice.verbose


def say(text: str) -> None:
    """Tell a person what is being done; nothing with `-q`, with the time with `-v`, and in any case in the log."""
    note(text)
    if _voice.quiet:
        return
    if _voice.verbose:
        text = "\n".join(f"{_now()} {line}" for line in text.splitlines())
    with speaking():
        click.echo(text, err=_voice.answers)


def waiting(text: str) -> None:
    """Tell a person on standard error what takes some seconds before there is an answer; nothing with `-q`."""
    note(text)
    if not _voice.quiet:
        with speaking():
            click.echo(f"lchp: {text} (a few seconds)", err=True)


def warn(text: str) -> None:
    """Tell a person on standard error what should be known whatever the options are."""
    note(text)
    with speaking():
        click.echo(f"lchp: {text}", err=True)


def note(text: str) -> None:
    """Lines for the log alone, where one is asked for. One that cannot be written any more is told of, and ends there:
    what the command does goes on.
    """
    log = _voice.log
    if log is None:
        return
    try:
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(f"{_now()} {line}\n" for line in text.splitlines())
    except OSError as error:
        _voice.log = None
        with speaking():
            click.echo(f"lchp: --log {log}: cannot be written any more ({error.strerror}): it ends here", err=True)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def options() -> list[click.Option]:
    """The options, as every command shows them."""
    return [
        click.Option(
            ["-q", "--quiet"], is_flag=True, expose_value=False, callback=_quiet,
            help="Say nothing but results and errors.",
        ),
        click.Option(
            ["-v", "--verbose"], is_flag=True, expose_value=False, callback=_verbose,
            help="Say the time with every line, and where an error comes from.",
        ),
        click.Option(
            ["--log"], metavar="FILE", expose_value=False, callback=_log,
            help="Also write what is said into FILE, with the time; it is added to.",
        ),
    ]  # fmt: skip


def _quiet(_: click.Context, __: click.Parameter, value: bool) -> None:
    _voice.quiet = _voice.quiet or value
    if _voice.quiet:
        keep_quiet()


def _verbose(_: click.Context, __: click.Parameter, value: bool) -> None:
    _voice.verbose = _voice.verbose or value


_NO_LOG = (".csv", ".json", ".yaml", ".yml")


def _is_binary(file: Path) -> bool:
    """Whether a file is there that is no text, a database for one."""
    if not file.is_file() or not os.access(file, os.R_OK):
        return False
    with file.open("rb") as opened:
        return b"\0" in opened.read(1 << 12)


def _log(_: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is None:
        return
    file = Path(value).absolute()
    fault = None
    if not value.strip():
        fault = "is empty: give one, or leave the option out"
    elif file.is_dir() or (file.exists() and not file.is_file()):
        fault = f"{file} is no plain file: name one"
    elif not os.access(file if file.exists() else file.parent, os.W_OK):
        reason = os.strerror(errno.EACCES if file.parent.is_dir() else errno.ENOENT)
        fault = f"{file} cannot be written ({reason}): name another"
    elif (file.exists() and file.suffix.lower() in _NO_LOG) or _is_binary(file):
        endings = f"{', '.join(_NO_LOG[:-1])} or {_NO_LOG[-1]}"
        fault = f"{file} is no log, to whose end lines might be written ({endings}, or no text): name another"
    if fault is not None:
        raise click.BadParameter(fault, param=parameter)
    _voice.log = file
