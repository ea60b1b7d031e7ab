"""What every floor may say to a person: a refusal, and the one place that turns any exception into a message."""

from __future__ import annotations

import errno
import re
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_REMEDIES = {
    errno.ENOSPC: "free space there, or name another place",
    errno.EDQUOT: "free space there, or name another place",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "allow more open files (ulimit -n)",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.ENOENT: "bring it back, or name another place",
}
LESS_MEMORY = "make the batch sizes, view.crop or resources.concurrent smaller"
"""The remedy where memory ran out."""
_DETAILS = "details: "
"""How a note of an exception begins that says in which file its traceback is."""


def first_of(names: Sequence[str], most: int, between: str = ", ") -> str:
    """The first names, and how many more there are."""
    left = len(names) - most
    return between.join(names[:most]) + (f" and {left} more" if left > 0 else "")


def counted(count: int, what: str) -> str:
    """So many of something.

    >>> counted(1, "trial"), counted(2, "trial")
    ('1 trial', '2 trials')
    """
    return f"{count} {what}{'s' * (count != 1)}"


def shown(uri: str) -> str:
    """``uri`` without the user name and password it may hold."""
    return re.sub(r"//[^\s@]*@", "//***@", uri)


class Refusal(ValueError):
    """What the user asked for cannot be done, and nothing was started: exit code 2."""


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what goes wrong before anything has started into a refusal.

    Raises:
        Refusal: in place of ValueError and OSError, where they are for people.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if isinstance(error, Refusal) or is_bug(error):
            raise
        raise Refusal(message(error)) from error


def is_bug(error: BaseException) -> bool:
    """Whether an error is none that a person can mend.

    Plain ValueErrors, and this package's own kinds of it, are written for people. Another subclass is a library's,
    which knows neither file nor remedy: ``json.JSONDecodeError``, ``UnicodeDecodeError``, pydantic's.
    """
    ours = isinstance(error, ValueError) and (type(error) is ValueError or _package(error) == "lchp")
    meant = ours or isinstance(error, OSError | FloatingPointError | KeyboardInterrupt)
    return not (meant or _is_out_of_memory(error) or _is_of_tracking(error) or _is_of_search(error))


def message(error: BaseException) -> str:
    """An error in one line for people; the several lines of a refusal stay."""
    text = str(error)
    if isinstance(error, OSError):
        return _of_file(error)
    if _is_of_tracking(error):
        return (
            f"the tracking store failed ({_one_line(text)}): see that it can be reached and written, then run the same "
            "command again"
        )
    if _is_of_search(error):
        return (
            f"the database of searches failed ({_one_line(str(error.__cause__ or text))}): see that it can be reached "
            "and written (--search-storage), then run the same command again"
        )
    if _is_out_of_memory(error):
        shown = f" ({_one_line(text)})" if text else ""
        return f"out of memory{shown}: {LESS_MEMORY}"
    if is_bug(error):
        shown = f": {_one_line(text)}" if text else ""
        return f"internal error: {type(error).__name__}{shown}: this is a bug of lchp"
    return text or type(error).__name__


def answer(error: BaseException) -> tuple[str, int]:
    """The message of an error that ends a command, and the exit code: 2 for a refusal, else 1.

    The traceback of a bug is kept in a file, which the message names.
    """
    if not is_bug(error):
        return message(error), 2 if isinstance(error, Refusal) else 1
    notes = getattr(error, "__notes__", ())
    details = next((note for note in notes if note.startswith(_DETAILS)), None) or _kept(error)
    return f"{message(error)}; {details}", 1


def _kept(error: BaseException) -> str:
    """Write the traceback into a temporary file; gives the words that name it."""
    try:
        with tempfile.NamedTemporaryFile(  # noqa: TID251 (for people)
            "w", prefix="lchp-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.writelines(traceback.format_exception(error))
    except OSError as other:
        return f"its details could not be written ({other})"
    return f"{_DETAILS}{file.name}"


def _of_file(error: OSError) -> str:
    remedy = _REMEDIES.get(error.errno or 0, "make it readable and writable, or name another place")
    if error.filename is not None:
        return f"{error.filename}: {error.strerror or type(error).__name__}: {remedy}"
    if error.errno == errno.ENOENT and _is_nowhere():
        return "the working folder is gone: change into one that is there"
    if error.errno in _REMEDIES:
        return f"{error.strerror}: {remedy}"
    return _one_line(str(error)) or type(error).__name__


def _is_nowhere() -> bool:
    """Whether the folder that this process stands in was removed."""
    try:
        Path.cwd()
    except OSError:
        return True
    return False


def _is_out_of_memory(error: BaseException) -> bool:
    """Python's own error, or torch's: a RuntimeError on the CPU, a subclass on CUDA."""
    if isinstance(error, MemoryError):
        return True
    named = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    return named and isinstance(error, RuntimeError)


def _is_of_tracking(error: BaseException) -> bool:
    """MLflow's own error, or one of the database under it: the store is at fault, which may be another machine's."""
    return _package(error) in ("mlflow", "sqlalchemy", "sqlite3")


def _is_of_search(error: BaseException) -> bool:
    """What Optuna makes of an error of the database under it."""
    return _package(error) == "optuna" and type(error).__name__ == "StorageInternalError"


def _package(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:297]}..."
