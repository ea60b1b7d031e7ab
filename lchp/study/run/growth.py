"""What a study that was edited keeps of its folder: which finished trials stay, and which it has no more.

What a finished trial means is what its files say it was trained with, whatever the study called it: a trial with
another name, of a study that varies more keys, is found by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lchp.data.fingerprint import canonical, differences
from lchp.errors import counted, first_of
from lchp.store.folder import StageFolder
from lchp.study.run.ledger import Entry
from lchp.study.spec.load import Study
from lchp.study.spec.trials import ResolvedTrial
from lchp.study.spec.values import config_value
from lchp.training.config import TrialConfig
from lchp.training.identity import results_form, stored_config
from lchp.vocabulary import INITIALIZATION, REFINEMENT

_NAMED = 20
STOPS = "search.stop."
"""How the fields begin that say how far a search goes, not what it suggests."""


@dataclass(frozen=True)
class Growth:
    """What becomes of a study's folder with the study as it is now; trials by name."""

    count: int
    """The trials that the study has now, those apart that a search has pruned."""
    changes: tuple[str, ...] = ()
    """The fields in which it is another than its folder holds."""
    reused: tuple[str, ...] = ()
    """Finished trials that stay, as the study calls them now."""
    longer: tuple[str, ...] = ()
    """Those that go on to more epochs than they have."""
    anew: tuple[str, ...] = ()
    """Those that are trained again for more epochs: their rate looks ahead to the last one."""
    dropped: tuple[str, ...] = ()
    """Finished trials that the study has no more, as its folder calls them."""
    refused: tuple[str, ...] = ()
    """Why it cannot go on there: the fields by which finished trials would mean something else."""

    @property
    def trained(self) -> int:
        """How many trials are to be trained."""
        return max(0, self.count - len(self.reused))

    @property
    def is_free(self) -> bool:
        """Whether no trial is finished: there is nothing that a change could make mean something else."""
        return not (self.reused or self.longer or self.anew or self.dropped or self.refused)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``lchp study plan --json``."""
        return {
            "changes": list(self.changes),
            "train": self.trained,
            "longer": list(self.longer),
            "anew": list(self.anew),
            "reuse": list(self.reused),
            "drop": list(self.dropped),
            "refused": list(self.refused),
        }

    def __str__(self) -> str:
        """What a run does, for people."""
        if self.refused:
            return "\n".join(
                ["refuses the change, for what is finished there:", *(f"  {line}" for line in self.refused)]
            )
        parts = [f"reuses {_count(self.reused)}", f"trains {self.trained} of {self.count}"]
        if self.longer:
            parts[-1] += (
                f", {len(self.longer)} of them finished but to go on to more epochs ({first_of(self.longer, _NAMED)})"
            )
        if self.anew:
            parts[-1] += (
                f", {len(self.anew)} of them finished but to be trained anew for more epochs, to whose last one their "
                f"rate looks ahead ({first_of(self.anew, _NAMED)})"
            )
        if self.dropped:
            parts.append(f"drops {_count(self.dropped)}, whose runs and files stay ({first_of(self.dropped, _NAMED)})")
        return "; ".join(parts)


def changes(study: Study, held: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields in which a study's identity is not ``held``, that of its folder."""
    return tuple(differences(held, json.loads(json.dumps(study.identity()))))


def growth(study: Study, held: Mapping[str, Any], entries: Sequence[Entry], store: Path) -> Growth:
    """What becomes of a folder that holds a study of the identity ``held`` and the trials ``entries``, whose files are
    in ``store``.
    """
    changed = changes(study, held)
    finished, pruned = ([entry for entry in entries if entry.state == state] for state in ("finished", "pruned"))
    left = study.count - len(pruned)
    if not (changed and finished):
        return Growth(left, changed, tuple(entry.name for entry in finished))
    # By what suggestions reached others were suggested: of a search nothing changes but how many they are.
    more = study.search is not None and study.search.trials >= len({entry.number for entry in [*finished, *pruned]})
    fixed = ("search: ", "search.", *(["seeds"] if study.search else []))
    allowed = (STOPS, *(["search.trials: "] if more else []))
    refused = [line for line in changed if line.startswith(fixed) and not line.startswith(allowed)]
    if refused:
        return Growth(left, changed, refused=tuple(refused))
    configs: list[tuple[Entry, TrialConfig]] = []
    for entry in finished:
        try:
            configs.append((entry, stored_config(StageFolder(store / entry.folder).config())))
        except ValueError:
            refused.append(f"{entry.name}: what it was trained with is not known, its files are damaged or gone")
    found = list(_suggestions(study, configs) if study.search else _planned(study, configs))
    reused, longer, anew, dropped = (tuple(name for name, fate in found if fate == word) for word in _FATES)
    refused += dict.fromkeys(line for _, fate in found if isinstance(fate, list) for line in fate)
    if not (reused or longer or anew or refused):
        refused = [*changed, "no finished trial would stay"]
    return Growth(left, changed, reused, longer, anew, dropped, tuple(refused))


_FATES = ("reused", "longer", "anew", "dropped")
_Fate = tuple[str, str | list[str]]
"""The name of a finished trial, and one of :data:`_FATES` or the fields by which it would mean something else."""


def _planned(study: Study, finished: Sequence[tuple[Entry, TrialConfig]]) -> Iterator[_Fate]:
    """What becomes of the finished trials of a grid."""
    alike: dict[str, list[ResolvedTrial]] = {}
    for trial in study.trials:
        alike.setdefault(canonical(results_form(trial.config)), []).append(trial)

    @cache
    def by_label(keys: tuple[str, ...]) -> dict[str, ResolvedTrial]:
        return {_label(trial.config, keys): trial for trial in study.trials}

    for entry, config in finished:
        twins = alike.get(canonical(results_form(config)))
        if twins:
            # Several may differ in nothing but where their data lie.
            twin = next((trial for trial in twins if trial.varied == entry.varied), twins[0])
            twins.remove(twin)
            yield twin.name, "reused"
            continue
        keys = tuple(dict.fromkeys((*study.varied, *entry.varied)))
        row = by_label(keys).get(_label(config, keys))
        if row is None:
            yield entry.name, "dropped"
        else:
            yield row.name, _clashes(results_form(config), results_form(row.config)) or _lengthened(config, row.config)


def _suggestions(study: Study, finished: Sequence[tuple[Entry, TrialConfig]]) -> Iterator[_Fate]:
    """What becomes of the finished trials of a search, of which none is trained longer."""
    for entry, config in finished:
        trials = study.suggested(entry.number, entry.varied)
        trial = next((trial for trial in trials if trial.config.seed == entry.seed), trials[0])
        yield trial.name, _lines(results_form(config), results_form(trial.config)) or "reused"


def _label(config: TrialConfig, keys: Sequence[str]) -> str:
    """The row that a trial is: its seed, and the values of what varies."""
    return canonical([config.seed, *(config_value(config, key) for key in keys)])


def _clashes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The fields by which a finished trial of the form ``old`` would mean something else; more epochs are none."""
    longer = [stage for stage in (INITIALIZATION, REFINEMENT) if old[stage]["epochs"] < new[stage]["epochs"]]
    allowed = tuple(f"base.{stage}.epochs: " for stage in longer)
    return [line for line in _lines(old, new) if not line.startswith(allowed)]


def _lengthened(old: TrialConfig, new: TrialConfig) -> str:
    """Whether a trial goes on to more epochs, or is trained anew for them."""
    stages = ((old.initialization, new.initialization), (old.refinement, new.refinement))
    goes_on = all(after.open_ended for before, after in stages if before.epochs < after.epochs)
    return "longer" if goes_on else "anew"


def _lines(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The fields in which two forms differ, by their place in the study's configuration."""
    return [f"base.{line}" for line in differences(old, new)]


def _count(names: Sequence[str]) -> str:
    return counted(len(names), "finished trial")
