"""When a search stops a suggestion before its end, decided in a way that no kill can undo.

A decision depends on nothing but the values that trials have reported, and is written down in one piece: the epoch
after which a suggestion was judged to go on, or why it was not. What was reported and not judged is judged again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, Trial

from lchp.study.spec.search import Pruner, Search

JUDGED = "lchp.judged"
"""The attribute of a suggestion that holds the last step after which it was judged to go on."""
REASON = "lchp.pruned"
"""The attribute of a suggestion that says why it is not to go on."""


class Halving(BasePruner):  # type: ignore[misc]
    """Asynchronous successive halving (Li et al. 2020): one in ``reduction`` trials goes on at a rung, the best of
    those that have come to it; the first rung lies at ``grace`` steps, each further one ``reduction`` times as far.

    It decides as Optuna's ``SuccessiveHalvingPruner``, which keeps the rungs of a trial beside its values: a kill
    between the two loses a decision there.
    """

    def __init__(self, grace: int, reduction: int) -> None:
        self.grace, self.reduction = grace, reduction

    def prune(self, study: OptunaStudy, trial: FrozenTrial) -> bool:
        """Whether a trial is to stop after its last step."""
        *before, step = sorted(trial.intermediate_values)
        value = trial.intermediate_values[step]
        for rung in self._rungs(before[-1] if before else 0, step):
            others = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number]
            reached = sorted([value, *(found for one in others if (found := _value_at(one, rung)) is not None)])
            # Of fewer than `reduction` the best goes on.
            if math.isnan(value) or value < reached[-max(1, len(reached) // self.reduction)]:
                return True
        return False

    def _rungs(self, after: int, until: int) -> Iterator[int]:
        rung = self.grace
        while rung <= until:
            if rung > after:
                yield rung
            rung *= self.reduction


def _value_at(trial: FrozenTrial, rung: int) -> float | None:
    """What a trial had reached when it came to a rung; None where it did not."""
    step = min((step for step in trial.intermediate_values if step >= rung), default=None)
    return None if step is None else trial.intermediate_values[step]


def pruner_of(pruner: Pruner | None) -> BasePruner:
    """The pruner that a study asks for."""
    if pruner is None:
        return NopPruner()
    if pruner.kind == "median":
        return MedianPruner(n_startup_trials=pruner.startup, n_warmup_steps=pruner.grace)
    return Halving(pruner.grace, pruner.reduction)


def stops(search: Search, stored: OptunaStudy, trial: Trial, epochs: Sequence[Mapping[str, Any]]) -> str | None:
    """Report some epochs of a suggestion, each with its ``step`` over both stages and its ``metrics``, to the search
    ``stored``; gives why it is to be stopped, or None.
    """
    assert search.pruner is not None, "only a pruner stops"
    known = stored.get_trials(deepcopy=False)[trial.number]
    if REASON in known.user_attrs:
        return str(known.user_attrs[REASON])
    judged = known.user_attrs.get(JUDGED, 0)
    # One after the other: each rung is for the epoch at which it lies, whoever trained that.
    for epoch in epochs:
        step, value = epoch["step"], search.objective.so_far(epoch["metrics"])
        if value is None or step <= judged:
            continue
        if step not in known.intermediate_values:
            trial.report(value, step)
        if trial.should_prune():
            reason = _reason(search, stored.get_trials(deepcopy=False)[trial.number], search.pruner.kind)
            trial.set_user_attr(REASON, reason)
            return reason
        trial.set_user_attr(JUDGED, step)
    return None


def _reason(search: Search, trial: FrozenTrial, kind: str) -> str:
    values = trial.intermediate_values
    step = max(values)
    return (
        f"pruned by {kind} after epoch {step}: {search.objective.metric} {values[step]:.4f} on val, "
        f"at best {max(values.values()):.4f}"
    )


def reported(search: Search, epochs: Sequence[Mapping[str, Any]], last: int) -> dict[int, float]:
    """What :func:`stops` had reported of these epochs, of which a trial that is not stopped has ``last``: the final one
    is measured, not judged.
    """
    found = ((epoch["step"], search.objective.so_far(epoch["metrics"])) for epoch in epochs if epoch["step"] < last)
    return {step: value for step, value in found if value is not None} if search.pruner else {}
