"""Training a finished trial again from what MLflow holds of it, and comparing every number and every box."""

from __future__ import annotations

import csv
import json
import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lchp.data.digest import changed
from lchp.data.fingerprint import canonical, flatten
from lchp.study.comparison import Comparison, compare
from lchp.study.folders import require_writable
from lchp.study.machine import Machine, epoch_line
from lchp.study.presence import require_files
from lchp.study.source import Refusal, Source
from lchp.tracking.runs import StoredRun, ensure_run, fail_run, log_result, read_run
from lchp.tracking.store import ensure_experiment, open_store
from lchp.training import environment
from lchp.training.config import TrialConfig
from lchp.training.material import Material, Runtime
from lchp.training.trial import run_trial

REPRODUCES_TAG = "lchp.reproduces"
AGREES_TAG = "lchp.agrees"
_NAMED = 20


def reproduce(
    run_id: str,
    tracking_uri: str | None,
    data: Path | None,
    output: Path,
    machine: Machine,
    echo: Callable[[str], None],
) -> int:
    """Train the trial of an MLflow run again, in a store that reuses nothing; 0 only if everything agrees, else 1.

    Exactly, on the same kind of CPU, or on the same CUDA device in deterministic mode; elsewhere within the tolerances
    of ``lchp.study.comparison``. The repetition is logged as a run below the original, tagged ``lchp.reproduces``.

    Raises:
        Refusal: no such finished run, or its data or weights are not there.
    """
    require_writable(output, "--output")
    with tempfile.TemporaryDirectory(prefix=".reproduce-", dir=output) as scratch:
        try:
            uri = open_store(tracking_uri, Path.cwd())
            stored = read_run(uri, run_id, Path(scratch) / "stored")
        except ValueError as error:
            raise Refusal(str(error)) from error
        config = _config(stored, data)
        there = json.loads((stored.folder / "environment.json").read_text(encoding="utf-8"))
        runtime = _like(there, machine).runtime(Path(scratch))
        here = environment.describe(runtime.device)
        for line in _other_environment(there, here):
            echo(line)
        wrong = _other_config(stored, config) + _other_data(stored, config, runtime)
        if wrong:
            echo("\n".join(wrong))
            _log(uri, stored, config, None, wrong)
            echo("not trained again: the run cannot be reproduced from this")
            return 1
        result = run_trial(config, runtime, lambda report: echo(epoch_line(report)))
        found = compare(stored, result.folder, _is_exact(config, there, here))
        echo(found.text())
        _log(uri, stored, config, (result.folder, found), found.disagreements)
        echo("reproduced: everything agrees" if not found.disagreements else "NOT reproduced")
        return 1 if found.disagreements else 0


def _config(stored: StoredRun, data: Path | None) -> TrialConfig:
    """The configuration of the stored trial, on this machine's data."""
    plain = json.loads((stored.folder / "config.json").read_text(encoding="utf-8"))
    if data is not None:
        plain["dataset"]["path"] = str(data.absolute())
    try:
        config = TrialConfig.model_validate(plain)
    except ValidationError as error:
        raise Refusal(
            f"run {stored.run_id}: its config.json is none of this version's ({error}): use the version that made it"
        ) from error
    place = f"run {stored.run_id}" if data is None else f"--data {data}"
    require_files(config, Source({}, {}, place))
    return config


def _like(there: Mapping[str, Any], machine: Machine) -> Machine:
    """The machine on the kind of device that the original ran on, unless the user chose one."""
    return replace(machine, device="cpu") if machine.device == "auto" and there["device"] == "cpu" else machine


def _is_exact(config: TrialConfig, there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether equal bits are promised: the same CPU, or the same CUDA device in deterministic mode."""
    if there["device"] != here["device"]:
        return False
    return bool(there["cpu"] == here["cpu"] if here["device"] == "cpu" else config.compute.deterministic)


def _other_environment(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs of commit, versions and hardware: a hint, not a disagreement."""
    old, new = flatten(there), flatten(here)
    return [
        f"environment: {key}: {old.get(key)} -> {new.get(key)}"
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    ]


def _other_config(stored: StoredRun, config: TrialConfig) -> list[str]:
    """Parameters of the run that are not those of its config.json; paths belong to a machine."""
    lines = []
    for key, value in flatten(config.model_dump(mode="json")).items():
        text = value if isinstance(value, str) else canonical(value)
        kept = stored.params.get(key)
        is_path = key == "dataset.path"
        if kept != text and not is_path and not (kept and kept.endswith("...") and text.startswith(kept[:-3])):
            lines.append(f"config: {key}: MLflow's parameter says {kept}, config.json says {text}")
    return lines


def _other_data(stored: StoredRun, config: TrialConfig, runtime: Runtime) -> list[str]:
    """The images that are not those of the stored run, by name."""
    with (stored.folder / "dataset.csv").open(encoding="utf-8", newline="") as file:
        old = {row["path"]: row["sha256"] for row in csv.DictReader(file)}
    try:
        new = Material.prepare(config, runtime).digest.files
    except ValueError as error:
        raise Refusal(str(error)) from error
    lines = changed(old, new)
    more = [f"dataset: ... and {len(lines) - _NAMED} more images"] if len(lines) > _NAMED else []
    return [*(f"dataset: {line}" for line in lines[:_NAMED]), *more]


def _log(
    uri: str,
    stored: StoredRun,
    config: TrialConfig,
    trained: tuple[Path, Comparison] | None,
    disagreements: list[str],
) -> None:
    """Log the repetition as a run below the original."""
    tags = {REPRODUCES_TAG: stored.run_id, AGREES_TAG: "false" if disagreements else "true"}
    experiment = ensure_experiment(uri, stored.experiment)
    key = f"reproduce-{stored.run_id}-{uuid.uuid4().hex}"
    name = f"reproduce {stored.name}"
    run_id = ensure_run(uri, experiment, name, key, stored.run_id, config.model_dump(mode="json"), tags)
    if trained is not None:
        folder, comparison = trained
        table = folder / "comparison.csv"
        comparison.write(table)
        log_result(uri, run_id, folder, [table])
    if disagreements:
        fail_run(uri, run_id, "\n".join(disagreements))
