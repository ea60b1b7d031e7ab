"""The process of a command: its standard streams, the signals that end it, and its exit code.

Exit codes: 0 done, 1 something failed while running, 2 refused before anything started, 130 stopped by Ctrl-C (143 by
SIGTERM, 129 by SIGHUP), 141 the reader of the output went away.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click

from lchp.at_work import reader_is_gone, speaking, terminal_is_gone, watched
from lchp.cli_voice import fresh_voice, is_verbose, note, warn
from lchp.errors import answer
from lchp.study.run.stopping import stoppable


def answered(command: Callable[[], object]) -> int:
    """Run a command and give its exit code; every failure is one message on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that lacks a letter shows its number instead of ending the command.
            stream.reconfigure(errors="backslashreplace")
    fresh_voice()
    try:
        with stoppable():
            code = command()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        with speaking():
            error.show()
        return 2
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        return _failed(error)
    return code if isinstance(code, int) else 0


def _failed(error: BaseException) -> int:
    """Say what ended a command; gives the exit code."""
    if isinstance(error, KeyboardInterrupt):
        note("stopped")
        with speaking():
            click.echo("stopped: the same command continues", err=True)
        return int(getattr(error, "exit_code", 130))
    if reader_is_gone(error):
        return 141
    text, code = answer(error)
    warn(text)
    if is_verbose():
        with speaking():
            click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    return code


class _ToldOrNot(io.FileIO):
    """Standard error: what it does not take, on a full disk for one, nobody is told, and nothing ends by it."""

    def write(self, data: Any, /) -> int:
        """What was written of ``data``; where nothing can be, as if all of it were."""
        size = memoryview(data).nbytes
        try:
            return super().write(data) or size
        except OSError:
            return size


def leave(command: Callable[[], int]) -> None:
    """Run a command that gives its exit code, and end the process with that."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # A standard stream that is closed (`>&-`) would give its number to the next file that is opened.
            os.open(os.devnull, os.O_RDWR)
    told = io.BufferedWriter(_ToldOrNot(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(told, "utf-8" if sys.stderr is None else sys.stderr.encoding, line_buffering=True)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)  # an input that is closed is one that holds nothing
    # Pillow warns of pictures of 90 megapixels (DecompressionBombWarning, told here by its words, as nothing is to be
    # imported for it); of twice as many it makes an error, which names the file.
    warnings.filterwarnings("ignore", r"Image size \(\d+ pixels\) exceeds limit", RuntimeWarning)
    with watched():
        code = command()
    try:
        if sys.__stdout__ is not None:
            sys.__stdout__.flush()
    except OSError as error:
        # What cannot be written now cannot be when Python ends either: it would say so with a traceback.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        # Of what a terminal that is gone did not take, an answer has ended the command already.
        code = code if terminal_is_gone(error) else code or 1
    sys.exit(code)
