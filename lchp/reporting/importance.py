"""How much each key of a search mattered: Optuna's PED-ANOVA, of a table's rows alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def importances(columns: Mapping[str, Sequence[Any]], values: np.ndarray) -> dict[str, float]:
    """The share of every key in what tells the best tenth of the suggestions from the others, the largest first.

    Numbers count by their ranks, so that it does not matter whether a range was drawn from by its logarithm.

    Args:
        columns: by key, its value in every suggestion.
        values: (suggestions,), what each reached, more being better.
    """
    # It takes a second, which no other report needs.
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)
    places, spaces = dict[str, list[Any]](), dict[str, Any]()
    for key, column in columns.items():
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in column):
            places[key] = [float(rank) for rank in _ranks(column)]
            spaces[key] = optuna.distributions.FloatDistribution(0.0, 1.0)
        else:
            places[key] = [str(value) for value in column]
            spaces[key] = optuna.distributions.CategoricalDistribution(sorted(set(places[key])))
    for number, value in enumerate(values):
        params = {key: places[key][number] for key in columns}
        study.add_trial(optuna.trial.create_trial(value=float(value), params=params, distributions=spaces))
    found: dict[str, float] = optuna.importance.get_param_importances(study)
    return found


def _ranks(column: Sequence[float]) -> np.ndarray:
    """In [0, 1]; equal values share one."""
    order, places = np.unique(np.asarray(column, float), return_inverse=True)
    return np.asarray(places / max(len(order) - 1, 1))
