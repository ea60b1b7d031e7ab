"""One true MLflow run per trial: found by its key, filled from the files of the trial, repaired by doing it again.

Every function may be repeated after a kill at any moment: what the store already holds is not written twice.

Metrics of a run: those of :mod:`lchp.tracking.shown` and ``train/...`` per epoch, the step being the epoch over both
stages; ``epoch``, that step itself; ``seconds``, what the epoch cost here, or ``seconds_reused`` where another trial
had trained it; ``waiting_share``, how much of an epoch's steps that were trained here was waiting for images;
``best_<method>/val/gt_known``, the highest value of an epoch: on val only, since a choice never sees
the test split; ``confidence/train/...``, how well the confidence ranks (:func:`lchp.store.selection.quality`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from lchp.data.fingerprint import canonical, flatten
from lchp.store.folder import StageFolder
from lchp.store.selection import quality
from lchp.tracking.artifacts import is_kept, keep_files, keep_value
from lchp.tracking.shown import HEADLINE, shown_best, shown_metrics
from lchp.tracking.store import client
from lchp.vocabulary import best_on_val

KEY_TAG = "lchp.key"
STUDY_TAG = "lchp.study"
"""The key of the study's own run, in those below it: another study may have runs of the same trials beside them."""
ERROR_TAG = "lchp.error"
PRUNED_TAG = "lchp.pruned"
WARNINGS_TAG = "lchp.warnings"
"""How training degenerated, one line a kind; absent where it did not."""
COUNTS_TAG = "lchp.counts"
"""On how many images a trial was measured, or on how many images and trials a study's tables stand."""
STOPPED_TAG = "lchp.stopped"
"""Why a study's search made fewer suggestions than it may; absent where it did not."""
PARENT_TAG = "mlflow.parentRunId"
DESCRIPTION_TAG = "mlflow.note.content"
"""What MLflow shows as a run's description, in Markdown."""
CONFIG = "config.json"
"""The artifact that holds a trial's whole configuration."""
LISTS = "datasets"
"""The folder of a study's artifacts that holds the lists of its images (``lchp.store.datasets``)."""

_METRICS_A_BATCH = 1000
_PARAMS_A_BATCH = 100
_LONGEST_PARAM = 6000
_LONGEST_TAG = 5000
_LONGEST_NAME = 250
"""Letters of a run's name: SQLite takes more, PostgreSQL does not."""
UNKNOWN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""MLflow's codes for a run that is not there."""


def _text(value: Any, longest: int) -> str:
    text = value if isinstance(value, str) else canonical(value)
    return text if len(text) <= longest else text[: longest - 3] + "..."


def find_run(uri: str, experiment: str, key: str, study: str | None = None, parent: str | None = None) -> str | None:
    """The id of the oldest run of the experiment (an id) whose tag ``lchp.key`` is ``key``; None if there is none.

    With ``study``, the key of a study's own run, only those below that count: they have its key as a tag or, written by
    version 0.3, no such tag and the id ``parent`` above them.
    """
    assert "'" not in key, key
    found = client(uri).search_runs([experiment], f"tags.`{KEY_TAG}` = '{key}'", order_by=["attributes.start_time ASC"])
    tags = ((str(run.info.run_id), run.data.tags) for run in found)
    return next((run_id for run_id, of in tags if study is None or _is_below(of, study, parent)), None)


def _is_below(tags: Mapping[str, str], study: str, parent: str | None) -> bool:
    own = tags.get(STUDY_TAG)
    return own == study or (own is None and parent is not None and tags.get(PARENT_TAG) == parent)


def ensure_run(
    uri: str,
    experiment: str,
    name: str,
    key: str,
    parent: str | None,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    started: int | None = None,
) -> str:
    """The run of ``key``, created if the experiment has none, RUNNING in either case; FAILED if this call fails.

    Args:
        experiment: its id, from ``ensure_experiment``.
        name: what the runs table shows, cut at 250 characters.
        key: what identifies the trial (or the study, for a parent run) in the experiment; where ``tags`` name a study,
            among the runs below it.
        parent: the id of the run under which this one is folded.
        params: nested or dotted; values that are no text are written as canonical JSON. MLflow never changes a
            parameter, so those that the run already has stay; values beyond 6,000 characters are cut (config.json has
            them whole).
        tags: set anew each time.
        started: when a run that is created began, in milliseconds since 1970; None for now.
    """
    mlflow_client, name = client(uri), _text(name, _LONGEST_NAME)
    wanted = {**tags, KEY_TAG: key, **({PARENT_TAG: parent} if parent else {})}
    run_id = find_run(uri, experiment, key, wanted.get(STUDY_TAG), parent)
    if run_id is None:
        # The tags go with the creation: a run without its key would never be found again.
        texts = {field: _text(value, _LONGEST_TAG) for field, value in wanted.items()}
        run = mlflow_client.create_run(experiment, start_time=started, tags=texts, run_name=name)
        run_id = str(run.info.run_id)
    else:
        run = mlflow_client.get_run(run_id)
    try:
        _open(mlflow_client, run, name, params, wanted)
    except BaseException as error:
        with suppress(Exception):  # the store may be what failed: its own error is told, not this
            fail_run(uri, run_id, f"{type(error).__name__}: {error}")
        raise
    return run_id


def _open(mlflow_client: MlflowClient, run: Run, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
    """Mark a run as RUNNING and give it its name and what it lacks of parameters and tags."""
    run_id = run.info.run_id
    if run.info.status != "RUNNING" or run.info.run_name != name:
        mlflow_client.update_run(run_id, status="RUNNING", name=name)
    missing = [
        Param(field, _text(value, _LONGEST_PARAM))
        for field, value in flatten(params).items()
        if field not in run.data.params
    ]
    for start in range(0, len(missing), _PARAMS_A_BATCH):
        mlflow_client.log_batch(run_id, params=missing[start : start + _PARAMS_A_BATCH])
    _change_tags(mlflow_client, run, {**tags, ERROR_TAG: None, PRUNED_TAG: None})


def log_history(
    uri: str,
    run_id: str,
    reports: Sequence[Mapping[str, Any]],
    last: float | None = None,
    first: Sequence[str] = HEADLINE,
) -> None:
    """Log the epochs that the run does not have yet.

    Args:
        reports: one mapping an epoch, steps rising: ``step`` (the epoch over both stages), ``metrics`` (name to
            value), ``seconds`` and ``reused``, and where they are known ``time``, when the epoch ended in milliseconds
            since 1970, and ``system``, what it used of its machine, by name. Epochs up to the run's last ``epoch`` are
            left out; an epoch is written whole or not at all.
        last: the run's last ``epoch``, where the caller knows it.
        first: the keys of the scores that are the run's headline.
    """
    mlflow_client = client(uri)
    if last is None:
        last = mlflow_client.get_run(run_id).data.metrics.get("epoch", -1.0)
    _log(mlflow_client, run_id, _missing(reports, last, first))


def _missing(reports: Sequence[Mapping[str, Any]], last: float, first: Sequence[str]) -> list[list[Metric]]:
    """The points of the epochs after ``last``, each epoch by itself."""
    return [_points(report, int(report["step"]), first) for report in reports if int(report["step"]) > last]


def _log(mlflow_client: MlflowClient, run_id: str, parts: Iterable[Sequence[Metric]]) -> None:
    """Log parts, each whole in one call, in as few calls as can be."""
    batches: list[list[Metric]] = [[]]
    for part in parts:
        if len(batches[-1]) + len(part) > _METRICS_A_BATCH:
            batches.append([])
        batches[-1] += part
    for batch in filter(None, batches):
        # MLflow lists metrics in the order in which they came, and Compare begins with the first: with the headline.
        mlflow_client.log_batch(run_id, metrics=sorted(batch, key=lambda point: not point.key[0].isupper()))


def _points(report: Mapping[str, Any], step: int, first: Sequence[str]) -> list[Metric]:
    cost = "seconds_reused" if report.get("reused") else "seconds"
    values = {**shown_metrics(report["metrics"], first), cost: report["seconds"], "epoch": step}
    if not report.get("reused") and report.get("waiting_share") is not None:
        values["waiting_share"] = report["waiting_share"]
    values |= {f"system/{name}": value for name, value in report.get("system", {}).items()}
    ended = int(report.get("time") or time.time() * 1000)
    return [Metric(name, float(value), ended, step) for name, value in values.items()]


def _final(trial: StageFolder, first: Sequence[str]) -> dict[str, tuple[float, int]]:
    """What the run of a finished trial shows: the last value of every metric, and its step."""
    history = trial.history()
    last = max(int(report["step"]) for report in history)
    of_trial = {
        **shown_metrics(trial.scores(), first),
        **quality(trial.selection_rows()),
        **shown_best(best_on_val(report["metrics"] for report in history), first),
        "epoch": float(last),
    }
    series = {
        name: (value, int(report["step"]))
        for report in history
        for name, value in shown_metrics(report["metrics"], first).items()
    }
    # MLflow draws as a bar what has no other step than 0, and as a line what has.
    steps = {name: 0 if name[0].isupper() and name not in series else last for name in of_trial}
    return {**series, **{name: (value, steps[name]) for name, value in of_trial.items()}}


def log_result(
    uri: str,
    run_id: str,
    folder: Path,
    extra_files: Sequence[Path] = (),
    tags: Mapping[str, str | None] | None = None,
    ended: int | None = None,
    metrics: Mapping[str, float] | None = None,
    with_files: bool = True,
    first: Sequence[str] = HEADLINE,
) -> None:
    """Complete the run of a finished trial from its folder: history, scores, ``best_...``, ``tags`` as
    :func:`set_tags`, artifacts unless ``with_files`` is false, then FINISHED as :func:`finish_run`; ``metrics`` are
    what its folder does not say, ``first`` its headline.

    Raises:
        ValueError: the folder lacks a file of a finished trial, or one is damaged.
    """
    trial = StageFolder(folder)
    files, final = trial.records(), _final(trial, first)
    final |= {name: (value, final["epoch"][1]) for name, value in (metrics or {}).items()}
    mlflow_client = client(uri)
    run = mlflow_client.get_run(run_id)
    known = dict(run.data.metrics)
    epochs = _missing(trial.history(), known.get("epoch", -1.0), first)
    added = {point.key: point.value for points in epochs for point in points}
    now = ended or int(time.time() * 1000)
    points = []
    for name, (value, step) in final.items():
        if {**known, **added}.get(name) != value:
            # A value that was changed in the store may stand at a later step, and the latest is the one that is shown.
            later = [point.step for point in mlflow_client.get_metric_history(run_id, name)] if name in known else []
            points.append(Metric(name, value, now, max([step, *later])))
    _log(mlflow_client, run_id, [*epochs, *([point] for point in points)])
    _change_tags(mlflow_client, run, tags or {})
    finish_run(uri, run_id, [*(files if with_files else ()), *extra_files], ended)


def set_tags(uri: str, run_id: str, tags: Mapping[str, str | None], name: str | None = None) -> None:
    """Set tags of a run, texts cut at 5,000 characters; None takes one away that an earlier call has set. ``name`` is
    what the runs table shows from now on.
    """
    mlflow_client = client(uri)
    run = mlflow_client.get_run(run_id)
    _change_tags(mlflow_client, run, tags)
    short = None if name is None else _text(name, _LONGEST_NAME)
    if short is not None and run.info.run_name != short:
        mlflow_client.update_run(run_id, name=short)


def _change_tags(mlflow_client: MlflowClient, run: Run, tags: Mapping[str, str | None]) -> None:
    """As :func:`set_tags`, of a run as it was read."""
    known, run_id = run.data.tags, run.info.run_id
    texts = {name: _text(value, _LONGEST_TAG) for name, value in tags.items() if value is not None}
    mlflow_client.log_batch(
        run_id, tags=[RunTag(name, text) for name, text in texts.items() if known.get(name) != text]
    )
    for name in tags.keys() - texts.keys() & known.keys():
        mlflow_client.delete_tag(run_id, name)


def finish_run(uri: str, run_id: str, files: Sequence[Path] = (), ended: int | None = None) -> None:
    """Store ``files`` with the run (again, if it has them) and mark it FINISHED: for the parent run of a study.

    ``ended`` says when that was, in milliseconds since 1970; None stands for now.
    """
    mlflow_client = client(uri)
    if files:
        keep_files(mlflow_client, run_id, files)
    mlflow_client.set_terminated(run_id, status="FINISHED", end_time=ended)


def keep_metrics(uri: str, run_id: str, metrics: Mapping[str, float], at: int | None = None) -> None:
    """Log what a run does not say yet of these metrics; ``at`` as ``ended`` of :func:`finish_run`."""
    known, now = client(uri).get_run(run_id).data.metrics, at or int(time.time() * 1000)
    points = [Metric(name, value, now, 0) for name, value in metrics.items() if known.get(name) != value]
    _log(client(uri), run_id, [points])


def keep_config(uri: str, run_id: str, config: Mapping[str, Any]) -> None:
    """Store the configuration of a trial with its run, before its files are there."""
    keep_value(client(uri), run_id, CONFIG, config)


def keep_dataset(uri: str, run_id: str, name: str, digest: str, source: Mapping[str, Any]) -> None:
    """Name the dataset that a run was trained on, as MLflow shows it beside a run: by the ``digest`` of its images, cut
    at 36 characters, and ``source``, its configuration.
    """
    dataset = Dataset(name=name, digest=digest[:36], source_type="lchp", source=canonical(source))
    tags = [InputTag("mlflow.data.context", "training")]
    client(uri).log_inputs(run_id, datasets=[DatasetInput(dataset=dataset, tags=tags)])


def keep_lists(uri: str, run_id: str, files: Sequence[Path]) -> None:
    """Store the lists of images of a study's datasets with its run, where it does not have them."""
    mlflow_client = client(uri)
    sizes = {file.path: file.file_size for file in mlflow_client.list_artifacts(run_id, LISTS)}
    lacking = [file for file in files if sizes.get(f"{LISTS}/{file.name}") != file.stat().st_size]
    if lacking:
        keep_files(mlflow_client, run_id, lacking, LISTS)


def fail_run(uri: str, run_id: str, message: str, ended: int | None = None) -> None:
    """Mark the run FAILED; ``message`` becomes its tag ``lchp.error``, cut at 5,000 characters; ``ended`` as of
    :func:`finish_run`.
    """
    mlflow_client = client(uri)
    mlflow_client.set_tag(run_id, ERROR_TAG, _text(message, _LONGEST_TAG))
    mlflow_client.set_terminated(run_id, status="FAILED", end_time=ended)


def running(uri: str, tag: str, value: str) -> list[Run]:
    """The runs of all experiments that are RUNNING and have a key, and this value of a tag."""
    mlflow_client, experiments, token = client(uri), list[str](), None
    while True:
        page = mlflow_client.search_experiments(page_token=token)
        experiments += [experiment.experiment_id for experiment in page]
        token = page.token
        if not token:
            break
    found = mlflow_client.search_runs(experiments, f"attributes.status = 'RUNNING' AND tags.`{tag}` = '{value}'")
    return [run for run in found if KEY_TAG in run.data.tags]


def stop_run(
    uri: str,
    run_id: str,
    reason: str,
    ended: int | None = None,
    metrics: Mapping[str, float] | None = None,
    step: int = 0,
) -> None:
    """Mark the run of a trial KILLED that a search did not want trained further; ``reason`` becomes its tag
    ``lchp.pruned``; ``ended`` as of :func:`finish_run`; ``metrics`` are logged at ``step``, its last epoch.
    """
    mlflow_client, now = client(uri), ended or int(time.time() * 1000)
    points = [Metric(name, value, now, step) for name, value in (metrics or {}).items()]
    mlflow_client.log_batch(run_id, metrics=points, tags=[RunTag(PRUNED_TAG, _text(reason, _LONGEST_TAG))])
    mlflow_client.set_terminated(run_id, status="KILLED", end_time=ended)


def is_complete(uri: str, run_id: str, folder: Path, with_files: bool = True, first: Sequence[str] = HEADLINE) -> bool:
    """Whether the run is there, not deleted, FINISHED and says what the files of the finished trial in ``folder`` say,
    ``first`` being its headline; whether it keeps these themselves is asked ``with_files`` only.

    What does not can be repaired by ``ensure_run`` and ``log_result``.
    """
    mlflow_client = client(uri)
    try:
        run = mlflow_client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in UNKNOWN:
            return False
        raise
    if run.info.lifecycle_stage == LifecycleStage.DELETED or run.info.status != "FINISHED":
        return False
    trial = StageFolder(folder)
    if any(run.data.metrics.get(name) != value for name, (value, _) in _final(trial, first).items()):
        return False
    if not with_files:
        return True
    sizes = {file.path: file.file_size for file in mlflow_client.list_artifacts(run_id)}
    return all(is_kept(file, sizes, str(run.info.artifact_uri)) for file in trial.records())


def delete_runs(uri: str, experiment: str, own: str) -> int:
    """Delete the run of a study, whose key is ``own``, with all below it, in the experiment of that name; gives how
    many. MLflow keeps deleted runs for a while, and restores them.
    """
    mlflow_client = client(uri)
    found = mlflow_client.get_experiment_by_name(experiment)
    parent = find_run(uri, found.experiment_id, own) if found is not None else None
    if found is None or parent is None:
        return 0
    tags, token = dict[str, Mapping[str, str]](), None
    while True:
        page = mlflow_client.search_runs([found.experiment_id], page_token=token)
        tags |= {str(run.info.run_id): run.data.tags for run in page}
        token = page.token
        if not token:
            break
    below = [run_id for run_id, of in tags.items() if run_id != parent and _is_below(of, own, parent)]
    for above in below:
        # Repetitions lie below the runs of trials. The list grows while it is gone through.
        below += [run_id for run_id, of in tags.items() if of.get(PARENT_TAG) == above and run_id not in below]
    # That of the study goes last: after a kill in between the same call finds the rest by it.
    for run_id in [*below, parent]:
        mlflow_client.delete_run(run_id)
    return len(below) + 1
