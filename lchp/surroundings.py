"""What every command and its child processes want of their environment variables: a home folder, and no proxy in
front of this machine itself.
"""

from __future__ import annotations

import getpass
import os
import stat
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path

LOOPBACK = ("127.0.0.1", "localhost", "::1")
UI_PORT = 5000
"""Where the UI of a tracking store is served, unless somebody wants another port."""


_HOMES = 10
"""How many names of a home folder are tried."""


def settle(environment: MutableMapping[str, str] = os.environ) -> list[str]:
    """Put into ``environment`` what is missing; gives what a person should know of it, one line each.

    Raises:
        ValueError: there is no home folder, and none can be made that is this user's alone.
    """
    environment.update(unproxied(environment))
    # An empty HOME means the root folder to Python, and the user's own to nobody.
    if not environment.get("HOME"):
        environment.pop("HOME", None)
        if _home_of_user() is None:
            home = _own_folder()
            environment["HOME"] = str(home)
            return [f"no home folder: HOME is unset and the user unknown: using {home} (set HOME to choose another)"]
    return []


def default_cache() -> Path:
    """The folder of what can be made again, where none is given: ``lchp`` in XDG_CACHE_HOME, else in ``~/.cache``."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "lchp"


def unproxied(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep requests to loopback from going through a proxy; none where no proxy is set."""
    if not any(name.lower().endswith("_proxy") and value for name, value in environment.items()):
        return {}
    known = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = [host.strip() for host in known.split(",") if host.strip()]
    joined = ",".join([*hosts, *(host for host in LOOPBACK if host not in hosts)])
    # gRPC reads the small name alone.
    return {"no_proxy": joined, "NO_PROXY": joined}


def user() -> str:
    """Who runs this, by name or, where the system knows none, by number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the former before Python 3.13
        return str(os.getuid())


def _home_of_user() -> Path | None:
    try:
        return Path("~").expanduser()
    except RuntimeError:
        return None


def _own_folder() -> Path:
    """``lchp-<uid>`` in the temporary folder, the same at every start; where that is somebody else's, the first of
    ``lchp-<uid>-1``, ``lchp-<uid>-2`` and so on that is not.

    Raises:
        ValueError: none of the first is this user's alone, or folders there do not tell whose they are.
    """
    first = Path(tempfile.gettempdir()) / f"lchp-{os.getuid()}"
    remedy = "set HOME to a folder of your own, or TMPDIR to another place"
    for number in range(_HOMES):
        place = first.with_name(f"{first.name}-{number}") if number else first
        is_new = _make(place)
        if _is_own(place):
            return place
        if is_new:
            # Another would look no better, at this start or the next.
            place.rmdir()
            raise ValueError(
                f"no home folder: HOME is unset and the user unknown, and the file system of the temporary folder "
                f"{first.parent} does not tell whose folders are: {remedy}"
            )
    raise ValueError(
        f"no home folder: HOME is unset and the user unknown, and {first} and those with a number after it are not "
        f"this user's alone: {remedy}"
    )


def _make(folder: Path) -> bool:
    """Whether nothing was there, and the folder is made."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def _is_own(folder: Path) -> bool:
    """Whether a folder is this user's and nobody else may write there."""
    there = folder.lstat()
    return stat.S_ISDIR(there.st_mode) and there.st_uid == os.getuid() and not there.st_mode & 0o022
