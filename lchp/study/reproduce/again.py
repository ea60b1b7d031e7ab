"""Training a finished trial again from what MLflow holds of it, and comparing every number and every box."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lchp.at_work import doing
from lchp.data.fingerprint import canonical, flatten
from lchp.data.scratch import is_left, scratch_folder
from lchp.errors import Refusal, refusing
from lchp.store.datasets import changed_images, list_file, read_list
from lchp.store.folder import StageFolder
from lchp.store.study_folder import REPETITION
from lchp.study.reproduce.compare import Comparison, compare
from lchp.study.run.options import Machine, epoch_line
from lchp.study.run.prepare import require_readable
from lchp.study.run.run_cards import (
    KIND_TAG,
    REFERENCE_TAG,
    REPRODUCTION,
    WEIGHTS_TAG,
    made_by,
    shown_parameters,
)
from lchp.study.spec.moved import Moved
from lchp.study.spec.presence import require_files
from lchp.study.spec.source import Source
from lchp.tracking.runs import KEY_TAG, ensure_run, fail_run, log_result, running
from lchp.tracking.store import ensure_experiment, open_store
from lchp.tracking.stored import StoredRun, fetch_list, read_run
from lchp.training import environment
from lchp.training.config import TrialConfig
from lchp.training.given_paths import PATHS, paths_of, with_paths
from lchp.training.identity import read_form, stored_config
from lchp.training.material import Material
from lchp.training.trial import run_trial
from lchp.training.weight_files import given_files

REPRODUCES_TAG = "lchp.reproduces"
AGREES_TAG = "lchp.agrees"
_NAMED = 20
_LONGEST_WRITTEN = 86400.0
"""Seconds."""


def reproduce(
    run_id: str,
    tracking_uri: str | None,
    moved: Moved,
    output: Path,
    machine: Machine,
    echo: Callable[[str], None],
    answer: Callable[[dict[str, Any]], None] = lambda found: None,
) -> int:
    """Train the trial of an MLflow run again, in a store that reuses nothing; 0 only if everything agrees, else 1.

    Exactly, on the same kind of CPU, or on the same CUDA device in deterministic mode; elsewhere within the tolerances
    of ``lchp.study.reproduce.compare``. The repetition is logged as a run below the original, tagged
    ``lchp.reproduces``. ``moved`` says where the files of the run lie now; ``answer`` takes what was found as plain
    values.

    Raises:
        Refusal: no such finished run, or its data or weights are not there.
    """
    reading = "reading the run from the tracking store"
    with refusing(), doing(reading):
        uri = open_store(tracking_uri, Path.cwd(), machine.cache)
        _end_killed(uri, output)  # before a new folder takes those of killed repetitions away
    with scratch_folder(output, REPETITION) as scratch:
        with refusing(), doing(reading):
            stored = _stored_trial(uri, run_id, scratch / "stored")
        config = _config(stored, moved)
        there = StageFolder(stored.folder).environment()
        runtime = _like(there, machine).runtime(scratch)
        here = environment.describe(runtime.device)
        for line in _other_environment(there, here):
            echo(line)
        with refusing(), doing("opening the data"):
            material = Material.prepare(config, runtime)
        if wrong := [
            *_other_config(stored, config), *_other_weights(stored, config, material),
            *_other_data(uri, stored, material),
        ]:  # fmt: skip
            echo("\n".join(wrong))
            _log(uri, stored, config, scratch.name, None, wrong)
            echo("not trained again: the run cannot be reproduced from this")
            answer({"run_id": run_id, "reproduced": False, "differs": wrong})
            return 1
        with doing("looking at weights and images"):
            require_readable([(config, material)])
        with doing("training again"):
            result = run_trial(config, runtime, lambda report: echo(epoch_line(report)), material)
        found = compare(
            stored,
            result.folder,
            _is_exact(config, there, here),
            material.pixel_boxes(material.splits.val, material.splits.test),
        )
        echo(found.text())
        _log(uri, stored, config, scratch.name, (result.folder, found), found.disagreements)
        echo("reproduced: everything agrees" if not found.disagreements else "NOT reproduced")
        answer({"run_id": run_id, "reproduced": not found.disagreements, **asdict(found)})
        return 1 if found.disagreements else 0


def _stored_trial(uri: str, run_id: str, folder: Path) -> StoredRun:
    """The run of a trial, its files in ``folder``. ValueError or Refusal: there is none that is finished."""
    stored = read_run(uri, run_id, folder)
    if REFERENCE_TAG in stored.tags:
        raise Refusal(
            f"run {run_id} is a reference of a study, no trial: name a trial's run, or run the study with another "
            "--output, which trains its references again"
        )
    return stored


def _config(stored: StoredRun, moved: Moved) -> TrialConfig:
    """The configuration of the stored trial, with the paths of this machine."""
    try:
        config = stored_config(StageFolder(stored.folder).config())
    except ValidationError as error:
        raise Refusal(
            f"run {stored.run_id}: its config.json is none of this version's ({error}): use the version that made it"
        ) from error
    taken = paths_of(config)
    source = Source({}, moved.places, f"run {stored.run_id}")
    for key in moved.paths:
        if taken.get(key) is None:
            raise Refusal(f"{source.place(tuple(key.split('.')))}: the run took no file there: leave the option out")
    config = with_paths(config, moved.paths)
    require_files(config, source)
    return config


def _other_weights(stored: StoredRun, config: TrialConfig, material: Material) -> list[str]:
    """The given files that are not those of the stored run; runs of before their digests were kept pass."""
    lines = []
    for role, given in given_files(config).items():
        kept, digest = stored.tags.get(f"{WEIGHTS_TAG}{role}"), material.given_digests[role]
        if kept is not None and given is not None and kept != digest:
            lines.append(f"weights: {role}: {given.file}: changed: sha256 {kept} -> {digest}")
    return lines


def _like(there: Mapping[str, Any], machine: Machine) -> Machine:
    """The machine on the kind of device that the original ran on, unless the user chose one."""
    return replace(machine, device="cpu") if machine.device == "auto" and there["device"] == "cpu" else machine


def _is_exact(config: TrialConfig, there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether equal bits are promised: the same processor, or the same CUDA device in deterministic mode.

    Runs of before the processor was written down have its name alone, which says too little.
    """
    if there["device"] != here["device"]:
        return False
    if here["device"] == "cpu":
        return bool(there.get("processor") == here["processor"])
    return config.compute.deterministic


def _other_environment(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs of commit, versions and hardware: a hint, not a disagreement."""
    lines = []
    if "processor" not in there:
        lines.append("environment: the stored run does not say which processor made it: equal bits are not promised")
        here = {key: value for key, value in here.items() if key != "processor"}
    old, new = flatten(there), flatten(here)
    return lines + [
        f"environment: {key}: {old.get(key)} -> {new.get(key)}"
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    ]


def _other_config(stored: StoredRun, config: TrialConfig) -> list[str]:
    """Parameters of the run that are not those of its config.json; paths belong to a machine."""
    lines = []
    for key, value in flatten(read_form(config)).items():
        text = value if isinstance(value, str) else canonical(value)
        # What a run does not show stands in its config.json alone.
        kept = stored.params.get(key, text)
        if kept != text and key not in PATHS and not (kept and kept.endswith("...") and text.startswith(kept[:-3])):
            lines.append(f"config: {key}: MLflow's parameter says {kept}, config.json says {text}")
    return lines


def _other_data(uri: str, stored: StoredRun, material: Material) -> list[str]:
    """The images that are not those of the stored run, by name where their list is still there."""

    def listed(total: str) -> dict[str, str] | None:
        file = fetch_list(uri, stored, list_file(Path(), total).name)
        return None if file is None else read_list(file)

    lines = changed_images(StageFolder(stored.folder), material.digest, listed)
    more = [f"dataset: ... and {len(lines) - _NAMED} more images"] if len(lines) > _NAMED else []
    return [*(f"dataset: {line}" for line in lines[:_NAMED]), *more]


def _log(
    uri: str,
    stored: StoredRun,
    config: TrialConfig,
    repetition: str,
    trained: tuple[Path, Comparison] | None,
    disagreements: list[str],
) -> None:
    """Log the repetition, by the name of its folder, as a run below the original."""
    agrees = "false" if disagreements else "true"
    tags = {KIND_TAG: REPRODUCTION, REPRODUCES_TAG: stored.run_id, AGREES_TAG: agrees, **made_by()}
    experiment = ensure_experiment(uri, stored.experiment)
    key = _key(stored, repetition)
    name = f"reproduce {stored.name}"
    shown = shown_parameters(config.model_dump(mode="json"), read_form(config), ())
    run_id = ensure_run(uri, experiment, name, key, stored.run_id, shown, tags)
    try:
        if trained is not None:
            folder, comparison = trained
            table = folder / "comparison.csv"
            comparison.write(table)
            log_result(uri, run_id, folder, [table])
        if disagreements:
            fail_run(uri, run_id, "\n".join(disagreements))
    except BaseException as error:
        with suppress(Exception):  # the store may be what failed: what ended the repetition is told, not this
            fail_run(uri, run_id, f"{type(error).__name__}: {error}")
        raise


def _key(stored: StoredRun, repetition: str) -> str:
    """The key of the run of a repetition, by the name of its folder."""
    return f"reproduce-{stored.run_id}-{repetition.removeprefix(REPETITION)}"


def _end_killed(uri: str, output: Path) -> None:
    """Mark the runs, of whatever trial, that repetitions had begun to write when they were killed: nobody goes on.

    Their folders are left in ``output``; where one is not there, another command has removed it, or it lies elsewhere,
    maybe on another machine: no repetition writes its run for so long as a day.
    """
    for run in running(uri, KIND_TAG, REPRODUCTION):
        folder = output / f"{REPETITION}{run.data.tags[KEY_TAG].rpartition('-')[2]}"
        is_old = time.time() - run.info.start_time / 1000 > _LONGEST_WRITTEN
        if is_left(folder) if folder.exists() else is_old:
            with suppress(Exception):  # the run need not be ours to change
                fail_run(uri, run.info.run_id, "its process was killed while it wrote this run")
