"""A search whose journal is damaged, made again from its finished trials.

Optuna appends a line for everything that happens and reads all of them; one damaged line ends the search for ever. A
last line that a kill has cut is normal, but Optuna would append the next to it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages.journal._storage import JournalOperation
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, TrialState, create_trial

from lchp.data.files import replacing
from lchp.data.fingerprint import canonical
from lchp.errors import Refusal
from lchp.store.folder import StageFolder
from lchp.store.study_folder import StudyFolder
from lchp.study.run.cards import Cards
from lchp.study.run.ledger import Entry, finished
from lchp.study.run.optuna_search import sampler_of
from lchp.study.run.optuna_storage import (
    EARLIER,
    completed,
    earlier_of,
    open_search,
    place_of,
    set_search_aside,
    storage_url,
)
from lchp.study.run.pruning import JUDGED, REASON, reported
from lchp.study.run.suggestions import (
    GENERATION,
    POPULATION,
    distributions,
    is_whole,
    reached_by,
    suggested,
    values_of,
)
from lchp.study.run.warm_start import Earlier
from lchp.study.spec.load import Study
from lchp.study.spec.search import Search
from lchp.training.box_free import stored_objective


def restored_search(
    study: Study,
    folder: Path,
    entries: Sequence[Entry],
    store: Path,
    say: Callable[[str], None],
    earlier: Callable[[], Sequence[Earlier]] = tuple,
) -> OptunaStudy:
    """The persistent Optuna study in a study's folder, with every suggestion that is known to have been made.

    ``entries`` are the trials of earlier runs, whose objectives are in ``store``; a search begins with those of
    ``earlier`` studies. A journal that is damaged, or says something else than the trials, is told of, set aside and
    made again from them; one that was cut is completed. So is a database that says nothing of the search, or something
    else. The caller holds the study's folder: who had locked its journal is gone.
    """
    for lock in StudyFolder(folder).journal_locks():
        lock.unlink()
    assert study.search is not None, "only a search suggests"
    place, journal, objectives = place_of(folder), StudyFolder(folder).journal, _objectives(study, entries, store)
    try:
        if storage_url() is None:
            _cut_tail(journal)
        stored = open_search(study.name, folder, study.search.directions)
        if _is_half_suggested(study, stored):
            stored = _mended(study, stored, folder)
        _contradict(study, stored, entries, objectives)
    except (OSError, MemoryError, Refusal):  # the disk or the machine is at fault, and the journal may be whole
        raise
    except Exception as error:  # whatever a damaged journal makes of its reader, it is the journal that is at fault
        if storage_url() is not None and not isinstance(error, ValueError):
            raise
        reason = str(error) or type(error).__name__
        aside = set_search_aside(study.name, folder, study.search.directions)
        say(f"{place} is damaged ({reason}): {aside}, made again from the trials")
        stored = open_search(study.name, folder, study.search.directions)
    _begin(stored, study, entries, earlier)
    added = _complete(stored, study, folder, entries, objectives)
    if added:
        say(f"{place} lacked {added} suggestions: completed from the trials")
    return stored


def _objectives(study: Study, entries: Sequence[Entry], store: Path) -> dict[int, float]:
    """The objective of every suggestion whose trials are all finished and whole, by number."""
    assert study.search is not None, "only a search has an objective"
    key, reached = study.search.objective.key, defaultdict[int, list[float]](list)
    for entry in finished(entries, study.repeats):
        folder = StageFolder(store / entry.folder)
        if folder.whole and (value := stored_objective(key, folder)) is not None:
            reached[entry.number].append(value)
    return {number: fmean(values) for number, values in reached.items() if len(values) == study.repeats}


def _lines(journal: Path) -> list[bytes]:
    return journal.read_bytes().splitlines(keepends=True) if journal.exists() else []


def _keep_lines(journal: Path, lines: Sequence[bytes]) -> None:
    with replacing(journal) as part:
        part.write_bytes(b"".join(lines))


def _cut_tail(journal: Path) -> None:
    """Takes away a last line that a kill has cut, to which Optuna would append the next.

    Raises:
        ValueError: another line is no record.
    """
    lines = _lines(journal)
    if lines and not lines[-1].endswith(b"\n"):
        _keep_lines(journal, lines := lines[:-1])
    for number, line in enumerate(lines, 1):
        try:
            json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number}") from error


def _is_half_suggested(study: Study, stored: OptunaStudy) -> bool:
    """Whether a kill came between a suggestion and its values, which Optuna writes one by one."""
    assert study.search is not None, "only a search suggests"
    trials = stored.get_trials(deepcopy=False)
    return bool(trials and trials[-1].state == TrialState.RUNNING and not is_whole(study.search, trials[-1].params))


def _mended(study: Study, stored: OptunaStudy, folder: Path) -> OptunaStudy:
    """The search without its last suggestion, which is made again with the same values; in a database, from which none
    can be taken, it is completed to what it would have been.
    """
    assert study.search is not None, "only a search suggests"
    if storage_url() is None:
        _cut_last_suggestion(StudyFolder(folder).journal)
        return open_search(study.name, folder, study.search.directions)
    _complete_last(study.search, stored)
    return stored


def _complete_last(search: Search, stored: OptunaStudy) -> None:
    """Gives the last suggestion the values that it lacks. Samplers draw them one after the other: what comes first is
    drawn again, in a copy of the search.
    """
    *before, last = stored.get_trials(deepcopy=False)
    copy = optuna.create_study(directions=stored.directions, sampler=sampler_of(search, last.number))
    copy.add_trials(before)
    copy.add_trial(create_trial(state=TrialState.WAITING, system_attrs=last.system_attrs))
    suggested(copy, search)
    twin = copy.get_trials(deepcopy=False)[-1]
    for name, attribute in twin.system_attrs.items():
        if name not in last.system_attrs:
            stored._storage.set_trial_system_attr(last._trial_id, name, attribute)
    for name, space in twin.distributions.items():
        if name not in last.params:
            value = space.to_internal_repr(twin.params[name])
            stored._storage.set_trial_param(last._trial_id, name, value, space)


def _cut_last_suggestion(journal: Path) -> None:
    """Takes the last suggestion away; it is made again, with the same values."""
    lines = _lines(journal)
    created = [at for at, line in enumerate(lines) if json.loads(line)["op_code"] == JournalOperation.CREATE_TRIAL]
    _keep_lines(journal, lines[: created[-1]])


def _contradict(study: Study, stored: OptunaStudy, entries: Sequence[Entry], objectives: Mapping[int, float]) -> None:
    """ValueError names a complete suggestion that is not what was trained."""
    varied = {entry.number: entry.varied for entry in entries}
    for trial in completed(stored):
        if trial.number in objectives:
            suggested = json.loads(canonical(study.suggested(trial.number, values_of(trial.params))[0].varied))
            if trial.values[0] != objectives[trial.number] or suggested != varied[trial.number]:
                raise ValueError(f"suggestion {trial.number} is not what its trial's files say")


def _begin(
    stored: OptunaStudy, study: Study, entries: Sequence[Entry], earlier: Callable[[], Sequence[Earlier]]
) -> None:
    """Adds the trials of earlier studies to a search that has suggested nothing yet."""
    there = len(earlier_of(stored))
    if there < len(stored.get_trials(deepcopy=False)):
        return
    # Of one that is made again the numbers of its suggestions say how many there were.
    most = min((entry.number for entry in entries), default=None)
    for one in earlier()[there:most]:
        stored.add_trial(_told(study, one.values, one.objective, {EARLIER: one.name}))


def _parameters(search: Search, values: Mapping[str, Any]) -> tuple[dict[str, BaseDistribution], dict[str, Any]]:
    """Optuna's parameters of a suggestion with these values of all keys, and its values of them."""
    space = distributions(search, values)
    return space, {name: values[key] for name, key in zip(space, values_of(space), strict=True)}


def _told(
    study: Study,
    values: Mapping[str, Any],
    objective: float,
    attributes: dict[str, Any],
    generation: int | None = None,
    steps: dict[int, float] | None = None,
) -> FrozenTrial:
    """A complete suggestion; ``values`` are those of all keys, ``steps`` what it had reached after its epochs."""
    assert study.search is not None, "only a search suggests"
    space, params = _parameters(study.search, values)
    return create_trial(
        state=TrialState.COMPLETE,
        params=params,
        distributions=space,
        values=reached_by(study, values, objective),
        user_attrs=attributes,
        system_attrs={} if generation is None else {GENERATION: generation},
        intermediate_values=steps,
    )


def _complete(
    stored: OptunaStudy, study: Study, folder: Path, entries: Sequence[Entry], objectives: Mapping[int, float]
) -> int:
    """Adds the suggestions that the journal lacks, under their numbers; gives how many."""
    # Where one trial of a suggestion has failed, all of it has.
    known = {entry.number: entry for entry in sorted(entries, key=lambda entry: entry.state == "failed")}
    lacking = range(len(stored.get_trials(deepcopy=False)), max(known, default=-1) + 1)
    for number in lacking:
        entry = known.get(number)
        try:
            stored.add_trial(_suggestion(study, folder, entry, objectives.get(number)))
        except ValueError:  # values that the search does not suggest: nothing is known of it
            stored.add_trial(create_trial(state=TrialState.FAIL))
    return len(lacking)


def _suggestion(study: Study, folder: Path, entry: Entry | None, objective: float | None) -> FrozenTrial:
    """A suggestion as Optuna keeps it; one of which nothing is known has failed."""
    assert study.search is not None, "only a search suggests"
    if entry is None or entry.state == "failed" or not study.search.space.keys() <= entry.varied.keys():
        return create_trial(state=TrialState.FAIL)
    steps = _steps(study.search, folder, entry)
    judged = {JUDGED: max(steps)} if steps else {}
    if entry.state != "pruned" and objective is not None:
        generation = entry.number // POPULATION if study.search.sampler == "nsga2" else None
        return _told(study, entry.varied, objective, judged, generation, steps)
    space, params = _parameters(study.search, entry.varied)
    pruned = entry.state == "pruned"
    return create_trial(
        state=TrialState.PRUNED if pruned else TrialState.RUNNING,
        params=params,
        distributions=space,
        # As Optuna has it, which gives one that was stopped what it had reached last.
        value=steps[max(steps)] if pruned and steps else None,
        user_attrs={REASON: entry.message} if pruned and entry.message else judged,
        intermediate_values=steps,
    )


def _steps(search: Search, folder: Path, entry: Entry) -> dict[int, float]:
    """What a trial had reached after its epochs, as the card of its run says; nothing where that is damaged or gone."""
    with suppress(ValueError):
        return reported(search, Cards(folder).read(Path(entry.folder).name).epochs, entry.of)
    return {}
