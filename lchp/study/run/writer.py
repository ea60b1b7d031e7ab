"""The thread that writes to the tracking store, so that training never waits for it.

What waits to be written is a set of keys: a run is made again from its card and the files of its trial each time
(:mod:`lchp.study.run.scribe`). So the set is bounded by the number of runs, however long the store is away; nothing is
lost with it when the process ends; and the next start, the end of a study and ``lchp study sync`` do no more than put
keys into it. A queue of calls would be none of these.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from lchp.errors import is_bug, shown
from lchp.study.run.scribe import Scribe
from lchp.tracking.store import is_away, why

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds after which a store that is away is tried again, the first time and at most."""
_GIVE_UP = 2
"""Runs in a row that cannot be written, after which the store is away and a last try is over."""
_FAREWELL = 5.0
"""Seconds for the write under way when the process ends."""


class Writer:
    """Writes runs whose cards have changed; a context in which its thread lives.

    Args:
        scribe: writes one run.
        say: takes a line for people, from the thread, too.
        note: takes an error that is a bug, for the log.
        first_pause: seconds before the first new try.
    """

    def __init__(
        self,
        scribe: Scribe,
        say: Callable[[str], None],
        note: Callable[[BaseException], None],
        first_pause: float = _FIRST_PAUSE,
    ) -> None:
        self.scribe, self._say, self._note = scribe, say, note
        self.run_ids: dict[str, str] = {}
        """The ids of the runs that were written, by key."""
        self.reason = ""
        """Why the last run that was not written was not."""
        self._name = f"tracking store {shown(scribe.uri)!r}"
        self._waiting: dict[str, float] = {}
        """Keys with the time from which they are due."""
        self._refused: dict[str, None] = {}
        self._failed_at: dict[str, int] = {}
        """How many runs had been written when the store did not take the run of a key, since when it was not."""
        self._written = self._failures = 0
        self._is_away = self._is_busy = self._is_last_try = self._is_over = False
        self._first_pause = self._pause = first_pause
        self._next_try = 0.0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        self._thread.join(_FAREWELL)

    def put(self, key: str, within: float = 0.0) -> None:
        """The card of this key has changed; it is to be written in so many seconds, together with what changes until
        then.
        """
        with self._changed:
            self._refused.pop(key, None)
            due = time.monotonic() + within
            self._waiting[key] = min(due, self._waiting.get(key, due))
            self._changed.notify_all()

    def finish(self, seconds: float | None = None) -> None:
        """Try to write everything now; wait until it is, or the store does not take it, or for so many seconds."""
        with self._changed:
            self._waiting.update(dict.fromkeys(self._refused, 0.0))
            self._refused.clear()
            self._failures, self._is_last_try = 0, True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_busy and (not self._waiting or self._is_given_up), seconds)
            self._is_last_try = False
            self._changed.notify_all()

    def unwritten(self) -> str | None:
        """How many runs do not say yet what their cards say, and why, as a line; None where all do."""
        with self._changed:
            count = len(self._waiting) + len(self._refused) + self._is_busy
        runs = "1 run is" if count == 1 else f"{count} runs are"
        return f"{runs} not written: {self._name} {self.reason or 'was not waited for'}" if count else None

    @property
    def _is_given_up(self) -> bool:
        return self._failures >= min(_GIVE_UP, len(self._waiting))

    def _run(self) -> None:
        while (key := self._next()) is not None:
            error = self._try(key)
            line = self._settle(key, error)
            # Who reads the output may be gone, or the disk full: the study meets that itself.
            with suppress(OSError):
                if line is not None:
                    self._say(line)
                if error is not None and is_bug(error):
                    self._note(error)

    def _next(self) -> str | None:
        """The key to write next, when it is due; None when the process ends."""
        with self._changed:
            while not self._is_over:
                key = min(self._waiting, key=lambda one: self._waiting[one], default=None)
                pause = 0.0 if key is None else max(self._next_try, self._waiting[key]) - time.monotonic()
                if key is not None and (not self._is_given_up if self._is_last_try else pause <= 0):
                    del self._waiting[key]
                    self._is_busy = True
                    return key
                self._changed.wait(pause if pause > 0 else None)
        return None

    def _try(self, key: str) -> Exception | None:
        """Write one run, once more from scratch where something is not as it was left; gives what kept it from it."""
        for is_second in (False, True):
            try:
                self.run_ids[key] = self.scribe.write(key)
            except Exception as error:  # whatever it is, training goes on, and it is told
                if is_second or is_away(error):
                    return error
                self.scribe.forget()
            else:
                break
        return None

    def _settle(self, key: str, error: Exception | None) -> str | None:
        """Write down what became of a try; gives the line that tells of a change."""
        reason = why(self.scribe.uri, error) if error is not None else ""
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()
            if error is None:
                return self._took(key)
            self.reason = reason
            # It has taken others since: the fault is not the store's.
            if not is_away(error) or self._failed_at.get(key, self._written) < self._written:
                self._refused[key] = None
                return f"the run {key} is not written: {self._name} {reason}"
            self._failed_at[key] = self._written
            self._waiting.setdefault(key, time.monotonic())
            self._failures += 1
            self._next_try = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            if self._is_away or self._failures < _GIVE_UP:
                return None
            self._is_away = True
        return (
            f"{self._name} {reason}: training goes on, and what it gives is kept in {self.scribe.study} and written as "
            "soon as the store is back"
        )

    def _took(self, key: str) -> str | None:
        self._failed_at.pop(key, None)
        self._written += 1
        self._failures, self._next_try, self._pause = 0, 0.0, self._first_pause
        was_away, self._is_away = self._is_away, False
        return f"{self._name} is back: what was kept is being written" if was_away else None
