"""Ctrl-C, SIGTERM and SIGHUP: all three end a run in order, a second one at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end; the exit code is 128 and the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


_asked: list[int] = []
"""The signals that came, first to last."""
_listening = False


def _stop(number: int, _frame: FrameType | None) -> None:
    _asked.append(number)
    if len(_asked) > 1:
        os._exit(128 + number)
    raise Stopped(number)


def listen() -> None:
    """Inside :func:`stoppable`: take the signals again after something else took them, as Ray does when it starts."""
    if _listening:
        _take()


def _take() -> None:
    for number in SIGNALS:
        # One that is ignored stays so: under nohup a closed terminal ends nothing.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


@contextmanager
def naming_the_signal() -> Iterator[None]:
    """What waits in Ray's core ends with a KeyboardInterrupt of Ray's own, which says nothing: it becomes the
    :class:`Stopped` of the signal that came.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        if isinstance(error, Stopped) or not _asked:
            raise
        raise Stopped(_asked[0]) from error


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn the signals into :class:`Stopped` while the block runs; only the main thread hears them."""
    global _listening
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _asked.clear()
    _listening = True
    _take()
    try:
        yield
    finally:
        _listening = False
        for number, handler in before.items():
            signal.signal(number, handler)
