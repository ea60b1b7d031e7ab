"""What a search comes to: its best trial or its front, and why it made no more suggestions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from optuna.study import Study as OptunaStudy

from lchp.data.files import write_json, write_text
from lchp.store.study_folder import StudyFolder
from lchp.study.run.optuna_storage import EARLIER, best, completed, earlier_of, front, open_search, pruned
from lchp.study.run.results import run_or_key
from lchp.study.run.stops import Spending, stop_reason
from lchp.study.run.suggestions import values_of
from lchp.study.spec.load import Study
from lchp.study.spec.trials import suggestion_name

if TYPE_CHECKING:
    from lchp.study.run.recorder import Recorder


def name_best(study: Study, recorder: Recorder) -> list[Path]:
    """Name the best trial of a search by val; gives the file."""
    assert study.search is not None, "only a search has a best trial"
    folder = recorder.ledger.folder
    stored = open_search(study.name, folder)
    chosen = best(stored)
    if chosen is None:
        return []
    if study.search.cost is not None:
        return [_front(study, recorder, stored)]
    entries = [recorder.entry(trial) for trial in study.suggested(chosen.number, values_of(chosen.params))]
    objective, first = study.search.objective, entries[0]
    named = {
        "name": first.name if study.repeats == 1 else suggestion_name(chosen.number, first.varied),
        "number": chosen.number,
        "values": values_of(chosen.params),
        "objective": objective.key,
        "needs_boxes": objective.needs_boxes,
        "value": chosen.value,
        "run_id": run_or_key(first),
    }
    if not objective.needs_boxes:
        named["reached"] = _reached(stored)
    if study.repeats > 1:
        named["run_ids"] = {str(entry.seed): run_or_key(entry) for entry in entries}
    file = StudyFolder(folder).best
    write_json(file, named)
    mean = "" if study.repeats == 1 else f", the mean of {study.repeats} seeds"
    free = "" if objective.needs_boxes else ", without true boxes"
    recorder.say(f"best by {objective.key}{free}: {named['name']} with {chosen.value:.4f}{mean}")
    better = max(earlier_of(stored), key=lambda trial: trial.values[0], default=chosen)
    if better.value > chosen.value:
        recorder.say(f"an earlier study's {better.user_attrs[EARLIER]} had more, {better.value:.4f}")
    return [file]


def _reached(stored: OptunaStudy) -> dict[str, float]:
    """The objective of every finished suggestion, by its number, where tables show it."""
    return {str(trial.number): trial.values[0] for trial in completed(stored)}


def _front(study: Study, recorder: Recorder, stored: OptunaStudy) -> Path:
    """Name the trials of a search for two objectives than which none is better in both; gives the file."""
    assert study.search is not None, "only a search has objectives"
    objective, lines, found = study.search.objective, [], []
    for chosen in front(stored):
        entries = [recorder.entry(trial) for trial in study.suggested(chosen.number, values_of(chosen.params))]
        value, cost = chosen.values
        found.append(
            {
                "number": chosen.number,
                "values": values_of(chosen.params),
                "value": value,
                "gflop": cost,
                "run_ids": {str(entry.seed): run_or_key(entry) for entry in entries},
            }
        )
        lines.append(
            f"{suggestion_name(chosen.number, entries[0].varied)} with {value:.4f} at {cost:.4g} GFLOP an image"
        )
    file = StudyFolder(recorder.ledger.folder).best
    write_json(
        file,
        {
            "objective": objective.key,
            "needs_boxes": objective.needs_boxes,
            "front": found,
            "reached": _reached(stored),
            "gflop": {str(trial.number): trial.values[1] for trial in completed(stored)},
        },
    )
    recorder.say("\n".join([f"best by {objective.key} and by cost:", *lines]))
    return file


def note_stop(study: Study, recorder: Recorder) -> str | None:
    """Tell and write down why a search has made fewer suggestions than it may; None where it has made all."""
    assert study.search is not None, "only a search stops"
    folder = recorder.ledger.folder
    stored, file = open_search(study.name, folder), StudyFolder(folder).stopped
    ended = len(completed(stored)) + len(pruned(stored))
    reason = stop_reason(study, stored, Spending.of(folder, study.search.stop)) if ended < study.suggestions else None
    if reason is None:
        file.unlink(missing_ok=True)
        return None
    text = f"The search stopped after {ended} of {study.suggestions} suggestions: {reason}."
    write_text(file, text + "\n")
    recorder.say(text)
    return text
