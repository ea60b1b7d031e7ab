"""Who works in a store as a whole: those who train or bring stages, beside each other, or one who removes, alone.

The locks of single stages are not enough: what a trial has read once, such as its initialization, it reads again
hours later. Where a file system's locks are not honoured among machines, nothing here keeps one from another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lchp.data.locks import locked
from lchp.errors import Refusal

_LOCK = ".in-use"


@contextmanager
def using(store: Path) -> Iterator[None]:
    """Keep everything in a store, which is made, where it is; one who removes is waited for."""
    with locked(store / _LOCK, shared=True):
        yield


@contextmanager
def alone_in(store: Path) -> Iterator[None]:
    """Have a store for oneself, to remove from it: who begins to use it waits.

    Raises:
        Refusal: a process uses it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(store / _LOCK, wait=False))
        except BlockingIOError as error:
            raise Refusal(f"{store}: a process trains, imports or removes there: wait for it, or stop it") from error
        yield


def require_unused(store: Path) -> None:
    """See that no process uses a store; nothing is made.

    Raises:
        Refusal: one does.
    """
    if (store / _LOCK).exists():
        with alone_in(store):
            pass
