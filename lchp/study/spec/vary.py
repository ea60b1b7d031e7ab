"""What varies in a study: the grid of ``vary`` and the space of ``search``, expanded and checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from lchp.data.fingerprint import canonical
from lchp.study.spec.complaints import check
from lchp.study.spec.parse import Location
from lchp.study.spec.schema import StudyKeys
from lchp.study.spec.search import Range, Search
from lchp.study.spec.source import Source
from lchp.study.spec.values import config_value
from lchp.training.config import TrialConfig
from lchp.training.identity import trial_key, unread

MOST_TRIALS = 10_000


def expand(base: Source, own: Source, seeds: int) -> tuple[tuple[str, ...], dict[TrialConfig, Source], list[str]]:
    """The varied keys, the distinct configurations with what was written for each, and what is wrong with ``vary``.

    Every configuration is trained with so many ``seeds``.
    """
    vary = own.values.get("vary")
    if vary == []:
        return (), {}, [f"{own.place(('vary',))}: vary: is empty: name a key and its values, or leave it out"]
    grids, mistakes = _grids(vary, own)
    count = sum(math.prod(map(len, grid.values())) for grid in grids.values())
    if count * seeds > MOST_TRIALS:
        trials = f", {count * seeds} trials with {seeds} seeds" if seeds > 1 else ""
        place = own.place(("vary",) if vary else ("seeds",))
        return (), {}, [*mistakes, f"{place}: vary: makes {count} configurations{trials}: plan at most {MOST_TRIALS}"]
    configs: dict[TrialConfig, Source] = {}
    for at, grid in grids.items():
        for choice in product(*(range(len(values)) for values in grid.values())):
            trial = base
            for (key, values), position in zip(grid.items(), choice, strict=True):
                trial = trial.put(tuple(key.split(".")), values[position], own.place((*at, key, position)))
            config, complaints = check(TrialConfig, trial)
            mistakes += complaints
            if config is not None:
                configs.setdefault(config, trial)
    return tuple(dict.fromkeys(key for grid in grids.values() for key in grid)), configs, list(dict.fromkeys(mistakes))


def _grids(vary: Any, own: Source) -> tuple[dict[Location, dict[str, list[Any]]], list[str]]:
    """The grids by their place, every value in a list; and what is wrong with those that are left out."""
    listed = isinstance(vary, list)
    grids: dict[Location, dict[str, list[Any]]] = {}
    mistakes: list[str] = []
    for index, grid in enumerate(vary if isinstance(vary, list) else [{} if vary is None else vary]):
        at: Location = ("vary", index) if listed else ("vary",)
        if not isinstance(grid, dict):
            mistakes.append(f"{own.place(at)}: vary: must map dotted keys to lists of values")
            continue
        lists = {key: value if isinstance(value, list) else [value] for key, value in grid.items()}
        complaints = [
            f"{own.place((*at, key))}: vary.{key}: the list is empty: give at least one value"
            for key, values in lists.items()
            if not values
        ]
        complaints += check_keys("vary", list(lists), at, own)
        mistakes += complaints
        if not complaints:
            grids[at] = lists
    return grids, mistakes


def check_keys(name: str, keys: Sequence[str], at: Location, source: Source) -> list[str]:
    """The keys of ``vary`` or ``search.space`` that are none of a trial's, or that lie in one another."""
    mistakes = []
    for key in keys:
        place = f"{source.place((*at, key))}: {name}.{key}"
        around = next((other for other in keys if key.startswith(f"{other}.")), None)
        if key in {"seed", "seeds"}:
            mistakes.append(f"{place}: is not varied: list the seeds under `seeds`")
        elif not all(key.split(".")):
            mistakes.append(f"{place}: is no key: write it as `refinement.rate`")
        elif key.split(".")[0] in StudyKeys.model_fields:
            mistakes.append(f"{place}: is not varied: all trials of a study share it: give it outside `{name}`")
        elif around is not None:
            mistakes.append(f"{place}: lies in `{around}`, which varies, too: keep one of the two")
    return mistakes


def ineffective(sets: Sequence[str], keys: StudyKeys, source: Source) -> list[str]:
    """The ``--set`` options for keys that every trial has from ``vary`` or ``search``: they would change nothing."""
    name = "search.space" if keys.search else "vary"
    grids = [keys.search.space] if keys.search else keys.vary if isinstance(keys.vary, list) else [keys.vary]
    grids = [grid for grid in grids if isinstance(grid, Mapping)]
    mistakes = []
    for option in sets:
        key = option.partition("=")[0].strip()
        if grids and all(key in grid for grid in grids):
            place = source.place(tuple(name.split(".")))
            remedy = f"--set '{name}={{{key}: [...]}}'" if name == "vary" else f"--set '{name}.{key}=[...]'"
            mistakes.append(
                f"--set {option}: {key} varies, under `{name}` ({place}), so this has no effect: use {remedy}"
            )
    return mistakes


def unread_tau(source: Source, search: Search | None, configs: Sequence[TrialConfig]) -> list[str]:
    """A tau that is written, varied or searched where boxes are selected by rank: it would change nothing."""
    keeping = [config for config in configs if config.confidence.keep is not None]
    if search:
        own: tuple[Any, ...] = (configs[0].confidence.keep,)
        shares = [part.get("confidence.keep", own) for part in search.parts() if "tau" in part]
        unread = bool(shares) and all(isinstance(share, Range) or None not in share for share in shares)
    else:
        alike = {config.model_copy(update={"tau": 0.0}) for config in keeping}
        unread = len(alike) < len(keeping) or ("tau" in source.values and len(keeping) == len(configs))
    if not unread:
        return []
    written = next((at for at in source.places if "tau" in at), ())
    return [
        f"{source.place(written)}: tau: is not read where confidence.keep selects the best share: keep one of the two"
    ]


def unread_variation(varied: Sequence[str], configs: Iterable[TrialConfig], own: Source) -> list[str]:
    """The varied keys by which alone configurations differ that would be trained alike, because nothing reads them."""
    seen: dict[str, TrialConfig] = {}
    mistakes = []
    for config in configs:
        reasons = unread(config)
        keys = [key for key in varied if key in reasons]
        first = seen.setdefault(canonical(trial_key(config)), config) if keys else config
        for key in keys:
            if config_value(config, key) != config_value(first, key):
                reason = f"{reasons[key]} = {config_value(config, reasons[key])}"
                mistakes.append(
                    f"{own.place(('vary',))}: vary.{key}: is not read with {reason}: vary it in a grid of its own, "
                    "beside what reads it"
                )
    return list(dict.fromkeys(mistakes))
