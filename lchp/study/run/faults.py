"""Why a worker did not finish its job: by the trial's own fault, or by the machine's, which is a reason to try again.

It knows no Ray, whose errors come as the names of their classes and their text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lchp.errors import LESS_MEMORY


@dataclass(frozen=True)
class Fault:
    """``line`` says in a few words what happened, ``remedy`` what a person may do about it; of a trial's own fault the
    error, which is the last line of its ``text``, says both.
    """

    line: str
    remedy: str
    of_machine: bool
    text: str
    resumable: bool = False
    """Whether a trial whose own fault it is goes on from its last checkpoint when the command is run again."""


PREEMPTED = "PreemptedError"
"""Stands among the names of an error whose machine was taken away."""
_LOW = "running low on memory"
_ALLOWED = re.compile(r"([\d.]+ ?[KMGT]iB) allowed")
"""What torch says where a process has a limit of its own."""
_USED = re.compile(r"was ([\d.]+ ?[KMGT]?B)\D*? / ([\d.]+ ?[KMGT]?B)")
_BY_NAME = (
    (
        (PREEMPTED, "NodeDiedError"),
        "its machine was lost",
        "see that the machines of the cluster stay",
    ),
    (
        ("StoreAway",),
        "the shared store could not be used",
        "see that every machine reaches it, with the keys that it asks for",
    ),
    (
        ("ActorUnavailableError",),
        "its worker cannot be reached",
        "see that the machines of the cluster reach each other",
    ),
    (
        ("RayActorError", "WorkerCrashedError"),
        "its worker process died",
        "see what ended it (`dmesg` tells of the kernel's own killer, when memory is short)",
    ),
    (
        ("RayError", "TuneError"),
        "Ray has failed",
        "see that all machines of the cluster run",
    ),
)
"""Names of Ray's errors, the special ones first, with line and remedy."""


def fault_of(names: Sequence[str], text: str) -> Fault:
    """The fault that an error tells of: ``names`` are those of its class and of those that this derives from, of what
    the training code raised or, where that did not come to an end of its own, of what Ray says; ``text`` is all that is
    known of it.
    """
    if "OutOfMemoryError" in names and (allowed := _ALLOWED.search(text)):
        return Fault(
            f"does not fit into its share of a GPU, of whose memory it may take {allowed[1]}",
            f"raise that with --set resources.gpus=SHARE, or {LESS_MEMORY}",
            False,
            text,
        )
    if "OutOfMemoryError" in names or "MemoryError" in names or _LOW in text or "DefaultCPUAllocator" in text:
        return Fault(_out_of_memory(text), LESS_MEMORY, True, text)
    for known, line, remedy in _BY_NAME:
        if not set(known).isdisjoint(names):
            return Fault(line, remedy, True, text)
    return Fault(last_line(text), "", False, text)


def over_time(hours: float) -> Fault:
    """A trial that has trained as long as it may."""
    return Fault(
        f"has trained for {hours:g} h, as long as it may (resources.time_limit)",
        "the same command goes on with it for as long again; raise that with --set resources.time_limit=HOURS",
        False,
        "",
        resumable=True,
    )


def silent(minutes: float) -> Fault:
    """A trial that has been silent for longer than it may."""
    return Fault(
        f"has finished no epoch for {minutes:g} min (failures.silent), its worker was ended",
        "see what holds it, or raise that with --set failures.silent=MINUTES where an epoch takes so long",
        True,
        "",
    )


def elsewhere(shared: bool) -> Fault:
    """A worker has finished a trial whose files have not come here; ``shared`` says whether machines share a store."""
    if shared:
        return Fault("its files have not come through the shared store", "see that all machines reach it", True, "")
    return Fault(
        "was finished on another machine, and its files are not here",
        "give a store that all machines of the cluster share with --store URI",
        False,
        "",
    )


def last_line(text: str) -> str:
    """The last line of a text that is not empty."""
    return (text.strip() or "no reason was given").splitlines()[-1]


def _out_of_memory(text: str) -> str:
    """Of a trial's own allocation, or of a machine whose memory is nearly full: Ray ends a worker then."""
    used = _USED.search(text)
    if used:
        return f"out of memory ({used[1]} of the machine's {used[2]} were in use, Ray ended the worker)"
    return "out of memory" + (" (Ray ended the worker)" if _LOW in text else f" ({last_line(text).partition('. ')[0]})")
