"""What stands under and beside a table: on how many images and trials its numbers stand, and where training
degenerated.
"""

from __future__ import annotations

from collections.abc import Sequence

from lchp.errors import first_of
from lchp.reporting.evidence import Degeneration, Images
from lchp.reporting.frame import TrialRow, Unfinished
from lchp.vocabulary import METRICS

_NAMED = 5


def images_of(trials: Sequence[TrialRow], split: str) -> tuple[Images, ...]:
    """The counts of the split's images, one where the trials agree; none where no trial says."""
    found = (trial.evidence.images.get(split) for trial in trials)
    return tuple(dict.fromkeys(images for images in found if images is not None))


def counts(
    images: Sequence[Images], split: str, metrics: Sequence[str], finished: int, unfinished: Sequence[Unfinished] | None
) -> list[str]:
    """The sentences that say how many images and trials the numbers of a table are over.

    Args:
        metrics: the table's.
        finished: trials that the table shows.
        unfinished: those that it will show when they are finished; None where that is not known.
    """
    localization = ", ".join(METRICS[metric].title for metric in metrics if METRICS[metric].needs_boxes)
    lines = [f"{one.line(split, localization)}." for one in images]
    if len(lines) > 1:
        lines.insert(0, "Trials differ in their images.")
    if unfinished is not None:
        left = f"; not finished: {first_of([one.name for one in unfinished], _NAMED)}" if unfinished else ""
        lines.append(f"{_share(finished, finished + len(unfinished))}{left}.")
    return lines


def _share(some: int, of: int) -> str:
    return f"{some} of {of} trial{'' if of == 1 else 's'}"


def row_warnings(trials: Sequence[TrialRow], method: str | None = None) -> str | None:
    """What the cell of a row says of its trials' degenerate training, of one ``method`` or of all; None if nothing.

    Says in how many of the trials, where that is not in all.
    """
    cells: dict[str, list[str]] = {}
    for one, where in _grouped(trials).items():
        if method is None or one.method == method:
            share = f" ({len(where)} of {len(trials)})" if len(where) < len(trials) else ""
            cells.setdefault(one.subject, []).append(f"{one.short}{share}")
    if method is not None:
        return ", ".join(text for texts in cells.values() for text in texts) or None
    return "; ".join(f"{subject}: {', '.join(texts)}" for subject, texts in cells.items()) or None


def table_warnings(trials: Sequence[TrialRow], by: Sequence[str]) -> tuple[str, ...]:
    """One sentence for every way in which training degenerated: whose, in which rows, and what it means."""
    lines = []
    for one, where in _grouped(trials).items():
        labels = [", ".join(f"{key} = {trial.varied[key]}" for key in by) for trial in where]
        rows = first_of(list(dict.fromkeys(labels)), _NAMED, "; ")
        place = f" at {rows}" if by and len(where) < len(trials) else ""
        lines.append(f"Warning: {one.subject}, {one.short}{place} ({_share(len(where), len(trials))}): {one.meaning}.")
    return tuple(lines)


def _grouped(trials: Sequence[TrialRow]) -> dict[Degeneration, list[TrialRow]]:
    """The trials of every kind of degeneration, without the numbers that are one trial's own."""
    groups: dict[Degeneration, list[TrialRow]] = {}
    for trial in trials:
        for one in trial.evidence.degenerations:
            groups.setdefault(one.kind, []).append(trial)
    return groups
