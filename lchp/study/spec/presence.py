"""Whether the data and the weight files that a configuration names are there."""

from __future__ import annotations

from lchp.data.kinds import KINDS
from lchp.errors import Refusal
from lchp.study.spec.source import Source
from lchp.training.config import TrialConfig, WeightsFile


def require_files(config: TrialConfig, source: Source) -> None:
    """Check that the data and the weight files of ``config``, which ``source`` writes, are there.

    Raises:
        Refusal: what is missing, one line each: place, value, remedy.
    """
    mistakes = missing_files(config, source)
    if mistakes:
        raise Refusal("\n".join(mistakes))


def missing_files(config: TrialConfig, source: Source) -> list[str]:
    """What of the configuration's files is missing, one line each."""
    mistakes = []
    kind = config.dataset.kind
    path = getattr(config.dataset, "path", None)
    place = source.place(("dataset", "path"))
    if not KINDS[kind].drawn:
        if path is None:
            mistakes.append(f"{place}: dataset.path: the {kind} data has no path: give it with --data PATH")
        elif not path.exists():
            mistakes.append(f"{place}: dataset.path = {path}: does not exist: give the {kind} data with --data PATH")
    for role in ("classifier", "regressor"):
        weights = getattr(config.weights, role)
        if isinstance(weights, WeightsFile) and not weights.file.is_file():
            key = f"weights.{role}.file"
            place = source.place(("weights", role, "file"))
            mistakes.append(f"{place}: {key} = {weights.file}: does not exist: give it with --set {key}=PATH")
    return mistakes
