"""What a search may suggest: its space, checked and read in its one spelling, and the suggestions that it is given."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

from lchp.study.spec.complaints import check
from lchp.study.spec.parse import Location
from lchp.study.spec.schema import StudyKeys
from lchp.study.spec.search import Choice, PerChoice, Range, Search, Values, choices, holds, word
from lchp.study.spec.source import Source
from lchp.study.spec.values import config_value
from lchp.study.spec.vary import MOST_TRIALS, check_keys
from lchp.training.config import TrialConfig
from lchp.training.identity import is_of_refinement, unread
from lchp.vocabulary import BOX_FREE

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
    mistakes += _check_seeds(search, keys, source) + _check_group(search, source) + _check_cost(search, source)
    mistakes += _check_numbers(search, source)
    if search.pruner and search.objective.metric in BOX_FREE:
        mistakes.append(
            f"{source.place(('search', 'objective'))}: search.objective.metric = {search.objective.metric}: is "
            "measured at a trial's end, and search.pruner judges epochs: choose another metric, or leave `pruner` out"
        )
    mistakes += [
        f"{source.place(('search', 'warm_start', index))}: search.warm_start: {name}: is this study itself: name others"
        for index, name in enumerate(search.warm_start)
        if name == keys.name
    ]
    if mistakes:
        return search, mistakes
    mistakes = _dependences(search, source)
    if mistakes:
        return search, mistakes
    read_back, mistakes = _combined(search, base, source)
    if mistakes:
        return search, mistakes
    space = {key: _typed((*at, key), values, read_back, search) for key, values in search.space.items()}
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


def _check_numbers(search: Search, source: Source) -> list[str]:
    """A sampler of numbers that finds none."""
    if search.sampler != "cmaes" or any(isinstance(values, Range) for values in search.space.values()):
        return []
    place = source.place(("search", "sampler"))
    return [
        f"{place}: search.sampler = cmaes: draws numbers, and no key of the space always has a range: give "
        "one `{low: ..., high: ...}`, or choose another"
    ]


def _check_cost(search: Search, source: Source) -> list[str]:
    """What wants one objective where there are two, or two where there is one."""
    if search.cost is None:
        if search.sampler != "nsga2":
            return []
        place = source.place(("search", "sampler"))
        return [f"{place}: search.sampler = nsga2: is for two objectives: add `cost: gflop`, or choose another"]
    place = f"{source.place(('search', 'cost'))}: search.cost = {search.cost}"
    one = {
        "search.pruner judges": search.pruner is not None,
        "search.stop.patience waits for": search.stop.patience is not None,
        "search.sampler = cmaes draws by": search.sampler == "cmaes",
    }
    return [
        f"{place}: makes a front of best trials, and {what} a single one: leave one of the two out"
        for what, asked in one.items()
        if asked
    ]


def _check_group(search: Search, source: Source) -> list[str]:
    """Groups over one initialization that would be all suggestions, or single ones."""
    place = f"{source.place(('search', 'group'))}: search.group = {search.group}"
    if search.group == 1:
        return []
    of_refinement = [key for key in search.space if is_of_refinement(key)]
    if not of_refinement or len(of_refinement) == len(search.space):
        what = "no key that refinement alone reads" if not of_refinement else "none that initialization reads"
        return [f"{place}: shares an initialization among suggestions, and search.space has {what}: leave it out"]
    return [
        f"{place}: draws {key} once for so many suggestions, and search.grid has another in each: leave one of the "
        "two out"
        for key in search.grid
        if key not in of_refinement
    ]


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
        ends, unfit = _values_beside(search, key, typed)
        if ends is None:
            place = source.place(("search", "first", index, key))
            mistakes.append(f"{place}: search.first.{key}: {unfit}")
        elif not holds(ends, value):
            allowed = f"{ends.low} to {ends.high}" if isinstance(ends, Range) else ", ".join(map(str, ends))
            place = source.place(("search", "first", index, key))
            mistakes.append(f"{place}: search.first.{key} = {value}: is not in the space: choose of {allowed}")
    return typed, mistakes


def _values_beside(search: Search, key: str, point: Mapping[str, Choice]) -> tuple[Values | None, str]:
    """What a key may be beside the other values of a suggestion; None with the reason and remedy where it is not
    searched there.
    """
    values = search.space[key]
    if not isinstance(values, PerChoice):
        return values, ""
    if values.per not in point:
        return None, f"depends on {values.per}: name that, too"
    found = values.values.get(word(point[values.per]))
    return found, f"is not searched with {values.per} = {point[values.per]}: leave it out"


def _dependences(search: Search, source: Source) -> list[str]:
    """Keys that depend on what is no list of choices, or on choices that it does not have."""
    mistakes = []
    for key, values in search.space.items():
        if not isinstance(values, PerChoice):
            continue
        at, deciding = ("search", "space", key), search.space.get(values.per)
        if not isinstance(deciding, tuple):
            mistakes.append(
                f"{source.place((*at, 'per'))}: search.space.{key}.per = {values.per}: is no key of `search.space` "
                "with a list of choices: name one that is"
            )
            continue
        known = list(map(word, deciding))
        mistakes += [
            f"{source.place((*at, 'values', name))}: search.space.{key}.values.{name}: is no choice of {values.per}: "
            f"choose of {', '.join(known)}"
            for name in values.values
            if name not in known
        ]
    return mistakes


def _slots(at: Location, values: Values) -> dict[Location, Choice]:
    """The choices of a key, or the ends of its range, by their place in the file."""
    if isinstance(values, Range):
        return {(*at, "low"): values.low, (*at, "high"): values.high}
    return {(*at, position): value for position, value in enumerate(values)}


def _places(search: Search, part: Mapping[str, Values]) -> dict[str, tuple[Location, dict[Location, Choice]]]:
    """Where in the file the values of each key of a part of the space stand, and its slots there."""
    found = {}
    for key, values in part.items():
        at: Location = ("search", "space", key)
        whole = search.space[key]
        if isinstance(whole, PerChoice):
            (decided,) = choices(part[whole.per])
            at = (*at, "values", word(decided))
            found[key] = at, _slots(at, values)
        else:
            # Of a deciding key the part has one choice of several.
            kept = {
                slot: value
                for slot, value in _slots(at, whole).items()
                if key not in search.deciding or value in choices(values)
            }
            found[key] = at, kept
    return found


def _typed(at: Location, values: Any, read_back: Mapping[Location, Any], search: Search) -> Any:
    """The values of a key as the configuration read them, each once."""
    if isinstance(values, PerChoice):
        decided = search.space[values.per]
        assert isinstance(decided, tuple), "checked before"
        names = {word(choice): word(read_back["search", "space", values.per, i]) for i, choice in enumerate(decided)}
        inner = {
            names[name]: _typed((*at, "values", name), own, read_back, search) for name, own in values.values.items()
        }
        return values.model_copy(update={"values": inner})
    typed = tuple(dict.fromkeys(read_back[slot] for slot in _slots(at, values)))
    return Range(low=typed[0], high=typed[1], log=values.log) if isinstance(values, Range) else typed


def _combined(search: Search, base: Source, source: Source) -> tuple[dict[Location, Any], list[str]]:
    """What the choices and the ends of ranges are read as, by their place, and the combinations that are illegal.

    A value that the base configuration does not allow may be fine with every suggestion of another key: only whole
    combinations tell.
    """
    read_back: dict[Location, Any] = {}
    mistakes: dict[str, str] = {}
    reasons: dict[Location, str] = {}
    """Why the values at a place are not read, in some combination."""
    read: set[Location] = set()
    """The places of values that are, in some other."""
    for part in search.parts():
        places = _places(search, part)
        ranges = [key for key, values in part.items() if isinstance(values, Range)]
        for positions in _combinations([len(slots) for _, slots in places.values()]):
            chosen = {key: list(slots)[at] for (key, (_, slots)), at in zip(places.items(), positions, strict=True)}
            suggested = {key: places[key][1][slot] for key, slot in chosen.items()}
            trial = base
            for key, slot in chosen.items():
                trial = trial.put(tuple(key.split(".")), suggested[key], source.place(slot))
            built, complaints = check(TrialConfig, trial)
            if built is not None:
                read_back.update({slot: config_value(built, key) for key, slot in chosen.items()})
                found = unread(built)
                reasons.update(
                    {places[k][0]: f"{found[k]} = {config_value(built, found[k])}" for k in part if k in found}
                )
                read.update(places[key][0] for key in part if key not in found)
            for line in complaints:
                # Both ends of a range outside what is allowed are one mistake.
                of_range = [key for key in ranges if f": {key} = " in line]
                mistakes.setdefault(of_range[0] if of_range else line, line + _together(line, suggested))
    lines = list(mistakes.values()) or [
        f"{source.place(at)}: {'.'.join(map(str, at))}: is not read with {reason}: leave it out, or search what reads "
        "it, too"
        for at, reason in reasons.items()
        if at not in read
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
