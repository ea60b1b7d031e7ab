"""A study from its specification to its tables: what is finished is kept, what is missing is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lchp.data.files import write_text
from lchp.data.fingerprint import fingerprint
from lchp.errors import Refusal
from lchp.study.plan.trials import PlannedTrial, in_training_order
from lchp.study.run.ledger import Entry, Ledger
from lchp.study.run.options import Machine
from lchp.study.run.ownership import alone, claim
from lchp.study.run.prepare import prepare
from lchp.study.run.recorder import Materials, Recorder, Tracker
from lchp.study.run.results import make_tables
from lchp.study.run.trainable import Session
from lchp.study.spec.load import Study
from lchp.tracking.runs import ensure_run, fail_run, find_run, finish_run, is_complete
from lchp.tracking.store import ensure_experiment, open_store
from lchp.training.config import TrialConfig
from lchp.training.trial import DONE

BEST = "best.json"


def run_study(
    study: Study, output: Path, tracking_uri: str | None, machine: Machine, echo: Callable[[str], None]
) -> int:
    """Run or continue a study in ``output/<study>``; gives the exit code: 0, or 1 if a trial failed.

    Raises:
        Refusal: before anything starts: folders that cannot be written, missing data or weights, a store that cannot be
            opened, a folder that holds another configuration.
    """
    session, trials, materials = prepare(study, output, machine)
    folder = output / study.name
    try:
        uri = open_store(tracking_uri, Path.cwd())
        experiment = ensure_experiment(uri, study.name)
    except ValueError as error:
        raise Refusal(str(error)) from error
    with alone(folder):
        claim(study, folder, materials)
        return _run(study, output, session, trials, materials, (uri, experiment), echo)


def _run(
    study: Study,
    output: Path,
    session: Session,
    trials: tuple[PlannedTrial, ...],
    materials: Materials,
    store: tuple[str, str],
    echo: Callable[[str], None],
) -> int:
    """Train what is missing and make the tables; ``store`` is the MLflow URI and the experiment's id."""
    uri, experiment = store
    folder = output / study.name
    identity = study.identity()
    shown = {"study": study.name, "question": study.question or "", "trials": _count(study, trials)}
    parent = ensure_run(uri, experiment, study.name, f"study-{fingerprint(identity)}", None, shown, {})
    ledger = Ledger(folder)
    recorder = Recorder(
        study, session, materials, Tracker(uri, experiment, parent), ledger, _count(study, trials), echo
    )
    missing = _keep_finished(recorder, trials)
    ledger.write()
    if study.search:
        return _end(study, output, recorder, _run_search(study, recorder))
    if not missing:
        echo(f"all {len(trials)} trials of {study.name} are finished: nothing to train")
    else:
        echo(f"{study.name}: {len(missing)} of {len(trials)} trials to train, into {folder}")
        _train(study, recorder, [trial.name for trial in missing], len(missing))
    return _end(study, output, recorder, [])


def _count(study: Study, trials: tuple[PlannedTrial, ...]) -> int:
    return study.search.trials if study.search else len(trials)


def _keep_finished(recorder: Recorder, trials: tuple[PlannedTrial, ...]) -> list[PlannedTrial]:
    """Record the trials whose files are complete, mending their MLflow runs; gives the others in training order."""
    missing = []
    for trial in trials:
        entry = recorder.entry(trial.config)
        if _is_finished(recorder, entry):
            _keep(recorder, trial.config, entry)
        else:
            missing.append(trial)
    return in_training_order(missing)


def _is_finished(recorder: Recorder, entry: Entry) -> bool:
    return (recorder.session.runtime.store / entry.folder / DONE).exists()


def _keep(recorder: Recorder, config: TrialConfig, entry: Entry) -> None:
    tracker = recorder.tracker
    run_id = find_run(tracker.uri, tracker.experiment, Path(entry.folder).name)
    if run_id is not None and is_complete(tracker.uri, run_id):
        recorder.ledger.change(entry.folder, state="finished", epochs=entry.of, run_id=run_id)
    else:
        recorder.finish(config, recorder.start(config, entry))


def _train(study: Study, recorder: Recorder, names: list[str], missing: int) -> None:
    from lchp.study.run.ray_tune import train

    try:
        train(study, names, missing, recorder)
    except KeyboardInterrupt:
        recorder.interrupt()
        raise


def _end(study: Study, output: Path, recorder: Recorder, files: list[Path]) -> int:
    """Tables, the parent run and the exit code."""
    entries = list(recorder.ledger.entries.values())
    bad = [entry for entry in entries if entry.state != "finished"]
    tracker = recorder.tracker
    if len(bad) < len(entries):
        recorder.echo(make_tables(study, output))
        tables = [file for file in sorted((output / study.name).iterdir()) if file.suffix in {".csv", ".md", ".html"}]
        finish_run(tracker.uri, tracker.parent, [*tables, *files])
    if bad:
        lines = [f"{entry.name}: {entry.state}: {entry.message or 'not trained to its end'}" for entry in bad]
        message = "\n".join([f"{len(bad)} of {len(entries)} trials are not finished:", *lines])
        fail_run(tracker.uri, tracker.parent, message)
        recorder.echo(message)
        return 1
    return 0


def _run_search(study: Study, recorder: Recorder) -> list[Path]:
    """Train the suggestions that are missing, and name the best by val."""
    from lchp.study.run.optuna_search import best, completed, open_search

    assert study.search is not None
    found = open_search(study.name, recorder.folder)
    for trial in completed(found):
        config = recorder.session.config({"trial": "", "suggestion": trial.params})
        entry = recorder.entry(config, trial.number)
        if not _is_finished(recorder, entry):
            raise Refusal(
                f"{recorder.folder}: the search has finished {entry.name}, whose files are gone from "
                f"{recorder.session.runtime.store}: bring them back, or delete the folder and search again"
            )
        _keep(recorder, config, entry)
    missing = study.search.trials - len(completed(found))
    if missing <= 0:
        recorder.echo(f"all {study.search.trials} trials of {study.name} are finished: nothing to train")
    else:
        recorder.echo(f"{study.name}: {missing} of {study.search.trials} trials to train, into {recorder.folder}")
        _train(study, recorder, [], missing)
    chosen = best(open_search(study.name, recorder.folder))
    if chosen is None:
        return []
    config = recorder.session.config({"trial": "", "suggestion": chosen.params})
    entry = recorder.entry(config, chosen.number)
    named: dict[str, Any] = {
        "name": entry.name,
        "number": chosen.number,
        "values": chosen.params,
        "objective": study.search.objective.key,
        "value": chosen.value,
        "run_id": entry.run_id,
    }
    file = recorder.folder / BEST
    write_text(file, json.dumps(named, indent=1))
    recorder.echo(f"best by {named['objective']}: {entry.name} with {chosen.value:.4f}")
    return [file]
