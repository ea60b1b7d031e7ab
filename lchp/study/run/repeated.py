"""The options of a study's run, which who goes on with it gives again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from lchp.data.fingerprint import canonical, flatten
from lchp.study.spec.load import Study
from lchp.training.identity import ADDED


def repeated(study: Study, held: Mapping[str, Any]) -> str:
    """The options of the command line by which a study would be the one of the identity ``held``, that of its folder:
    keys as its file has them, with the values there. Empty where options cannot make it that.

    >>> from pathlib import Path
    >>> from lchp.shipped import study_file
    >>> from lchp.study.spec.load import load_study
    >>> file = study_file(Path("quickstart"))
    >>> was = load_study(file, ["refinement.epochs=1", "seeds=[0, 1]"]).identity()
    >>> repeated(load_study(file), was)
    '--set refinement.epochs=1 --seeds 0,1'
    >>> repeated(load_study(file), load_study(file, ["vary.delta=[0.3, 0.4]"]).identity())
    "--set 'vary.delta=[0.3,0.4]'"
    """
    now = json.loads(json.dumps(study.identity()))
    if bool(held.get("search")) != bool(now.get("search")):
        return ""
    grids = held.get("configurations", []), now["configurations"]
    varied = list(_varied(*grids))
    if grids[0] != grids[1] and not varied:
        return ""
    sets = [*_values("", held.get("base", {}), now["base"]), *varied]
    sets += _values("search.", held.get("search") or {}, now.get("search") or {})
    words = [word for option in sets for word in ("--set", option)]
    seeds = held.get("seeds", now["seeds"])
    if seeds != now["seeds"]:
        words += ["--seeds", ",".join(map(str, seeds))]
    return shlex.join(words)


def _values(head: str, held: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The values in which two mappings differ; a field that ``held`` lacks is as it was before there was such a one."""
    old, new = flatten(held), flatten(now)
    for key in sorted({*old, *new}):
        if key in old or key in ADDED:
            value = canonical(old[key] if key in old else ADDED[key].before)
            if key not in new or canonical(new[key]) != value:
                yield f"{head}{key}={value}"


def _varied(held: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The values of the keys that the grid ``held`` varies, where it has every combination and varies all that ``now``
    does: a key that is varied by the file stays so.
    """
    if not held or not now or not now[0].keys() <= held[0].keys():
        return
    sides = [{key: list(dict.fromkeys(canonical(one[key]) for one in side)) for key in side[0]} for side in (held, now)]
    old, new = sides
    if prod(map(len, old.values())) == len(held):
        yield from (f"vary.{key}=[{','.join(values)}]" for key, values in old.items() if values != new.get(key))
