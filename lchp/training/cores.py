"""How many CPU cores this process may use: its affinity and the quotas of its control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_MOUNT = "sys/fs/cgroup"


def cores(root: Path = Path("/")) -> int:
    """CPU cores that this process may use, at least one; a quota of one core and a half counts as one.

    ``root`` is where /proc and /sys are looked for.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([there, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """The quotas in cores of this process's control groups and of all that these lie in; either version's."""
    for hierarchy, place in _groups(root):
        parts = Path(place.lstrip("/")).parts
        # Outside of what a container may see; its own group is then the mounted one.
        parts = () if ".." in parts else parts
        for depth in range(len(parts) + 1):
            folder = hierarchy.joinpath(*parts[:depth])
            # Version 2 writes "max 100000" or "50000 100000", version 1 a file each, -1 for none.
            limit = _read(folder / "cpu.max") or [
                *_read(folder / "cpu.cfs_quota_us"),
                *_read(folder / "cpu.cfs_period_us"),
            ]
            if len(limit) == 2 and limit[0].isdigit() and limit[1].isdigit() and int(limit[1]):
                yield int(limit[0]) / int(limit[1])


def _groups(root: Path) -> Iterator[tuple[Path, str]]:
    """The mounted hierarchies that may hold a CPU quota, each with this process's place in it."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        if not controllers:
            yield root / _MOUNT, place
            yield root / _MOUNT / "unified", place
        elif "cpu" in controllers.split(","):
            yield root / _MOUNT / controllers, place
            yield root / _MOUNT / "cpu", place


def _read(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except OSError:
        return []
