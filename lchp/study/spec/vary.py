"""What varies in a study: the grid of ``vary`` and the space of ``search``, expanded and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from lchp.study.spec.complaints import check
from lchp.study.spec.schema import Choice, Range, Search, StudyKeys
from lchp.study.spec.source import Location, Source
from lchp.study.spec.values import config_value
from lchp.training.config import TrialConfig

_MOST_TRIALS = 10_000


def expand(base: Source, own: Source) -> tuple[tuple[str, ...], dict[TrialConfig, Source], list[str]]:
    """The varied keys, the distinct configurations with what was written for each, and what is wrong with ``vary``."""
    vary = own.values.get("vary")
    listed = isinstance(vary, list)
    grids: list[Any] = vary if listed and vary is not None else [{} if vary is None else vary]
    wrong: list[str] = []
    varied: dict[str, None] = {}
    found: dict[TrialConfig, Source] = {}
    for index, grid in enumerate(grids):
        at: Location = ("vary", index) if listed else ("vary",)
        if not isinstance(grid, dict) or not grids:
            wrong.append(f"{own.place(at)}: vary: must map dotted keys to lists of values")
            continue
        lists = {key: value if isinstance(value, list) else [value] for key, value in grid.items()}
        wrong_grid = _wrong_grid(lists, at, own)
        if wrong_grid:
            wrong += wrong_grid
            continue
        varied.update(dict.fromkeys(lists))
        for choice in product(*(range(len(values)) for values in lists.values())):
            trial = base
            for (key, values), position in zip(lists.items(), choice, strict=True):
                place = own.place((*at, key, position))
                trial = trial.put(tuple(key.split(".")), values[position], place)
            config, complaints = check(TrialConfig, trial)
            wrong += complaints
            if config is not None:
                found.setdefault(config, trial)
    if vary == []:
        wrong.append(f"{own.place(('vary',))}: vary: is empty: name a key and its values, or leave it out")
    return tuple(varied), found, list(dict.fromkeys(wrong))


def _wrong_grid(lists: Mapping[str, list[Any]], at: Location, own: Source) -> list[str]:
    wrong = [
        f"{own.place((*at, key))}: vary.{key}: the list is empty: give at least one value"
        for key, values in lists.items()
        if not values
    ]
    wrong += [
        f"{own.place((*at, key))}: vary.{key}: {_not_varied(key)}"
        for key in lists
        if key in {"seed", "seeds"} or not key
    ]
    count = math.prod(len(values) for values in lists.values())
    if count > _MOST_TRIALS:
        wrong.append(f"{own.place(at)}: vary: makes {count} configurations: at most {_MOST_TRIALS} are planned")
    return wrong


def _not_varied(key: str) -> str:
    return "is not varied: list the seeds under `seeds`" if key else "is no key"


def searched(
    search: Search, base: Source, source: Source, keys: StudyKeys, config: TrialConfig
) -> tuple[Search, list[str]]:
    """The search with its choices in their one spelling, and what is wrong with it."""
    wrong = []
    if keys.vary is not None:
        wrong.append(f"{source.place(('search',))}: search: cannot stand beside `vary`: keep one of the two")
    if config.split.val_per_class < 1:
        wrong.append(
            f"{source.place(('split', 'val_per_class'))}: split.val_per_class = 0: a search chooses on val: set it to 5"
        )
    if len(keys.seeds) > 1:
        wrong.append(f"{source.place(('seeds',))}: seeds: a search trains every suggestion with one seed: give one")
    space: dict[str, Range | tuple[Choice, ...]] = {}
    for key, values in search.space.items():
        at: Location = ("search", "space", key)
        if key == "seed":
            wrong.append(f"{source.place(at)}: search.space.seed: {_not_varied('seed')}")
            continue
        ends = (values.low, values.high) if isinstance(values, Range) else values
        read_back = []
        for position, value in enumerate(ends):
            place = source.place(at if isinstance(values, Range) else (*at, position))
            built, complaints = check(TrialConfig, base.put(tuple(key.split(".")), value, place))
            wrong += complaints
            read_back += [] if built is None else [config_value(built, key)]
            if complaints and isinstance(values, Range):
                break
        if len(read_back) == len(ends):
            space[key] = (
                Range(low=read_back[0], high=read_back[1], log=values.log)
                if isinstance(values, Range)
                else tuple(read_back)
            )
    return search.model_copy(update={"space": space}), wrong


def ineffective(sets: Sequence[str], keys: StudyKeys, source: Source) -> list[str]:
    """The ``--set`` options for keys that every trial has from ``vary`` or ``search``: they would change nothing."""
    name = "search.space" if keys.search else "vary"
    grids = [keys.search.space] if keys.search else keys.vary if isinstance(keys.vary, list) else [keys.vary]
    grids = [grid for grid in grids if isinstance(grid, Mapping)]
    wrong = []
    for option in sets:
        key = option.partition("=")[0].strip()
        if grids and all(key in grid for grid in grids):
            place = source.place(tuple(name.split(".")))
            remedy = f"--set '{name}={{{key}: [...]}}'" if name == "vary" else f"--set '{name}.{key}=[...]'"
            wrong.append(f"--set {option}: {key} varies, under `{name}` ({place}), so this has no effect: use {remedy}")
    return wrong
