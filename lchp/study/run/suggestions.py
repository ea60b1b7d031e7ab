"""What a suggestion is to Optuna: parameters and their distributions, from a search's space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import Study as OptunaStudy
from optuna.trial import Trial

from lchp.study.spec.load import Study
from lchp.study.spec.search import Choice, PerChoice, Range, Search, Values, word

POPULATION = 10
"""Suggestions of a generation of NSGA-II: as a search has tens of trials, few enough for some generations."""
GENERATION = "NSGAIISampler:generation"
"""The attribute in which Optuna keeps the generation of a trial."""


def reached_by(study: Study, values: Mapping[str, Any], objective: float) -> list[float]:
    """What Optuna is told of a suggestion: its objective and, where a search asks for it, its cost."""
    assert study.search is not None, "only a search suggests"
    if study.search.cost is None:
        return [objective]
    # Networks are known where torch is, which takes seconds.
    from lchp.study.plan.cost import gflop_an_image

    return [objective, gflop_an_image(study.suggested(0, values)[0].config)]


def distributions(search: Search, decided: Mapping[str, Choice]) -> dict[str, BaseDistribution]:
    """Optuna's parameters of a suggestion in which the keys that others depend on are as ``decided``."""
    found = {}
    for key, values in search.part(decided).items():
        whole = search.space[key]  # of a key that decides the part has one choice alone
        found[parameter(search, key, decided)] = distribution(values if isinstance(whole, PerChoice) else whole)
    return found


def parameter(search: Search, key: str, decided: Mapping[str, Choice]) -> str:
    """Optuna's name of a key: to Optuna one that depends on another is several, one for each of its choices."""
    values = search.space[key]
    return f"{key} ({values.per}={word(decided[values.per])})" if isinstance(values, PerChoice) else key


def distribution(values: Values) -> BaseDistribution:
    """Optuna's distribution: integers where both ends of a range are integers."""
    if not isinstance(values, Range):
        return CategoricalDistribution(values)
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(float(values.low), float(values.high), log=values.log)


def values_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a suggestion, by key."""
    return {name.partition(" (")[0]: value for name, value in params.items()}


def is_whole(search: Search, params: Mapping[str, Any]) -> bool:
    """Whether a suggestion has all its values, which Optuna writes one by one."""
    return params.keys() >= set(search.deciding) and params.keys() == distributions(search, params).keys()


def suggested(study: OptunaStudy, search: Search) -> Trial:
    """The next trial of ``study``."""
    trial = study.ask()
    complete(trial, search)
    return trial


def complete(trial: Trial, search: Search) -> None:
    """Give a trial the values that it lacks, those that others depend on before them."""
    plain = {key: distribution(values) for key, values in search.space.items() if not isinstance(values, PerChoice)}
    _suggest(trial, plain)
    _suggest(trial, distributions(search, trial.params))


def _suggest(trial: Trial, found: Mapping[str, BaseDistribution]) -> None:
    for name, one in found.items():
        match one:
            case _ if name in trial.params:
                continue
            case CategoricalDistribution():
                trial.suggest_categorical(name, one.choices)
            case IntDistribution():
                trial.suggest_int(name, one.low, one.high, log=one.log)
            case FloatDistribution():
                trial.suggest_float(name, one.low, one.high, log=one.log)
