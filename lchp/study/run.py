"""A study from its specification to its tables: what is finished is kept, what is missing is trained."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lchp.data.fingerprint import differences, fingerprint
from lchp.study.ledger import Entry, Ledger
from lchp.study.machine import Machine
from lchp.study.plan import PlannedTrial, in_training_order, plan
from lchp.study.results import make_tables, table_specs
from lchp.study.source import Refusal
from lchp.study.spec import Study
from lchp.study.tracked import Materials, Recorder, Tracker
from lchp.study.trainable import Session
from lchp.study.values import without_paths
from lchp.tracking.runs import ensure_run, fail_run, find_run, finish_run, is_complete
from lchp.tracking.store import ensure_experiment, open_store
from lchp.training.config import TrialConfig
from lchp.training.trial import DONE

CONFIGURATION = "study.json"
BEST = "best.json"


def run_study(
    study: Study, output: Path, tracking_uri: str | None, machine: Machine, echo: Callable[[str], None]
) -> int:
    """Run or continue a study in ``output/<study>``; gives the exit code: 0, or 1 if a trial failed.

    Raises:
        Refusal: before anything starts: missing data or weights, a store that cannot be opened, a folder that holds
            another configuration.
    """
    session, trials, materials = _prepare(study, output, machine)
    folder = output / study.name
    try:
        uri = open_store(tracking_uri, Path.cwd())
        experiment = ensure_experiment(uri, study.name)
    except ValueError as error:
        raise Refusal(str(error)) from error
    _claim(study, folder, materials)
    with _alone(folder):
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


def _prepare(study: Study, output: Path, machine: Machine) -> tuple[Session, tuple[PlannedTrial, ...], Materials]:
    """Everything that can be refused before a file is written for the study; the data is opened here, once."""
    table_specs(study)
    trials = plan(study).trials
    if study.search:
        configs = {"": _absolute(study.base.model_copy(update={"seed": study.seeds[0]}))}
    else:
        configs = {trial.name: _absolute(trial.config) for trial in trials}
    session = Session(machine.runtime(output), configs, study.search.objective.key if study.search else None)
    materials = Materials(session)
    try:
        for config in configs.values():
            materials.of(config)
    except ValueError as error:
        raise Refusal(str(error)) from error
    planned = (PlannedTrial(t.name, configs[t.name], t.seed, t.varied) for t in trials)
    return session, tuple(planned), materials


def _absolute(config: TrialConfig) -> TrialConfig:
    """The configuration with absolute paths: workers stand in other folders."""
    plain = config.model_dump(mode="json")
    path = plain["dataset"].get("path")
    if path is not None:
        plain["dataset"]["path"] = str(Path(path).absolute())
    for weights in plain["weights"].values():
        if isinstance(weights, dict):
            weights["file"] = str(Path(weights["file"]).absolute())
    return TrialConfig.model_validate(plain)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a study's folder; the lock goes with the process, however it ends."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refusal(f"{folder}: another process is running this study: wait for it, or stop it") from error
        yield


def _claim(study: Study, folder: Path, materials: Materials) -> None:
    """Write the study's configuration into its folder, or check that the one there is the same."""
    data = {
        f"{config.dataset.kind} {fingerprint(without_paths(config)['dataset'])[:6]}": materials.of(config).digest.total
        for config in materials.session.configs.values()
    }
    mine = {**study.identity(), "data": data}
    file = folder / CONFIGURATION
    if file.exists():
        lines = differences(json.loads(file.read_text(encoding="utf-8")), json.loads(json.dumps(mine)))
        if lines:
            raise Refusal(
                "\n".join([f"{folder} holds another configuration of {study.name}:", *(f"  {line}" for line in lines)])
                + "\nname the study otherwise, give another --output, or undo the change"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{CONFIGURATION}.{os.getpid()}"
    part.write_text(json.dumps(mine, indent=1), encoding="utf-8")
    part.replace(file)


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
    from lchp.study.schedule import train

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
    from lchp.study.search import best, completed, open_search

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
    part = file.with_name(f".{BEST}.{os.getpid()}")
    part.write_text(json.dumps(named, indent=1), encoding="utf-8")
    part.replace(file)
    recorder.echo(f"best by {named['objective']}: {entry.name} with {chosen.value:.4f}")
    return [file]
