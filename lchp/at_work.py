"""What a command is at: who begins with something long says so by :func:`doing`, and the process of a command tells of
it on standard error (:func:`watched`) while nothing else is said: on a terminal in a line that changes, elsewhere in a
line now and then. Without such a process, as from Python, nothing is told.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

FIRST, BETWEEN, LONGEST = 2.0, 8.0, 120.0
"""Seconds until a command gives its first sign, between two lines at first, and between two in what takes hours."""
_SHARE = 1 / 40
"""Of the time that something has taken, after which it is told of again: lines stay 8 s apart for five minutes."""
_LOOK = 0.5
"""Seconds between two looks, and so of a terminal's line."""


@dataclass(eq=False)
class _Phase:
    """Something that takes long. ``is_live``: nobody prints beside it but by :func:`speaking`, so that a line may
    change in place.
    """

    text: str | Callable[[], str]
    is_live: bool
    begun: float


class _Signs:
    """What is told of one command line."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.phases: list[_Phase] = []
        self.quiet = False
        self.bars = 0
        self.spoke: float | None = None
        """When something was said last; None before the first time."""
        self.drawn = 0
        """Letters of the line on the terminal that changes."""

    def erase(self) -> None:
        """Take the line that changes from the terminal."""
        drawn, self.drawn = self.drawn, 0
        # A terminal that is gone ends nothing, least of all in place of what is being raised.
        with suppress(OSError, ValueError):
            if drawn:
                _write(f"\r{' ' * drawn}\r")

    def tell(self, begun: float) -> None:
        """Tell of what is done now, where it is time; the command has begun at that time."""
        if self.quiet or self.bars or not self.phases:
            return
        phase, now = self.phases[-1], time.monotonic()
        taken = now - phase.begun
        # Of the phase: its text may name an epoch, which took less.
        line = f"lchp: {self._text()} ({shown_time(taken)} in all)"
        if phase.is_live and on_terminal() and now - (self.spoke or begun) >= (0.0 if self.drawn else FIRST):
            line = line[: shutil.get_terminal_size().columns - 1]
            _write(f"\r{line:<{self.drawn}}")
            self.drawn, self.spoke = max(self.drawn, len(line)), now
        elif now - (self.spoke or begun) >= (between(taken) if self.spoke else FIRST):
            self.spoke = now
            _write(f"{line}\n")

    def _text(self) -> str:
        """What is done now, or, where that cannot say it, what that is a part of."""
        for phase in reversed(self.phases):
            if isinstance(phase.text, str):
                return phase.text
            # What is only told must not end the telling; what went wrong there meets the work itself.
            with suppress(Exception):
                return phase.text()
        return "at work"


_signs = _Signs()


@contextmanager
def doing(text: str | Callable[[], str], live: bool = True) -> Iterator[None]:
    """Something that may take long is done in the block; ``text`` says what, or is asked for it from another thread.
    Without ``live`` the block prints its answer, too.
    """
    signs, phase = _signs, _Phase(text, live, time.monotonic())
    signs.phases.append(phase)
    try:
        yield
    finally:
        with signs.lock:
            signs.erase()
            if phase in signs.phases:
                signs.phases.remove(phase)


def rest() -> None:
    """What follows waits for a person, or serves one: nothing is told of it."""
    with _signs.lock:
        _signs.erase()
        _signs.phases.clear()


def terminal_is_gone(error: OSError) -> bool:
    """Whether what standard output did not take was for a terminal that is there no more, and not for a file."""
    try:
        return error.errno == errno.EIO and stat.S_ISCHR(os.fstat(1).st_mode)
    except OSError:
        return False


def reader_is_gone(error: BaseException) -> bool:
    """Whether ``error`` says that whoever read the output does so no longer, as ``head`` does after ten lines.

    Another pipe may have broken: the output itself tells.
    """
    if not isinstance(error, BrokenPipeError) or sys.__stdout__ is None:
        return False
    output = select.poll()
    output.register(sys.__stdout__.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in output.poll(0))


@contextmanager
def speaking() -> Iterator[None]:
    """A line is printed in the block, which tells of the work, and is no answer: a terminal that is gone ends none."""
    with _signs.lock:
        _signs.erase()
        try:
            yield
        except OSError as error:
            if not terminal_is_gone(error):
                raise
        _signs.spoke = time.monotonic()


@contextmanager
def drawing_bar() -> Iterator[None]:
    """A bar of progress is on the terminal while the block runs: nothing else is told there."""
    signs = _signs
    with signs.lock:
        signs.erase()
        signs.bars += 1
    try:
        yield
    finally:
        with signs.lock:
            signs.bars -= 1
            signs.spoke = time.monotonic()


def between(seconds: float) -> float:
    """Seconds between two lines about something that has taken so many: a log of hours is not filled by them.

    >>> between(60), between(1800), between(36000)
    (8.0, 45.0, 120.0)
    """
    return min(LONGEST, max(BETWEEN, _SHARE * seconds))


def silent_for() -> float:
    """Seconds since something was said; none where nothing was yet."""
    return 0.0 if _signs.spoke is None else time.monotonic() - _signs.spoke


def fresh_signs() -> None:
    """Begin with a command line of which nothing was told yet."""
    global _signs
    _signs = _Signs()


def keep_quiet() -> None:
    """Tell nothing of what is done, nor of progress."""
    _signs.quiet = True


def is_quiet() -> bool:
    """Whether nothing is to be told of what is done."""
    return _signs.quiet


@contextmanager
def watched() -> Iterator[None]:
    """Tell of what the block does."""
    over, begun = threading.Event(), time.monotonic()

    def watch() -> None:
        # Who reads may be gone: the command meets that itself.
        with suppress(OSError, ValueError):
            while not over.wait(_LOOK):
                with _signs.lock:
                    if not over.is_set():
                        _signs.tell(begun)

    threading.Thread(target=watch, name="at work", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        with _signs.lock:
            _signs.erase()


def on_terminal() -> bool:
    """Whether standard error is a terminal, on which a line can change."""
    return sys.stderr is not None and sys.stderr.isatty()


def shown_time(seconds: float) -> str:
    """A time for people.

    >>> shown_time(42.4), shown_time(90), shown_time(7800)
    ('42 s', '2 min', '2 h 10 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _write(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text)
        sys.stderr.flush()
