"""Memory that a process on the CPU keeps from step to step."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Parameters of mallopt(3)."""


def keep_freed_memory() -> None:
    """Has this process keep the memory of tensors that are freed, for the next ones of their size.

    glibc gives blocks of more than 32 MB back to the system at once, and the end of its heap as soon as 64 MB of it are
    free. A step of training frees all that its gradients needed, and the next one then waits for every page anew, which
    the system fills with zeros: a fifth of the CPU seconds of small networks. Afterwards the process keeps the most
    that it ever had. Where the C library is another, nothing happens.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
