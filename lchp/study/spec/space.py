"""What a search may suggest: its space, checked and read in its one spelling, and the suggestions that it is given."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

from lchp.study.spec.complaints import check
from lchp.study.spec.parse import Location
from lchp.study.spec.schema import Choice, Range, Search, StudyKeys
from lchp.study.spec.source import Source
from lchp.study.spec.values import config_value
from lchp.study.spec.vary import MOST_TRIALS, check_keys
from lchp.training.config import TrialConfig
from lchp.training.identity import unread

_MOST_COMBINATIONS = 2_000
_SHOWN = 5


def searched(
    search: Search, base: Source, source: Source, keys: StudyKeys, config: TrialConfig
) -> tuple[Search, list[str]]:
    """The search with its choices in their one spelling, each once, and what is wrong with it."""
    at = ("search", "space")
    mistakes = check_keys("search.space", list(search.space), at, source)
    mistakes += [
        f"{source.place((*at, key))}: search.space.{key}: a search compares scores on the same val images, so that "
        f"{'the dataset and its' if key.startswith('dataset') else 'the'} split stay: leave it out, or use `vary`"
        for key in search.space
        if key.split(".")[0] in ("dataset", "split")
    ]
    if keys.vary is not None:
        mistakes.append(f"{source.place(('search',))}: search: cannot stand beside `vary`: keep one of the two")
    if config.split.val_per_class < 1:
        mistakes.append(
            f"{source.place(('split', 'val_per_class'))}: split.val_per_class = 0: a search chooses on val: set it to 5"
        )
    mistakes += _check_seeds(search, keys, source)
    if mistakes:
        return search, mistakes
    read_back, mistakes = _combined(search.space, base, source)
    if mistakes:
        return search, mistakes
    space: dict[str, Range | tuple[Choice, ...]] = {}
    for key, values in search.space.items():
        typed = tuple(dict.fromkeys(read_back[key, index] for index in range(len(_ends(values)))))
        space[key] = Range(low=typed[0], high=typed[1], log=values.log) if isinstance(values, Range) else typed
    search = search.model_copy(update={"space": space})
    mistakes = [
        f"{source.place(('search', 'grid', index))}: search.grid: {key}: is no key of `search.space` with a list of "
        "choices: name one that is"
        for index, key in enumerate(search.grid)
        if not isinstance(space.get(key), tuple)
    ]
    points = [_point(search, index, base, source) for index in range(len(search.first))]
    mistakes += [line for _, lines in points for line in lines]
    alike = [index for index, (values, _) in enumerate(points) if values in [other for other, _ in points[:index]]]
    mistakes += [f"{source.place(('search', 'first', index))}: search.first: is there twice" for index in alike]
    return search.model_copy(update={"first": tuple(values for values, _ in points)}), mistakes


def _check_seeds(search: Search, keys: StudyKeys, source: Source) -> list[str]:
    """Several seeds that no pruner could judge, or that make too many trials."""
    place, mistakes = source.place(("seeds",)), []
    if len(keys.seeds) > 1 and search.pruner:
        mistakes.append(
            f"{place}: seeds = {list(keys.seeds)}: search.pruner judges the one training of a suggestion by its "
            "epochs, and with several seeds a suggestion is judged by their mean: give one seed, or leave `pruner` out"
        )
    if search.trials * len(keys.seeds) > MOST_TRIALS:
        mistakes.append(
            f"{place}: seeds: {search.trials} suggestions with {len(keys.seeds)} seeds are "
            f"{search.trials * len(keys.seeds)} trials: plan at most {MOST_TRIALS}"
        )
    return mistakes


def _point(search: Search, index: int, base: Source, source: Source) -> tuple[dict[str, Choice], list[str]]:
    """A suggestion of ``first`` in the spelling of the space, and what is wrong with it."""
    values, mistakes = search.first[index], []
    trial = base
    for key, value in values.items():
        at: Location = ("search", "first", index, key)
        if key not in search.space:
            keys = ", ".join(search.space)
            mistakes.append(f"{source.place(at)}: search.first.{key}: is no key of `search.space`: choose of {keys}")
        trial = trial.put(tuple(key.split(".")), value, source.place(at))
    if mistakes:
        return values, mistakes
    # A value that is wrong only beside the base's others may be fine beside the sampler's.
    config, complaints = check(TrialConfig, trial)
    if config is None:
        return values, [line for line in complaints if any(f": {key} = " in line for key in values)]
    typed = {key: config_value(config, key) for key in values}
    for key, value in typed.items():
        if not _holds(search.space[key], value):
            ends = search.space[key]
            allowed = f"{ends.low} to {ends.high}" if isinstance(ends, Range) else ", ".join(map(str, ends))
            place = source.place(("search", "first", index, key))
            mistakes.append(f"{place}: search.first.{key} = {value}: is not in the space: choose of {allowed}")
    return typed, mistakes


def _holds(values: Range | tuple[Choice, ...], value: Any) -> bool:
    if not isinstance(values, Range):
        return value in values
    return values.low <= value <= values.high and (isinstance(value, int) or not values.whole)


def _ends(values: Range | tuple[Choice, ...]) -> tuple[Choice, ...]:
    return (values.low, values.high) if isinstance(values, Range) else values


def _combined(
    space: Mapping[str, Range | tuple[Choice, ...]], base: Source, source: Source
) -> tuple[dict[tuple[str, int], Any], list[str]]:
    """What the choices and the ends of ranges are read as, by key and position, and the combinations that are illegal.

    A value that the base configuration does not allow may be fine with every suggestion of another key: only whole
    combinations tell.
    """
    read_back: dict[tuple[str, int], Any] = {}
    mistakes: dict[str, str] = {}
    reasons = dict.fromkeys(space, "")
    """Why a key is not read, of those that no combination reads."""
    for positions in _combinations([len(_ends(values)) for values in space.values()]):
        trial, suggested = base, {}
        for (key, values), position in zip(space.items(), positions, strict=True):
            at: Location = ("search", "space", key) if isinstance(values, Range) else ("search", "space", key, position)
            suggested[key] = _ends(values)[position]
            trial = trial.put(tuple(key.split(".")), suggested[key], source.place(at))
        built, complaints = check(TrialConfig, trial)
        if built is not None:
            read_back.update({(key, i): config_value(built, key) for key, i in zip(space, positions, strict=True)})
            found = unread(built)
            reasons = {key: f"{found[key]} = {config_value(built, found[key])}" for key in reasons if key in found}
        for line in complaints:
            # Both ends of a range outside what is allowed are one mistake.
            of_range = [key for key, values in space.items() if isinstance(values, Range) and f": {key} = " in line]
            mistakes.setdefault(of_range[0] if of_range else line, line + _together(line, suggested))
    lines = list(mistakes.values()) or [
        f"{source.place(('search', 'space', key))}: search.space.{key}: is not read with {reason}: leave it out, or "
        "search what reads it, too"
        for key, reason in reasons.items()
    ]
    return read_back, lines[:_SHOWN] + ([f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else [])


def _combinations(counts: Sequence[int]) -> Iterable[tuple[int, ...]]:
    """All combinations of positions or, where those are too many, all of every two keys, the others at their first."""
    if math.prod(counts) <= _MOST_COMBINATIONS:
        return product(*map(range, counts))
    two = combinations(range(len(counts)), 2) if len(counts) > 1 else [(0, 0)]
    return dict.fromkeys(
        tuple({first: i, second: j}.get(at, 0) for at in range(len(counts)))
        for first, second in two
        for i, j in product(range(counts[first]), range(counts[second]))
    )


def _together(line: str, suggested: Mapping[str, Any]) -> str:
    """For a complaint that no single value explains: the suggested values of which it speaks."""
    if any(f": {key} = " in line or f": {key}." in line for key in suggested):
        return ""
    words = set(re.findall(r"[\w.+-]+", line))
    named = {key: value for key, value in suggested.items() if key in words or str(value) in words} or suggested
    return f" (the search may suggest {', '.join(f'{key} = {value}' for key, value in named.items())} together)"
