"""What a study will train: its trials and the initializations they share, for people and for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lchp.data.config import DatasetConfig
from lchp.data.fingerprint import fingerprint
from lchp.data.kinds import Counts
from lchp.errors import counted
from lchp.study.plan.cost import GFLOPS, Cost, cost_of
from lchp.study.spec.load import Study
from lchp.study.spec.presence import absent
from lchp.study.spec.search import Search
from lchp.study.spec.trials import ResolvedTrial
from lchp.training.config import TrialConfig
from lchp.training.identity import (
    initialization_course,
    initialization_key,
    is_of_refinement,
    out_of_fold_key,
    reference_key,
    trial_course,
)


@dataclass(frozen=True)
class Plan:
    """What a study trains. A search knows no trials in advance: at most so many initializations."""

    study: Study
    initializations: int
    images: Mapping[DatasetConfig, Counts | None]
    """Of every dataset that it trains on; None of one that is not at hand and has no published size."""
    cost: Cost | None
    """None where the images of a dataset are not known."""
    references: int = 0
    """Distinct ones that stand beside the trials."""
    out_of_fold: int = 0
    """Distinct sets of classifiers of that confidence; of a search at most so many."""
    continued: int = 0
    """Stages, of either kind, that go on from where a shorter one of the same course ends."""
    missing: tuple[str, ...] = ()
    """What lies not where the study says that it does: without it the study cannot run."""

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain values, for ``lchp study plan --json``."""
        cost = self.cost
        return {
            "study": self.study.name,
            "question": self.study.question,
            "trials": self.study.count,
            "initializations": self.initializations,
            "references": self.references,
            "out_of_fold": self.out_of_fold,
            "continued": self.continued,
            "varied": list(self.study.varied),
            "seeds": list(self.study.seeds),
            "images": _plain(list(self.images.values())),
            "missing": list(self.missing),
            "gflop": {**asdict(cost), "total": cost.total} if cost else None,
            "hours": cost.hours() if cost else None,
            "trial_list": [
                {
                    "name": trial.name,
                    "seed": trial.config.seed,
                    "values": trial.varied,
                    "initialization": initialization_name(trial.config),
                }
                for trial in self.study.trials
            ],
        }


def plan(study: Study, count: Callable[[DatasetConfig], Counts | None] = lambda dataset: dataset.published) -> Plan:
    """Plan a study. ``count`` is asked once for the images of each dataset (``lchp.study.plan.cost.count_images``)."""
    trials, initializations = _planned_search(study) if study.search else _planned(study)
    images = {dataset: count(dataset) for dataset in dict.fromkeys(config.dataset for config in trials)}
    known = {dataset: counts for dataset, counts in images.items() if counts}
    references = {
        fingerprint(reference_key(config, method)): config for config in trials for method in study.references
    }
    beside = list(references.values())
    judges = _sets_of_classifiers(study, trials, initializations)
    first, second = initializations, trials
    if not study.search:
        first, second = _ends(initializations, initialization_course), _ends(trials, trial_course)
    continued = len(initializations) - len(first) + len(trials) - len(second)
    cost = cost_of(trials, first, second, known, beside, judges) if len(known) == len(images) else None
    missing = tuple(dict.fromkeys(line for config in dict.fromkeys(trials) for line in absent(config)))
    return Plan(study, len(initializations), images, cost, len(references), len(judges), continued, missing)


def _planned(study: Study) -> tuple[list[TrialConfig], list[TrialConfig]]:
    """The trials, and one that needs each initialization."""
    shared = {initialization_name(trial.config): trial.config for trial in study.trials}
    return [trial.config for trial in study.trials], list(shared.values())


def _ends(configs: Sequence[TrialConfig], course: Callable[[TrialConfig], dict[str, Any]]) -> list[TrialConfig]:
    """The longest of each course: the shorter ones are trained on the way to it."""
    return list({fingerprint(course(config)): config for config in sorted(configs, key=_lengths)}.values())


def _lengths(config: TrialConfig) -> tuple[int, int]:
    return config.initialization.epochs, config.refinement.epochs


def _planned_search(study: Study) -> tuple[list[TrialConfig], list[TrialConfig]]:
    """A search: at most so many initializations, at the cost of the configuration below the suggestions."""
    count, config = study.count, study.searched
    shares = all(map(is_of_refinement, study.varied))
    return [config] * count, [config] * (study.repeats if shares else count)


def _sets_of_classifiers(
    study: Study, trials: Sequence[TrialConfig], initializations: Sequence[TrialConfig]
) -> list[TrialConfig]:
    """One trial that needs each set of classifiers of ``out_of_fold``; of a search as many as initializations."""
    if study.search:
        return [config for config in initializations if config.confidence.out_of_fold]
    shared = {fingerprint(out_of_fold_key(config)): config for config in trials if config.confidence.out_of_fold}
    return list(shared.values())


def _plain(images: Sequence[Counts | None]) -> Any:
    """Of one dataset its counts, of several a list of them."""
    plain = [asdict(counts) if counts else None for counts in images]
    return plain[0] if len(plain) == 1 else plain


def initialization_name(config: TrialConfig) -> str:
    """A short name of the initialization that a trial needs: trials with the same name share it."""
    return fingerprint(initialization_key(config))


def in_training_order(trials: Sequence[ResolvedTrial]) -> list[ResolvedTrial]:
    """The trials with those first that are the first to need their initialization, so that none waits without need;
    shorter ones before longer ones, which go on from where those end.
    """
    seen: set[str] = set()
    first: list[ResolvedTrial] = []
    later: list[ResolvedTrial] = []
    for trial in sorted(trials, key=lambda trial: _lengths(trial.config)):
        name = initialization_name(trial.config)
        (later if name in seen else first).append(trial)
        seen.add(name)
    return first + later


def as_text(planned: Plan) -> str:
    """The plan for people."""
    study = planned.study
    lines = [f"study {study.name}" + (f": {study.question}" if study.question else "")]
    at_most = "at most " if study.search else ""
    several = f" ({study.suggestions} suggestions with {study.repeats} seeds each)" if study.repeats > 1 else ""
    initializations = counted(planned.initializations, "distinct initialization")
    lines.append(f"{counted(study.count, 'trial')}{several}, {at_most}{initializations}")
    if planned.continued:
        lines.append(
            f"{planned.continued} stages go on from where a shorter one ends, as if trained from their beginning"
        )
    if planned.references:
        lines.append(f"{planned.references} references, trained on true boxes: {', '.join(study.references)}")
    if planned.out_of_fold:
        lines.append(f"{at_most}{planned.out_of_fold} distinct sets of out-of-fold classifiers")
    lines += [f"not there yet: {line}" for line in planned.missing]
    for counts in filter(None, planned.images.values()):
        lines.append(f"images: {counts.train} train, {counts.test} test ({counts.source})")
    if planned.cost:
        cost = planned.cost
        saved = 100 * (1 - cost.total / cost.unshared)
        judges = f"out-of-fold classifiers {_amount(cost.out_of_fold)}, " if cost.out_of_fold else ""
        lines.append(
            f"cost: about {_amount(cost.total)} (initialization {_amount(cost.initialization)}, {judges}refinement "
            f"{_amount(cost.refinement)}, evaluation {_amount(cost.evaluation)}; sharing saves {saved:.0f}%)"
        )
        hours = (f"{_hours(value)} on {device} at {GFLOPS[device]:g} GFLOP/s" for device, value in cost.hours().items())
        lines.append("roughly " + ", ".join(hours))
    else:
        lines.append("cost: unknown until the data is at hand (--data PATH)")
    lines += [f"  {trial.name}  (initialization {initialization_name(trial.config)})" for trial in study.trials]
    if study.search:
        lines += _told_of(study.search)
    return "\n".join(lines)


def _told_of(search: Search) -> list[str]:
    """What a search suggests, by what it chooses and when it ends."""
    lines = [f"  {key}: {json.dumps(values)}" for key, values in search.model_dump(mode="json")["space"].items()]
    lines.append(f"chooses by {search.objective.title}")
    if search.cost is not None:
        lines.append("two objectives: ends in a front over cost, GFLOP for each training image")
    if search.group > 1:
        lines.append(f"refinements in groups of {search.group} over one initialization")
    if search.warm_start:
        lines.append(f"begins with finished trials of {', '.join(search.warm_start)}")
    stops = search.stop.model_dump(exclude_none=True)
    if stops:
        lines.append(f"stops earlier by {', '.join(f'{name} = {value:g}' for name, value in stops.items())}")
    return lines


def _hours(hours: float) -> str:
    for unit, size in (("h", 1.0), ("min", 1 / 60)):
        if hours >= size:
            return f"{hours / size:,.0f} {unit}" if hours >= 10 * size else f"{hours / size:.1f} {unit}"
    return f"{3600 * hours:.2g} s"


def _amount(gflop: float) -> str:
    for unit, size in (("EFLOP", 1e9), ("PFLOP", 1e6), ("TFLOP", 1e3)):
        if gflop >= size:
            return f"{gflop / size:.3g} {unit}"
    return f"{gflop:.3g} GFLOP"
