"""The trials of earlier studies with which a search begins (`search.warm_start`).

Taken are finished trials that the search could have suggested: their configuration differs from its own in keys of its
space alone, and they were measured on the same images. They are none of its trials: it trains as many as without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lchp.data.digest import Digest
from lchp.data.fingerprint import canonical, differences
from lchp.errors import Refusal, first_of
from lchp.store.folder import StageFolder
from lchp.store.study_folder import store_of
from lchp.study.run.ledger import Entry, read
from lchp.study.spec.load import Study
from lchp.study.spec.search import PerChoice, Search, holds
from lchp.study.spec.values import config_value
from lchp.training.box_free import stored_objective
from lchp.training.identity import results_form, stored_config

_NAMED = 3


@dataclass(frozen=True)
class Earlier:
    """What an earlier study knows of one suggestion: the mean over the seeds of the search."""

    name: str
    values: dict[str, Any]
    """Of all keys of the space."""
    objective: float


class _Unfit(ValueError):
    """Why a trial is not taken."""


def require_earlier(study: Study, output: Path) -> None:
    """See that the studies with which a search begins were run.

    Raises:
        Refusal: one was not, or its list of trials is damaged.
    """
    for folder in _folders(study, output):
        _read(folder)


def earlier_trials(study: Study, output: Path, digest: Digest, say: Callable[[str], None]) -> list[Earlier]:
    """The trials with which a search begins, whose images are those of ``digest``; tells how many are taken of each
    study, and why the others are not.
    """
    found: dict[str, Earlier] = {}
    for folder in _folders(study, output):
        store = store_of(folder.parent)
        reached: dict[str, list[tuple[Entry, dict[str, Any], float]]] = {}
        unfit, finished = Counter[str](), [entry for entry in _read(folder) if entry.state == "finished"]
        for entry in finished:
            try:
                values, objective = _fitting(study, StageFolder(store / entry.folder), digest.total)
            except _Unfit as error:
                unfit[str(error)] += 1
            else:
                reached.setdefault(canonical(values), []).append((entry, values, objective))
        taken = 0
        for key, trials in reached.items():
            if len(trials) < study.repeats:
                unfit["not trained with each seed of the search"] += len(trials)
            elif key in found:
                unfit["alike to one that was taken before"] += len(trials)
            else:
                taken += len(trials)
                name = f"{folder.name} {trials[0][0].name}"
                found[key] = Earlier(name, trials[0][1], fmean(objective for *_, objective in trials))
        reasons = "".join(f"; {count}: {reason}" for reason, count in unfit.items())
        say(f"{study.name}: the search begins with {taken} of {len(finished)} finished trials of {folder}{reasons}")
    return list(found.values())


def _read(folder: Path) -> list[Entry]:
    try:
        return read(folder)
    except Refusal as error:
        raise Refusal(f"search.warm_start: {error}") from error


def _folders(study: Study, output: Path) -> list[Path]:
    """Where the earlier studies lie: beside this one, or where a path says."""
    assert study.search is not None, "only a search begins with others' trials"
    return [Path(name) if "/" in name else output / name for name in study.search.warm_start]


def _fitting(study: Study, folder: StageFolder, total: str) -> tuple[dict[str, Any], float]:
    """The values and the objective of a finished trial that the search could have suggested.

    Raises:
        _Unfit: it is another.
    """
    assert study.search is not None, "only a search has a space"
    try:
        config, images = stored_config(folder.config()), folder.dataset_digest()
        objective = stored_objective(study.search.objective.key, folder)
    except (OSError, ValueError):
        raise _Unfit("files that are damaged, gone or of another version") from None
    values = {key: config_value(config, key) for key in study.varied}
    if not _in_space(study.search, values):
        raise _Unfit("values outside of the space")
    try:
        suggested = study.suggested(0, values)
    except Refusal:
        raise _Unfit("values outside of the space") from None
    mine = next((trial.config for trial in suggested if trial.config.seed == config.seed), None)
    if mine is None:
        raise _Unfit(f"seed {config.seed}")
    fields = [line.partition(":")[0] for line in differences(results_form(config), results_form(mine))]
    if fields:
        raise _Unfit(f"another {first_of(fields, _NAMED)}")
    if images != total:
        raise _Unfit("other images")
    if objective is None:
        raise _Unfit(f"no stored {study.search.objective.key}")
    return values, objective


def _in_space(search: Search, values: dict[str, Any]) -> bool:
    """Whether a search may suggest these values of all its keys."""
    plain = {key: whole for key, whole in search.space.items() if not isinstance(whole, PerChoice)}
    if not all(holds(whole, values[key]) for key, whole in plain.items()):
        return False
    return all(holds(inside, values[key]) for key, inside in search.part(values).items())
