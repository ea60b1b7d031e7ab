"""What /proc tells of the processes that a test has started."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def descendants(pid: int) -> dict[int, list[str]]:
    """The processes below ``pid``, each with what /proc/<pid>/stat says behind its name."""
    stats = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            stats[int(file.parent.name)] = file.read_text().rpartition(")")[2].split()
    found = {pid}
    while more := {child for child, stat in stats.items() if int(stat[1]) in found} - found:
        found |= more
    return {one: stats[one] for one in found if one in stats}


def lives(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
