"""What a study's folder and its tracking store hold in the end, apart from times, machines and the names of runs."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import sqlite3
import zipfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lchp.store.folder import RECORDS, StageFolder

OF_A_MACHINE = ("mlflow.user", "mlflow.source.name", "mlflow.parentRunId", "mlflow.source.git.commit", "lchp.study")
_OWN_KEY = re.compile(r"\bstudy-[0-9a-f]{32}\b")
"""What a study's folder calls its own run, as no other does."""
_DRAWN = (".png", "report.html", "log.txt", ".lock")
"""Ends of names of files whose being there is all that is compared."""


def outcome(folder: Path) -> dict[str, Any]:
    """What is compared of the folder of a study, in which ``out`` and ``mlflow.db`` lie, by file or run."""
    try:
        runs = _runs(folder)
    except sqlite3.Error as error:
        runs = {"runs": str(error)}
    return {**_files(folder / "out"), **runs, "beside": _beside(folder)}


def differences(calm: dict[str, Any], disturbed: dict[str, Any]) -> list[str]:
    """What is not the same, one line each."""
    lines = []
    for name in sorted(calm.keys() | disturbed.keys()):
        before, now = calm.get(name, "(absent)"), disturbed.get(name, "(absent)")
        if before != now:
            lines.append(f"{name}: {_shortened(before)} -> {_shortened(now)}")
    return lines


def _shortened(value: object) -> str:
    text = str(value)
    return text if len(text) < 200 else f"{text[:150]} ... {hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _beside(folder: Path) -> list[str]:
    """The names of what lies beside the study's folders, temporary files among them, there and in the cache."""
    cached = [file.name for file in folder.glob("cache/**/.*") if not file.name.endswith(".lock")]
    return cached + sorted(
        file.name for file in folder.iterdir() if file.name.startswith((".", "mlflow"))
        and ".damaged-" not in file.name and not re.fullmatch(r"mlflow\.db-(journal|wal|shm)", file.name)
    )  # fmt: skip


def _files(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in output.rglob("*"):
        name = _OWN_KEY.sub("study", file.relative_to(output).as_posix())
        if file.is_file() and ".damaged-" not in name:
            try:
                found[name] = _content(file)
            except Exception as error:  # what cannot be read differs
                found[name] = f"{type(error).__name__}: {error}"
    stages = {file.parent for file in output.glob(".store/*/*/config.json")}
    for stage in (one for one in stages if ".damaged-" not in one.name):
        found[f"{stage.relative_to(output)} is whole"] = StageFolder(stage).fault()
    return found


def _content(file: Path) -> Any:
    if file.name.endswith(_DRAWN):
        return "there"
    if file.suffix == ".pt":
        return _tensors(file)
    if file.name == "optuna.journal":
        return _suggestions(file)
    text = _OWN_KEY.sub("study", file.read_text(encoding="utf-8"))
    if file.name == "results.csv":
        return [{**row, "run_id": None} for row in csv.DictReader(io.StringIO(text))]
    if file.suffix == ".json":
        return _json(file.name, json.loads(text), file.parent.name)
    return text


def _json(name: str, value: Any, folder: str) -> Any:
    match name:
        case "history.json":
            return [{**epoch, "seconds": None, "waiting_share": None} for epoch in value]
        case "trials.json":
            return sorted(({**entry, "run_id": None} for entry in value), key=lambda entry: entry["number"])
        case "manifest.json":
            return sorted(value)
        case "report.json":
            return {**value, "trials": [{**one, "run_id": None} for one in value["trials"]]}
        case "study.json":
            return {**value, "fingerprint": None, **({"search_key": None} if "search_key" in value else {})}
        case "best.json":
            return {**value, "run_id": None}
    if folder == "runs":
        # What epochs cost is known to nobody else: a card that was lost is made again without.
        return {**value, "epochs": None, "spent": None, "started": None, "ended": value["ended"] is not None}
    return value


def _tensors(file: Path) -> dict[str, int]:
    """The checksums of a file's tensors."""
    with zipfile.ZipFile(file) as archive:
        parts = {record.filename.partition("/")[2]: record.CRC for record in archive.infolist()}
    return {name: checksum for name, checksum in parts.items() if name.startswith("data/")}


def _suggestions(journal: Path) -> list[tuple[Any, ...]]:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    (study,) = storage.get_all_studies()
    trials = storage.get_all_trials(study._study_id)
    return [(trial.number, trial.state.name, trial.value, trial.params) for trial in trials]


def _runs(folder: Path) -> dict[str, Any]:
    """What the tracking store says of every run, by its key, and how many runs there are of each."""
    database = folder / "mlflow.db"
    if not database.exists():
        return {"runs": "(no mlflow.db)"}
    with closing(sqlite3.connect(database)) as connection:

        def rows(text: str, *values: str) -> list[tuple[Any, ...]]:
            return connection.execute(text, values).fetchall()

        named = rows("SELECT run_uuid, value FROM tags WHERE key = 'lchp.key'")
        keys = {run: _OWN_KEY.sub("study", key) for run, key in named}
        runs = rows("SELECT run_uuid, name, status, lifecycle_stage, artifact_uri FROM runs")
        found: dict[str, Any] = {"runs": Counter(keys.get(run[0], "(no key)") for run in runs)}
        for run, name, status, stage, place in runs:
            tags = dict(rows("SELECT key, value FROM tags WHERE run_uuid = ?", run))
            points = rows("SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ?", run)
            shown = rows("SELECT key, value FROM latest_metrics WHERE run_uuid = ?", run)
            found[f"run {keys.get(run)}"] = {
                "name": name,
                "status": (status, stage),
                "params": dict(rows("SELECT key, value FROM params WHERE run_uuid = ?", run)),
                # Those that lead to another run say which it is, whatever its id.
                "tags": {
                    key: _OWN_KEY.sub("study", keys.get(value, value))
                    for key, value in tags.items()
                    if key not in OF_A_MACHINE
                },
                "below": keys.get(tags.get("mlflow.parentRunId", "")),
                "metrics": sorted({point for point in points if not _is_cost(point[0])}),
                "shown": sorted(point for point in shown if not _is_cost(point[0])),
                "files": _artifacts(Path(unquote(urlsplit(place).path))),
            }
    return _flat(found)


def _flat(found: dict[str, Any]) -> dict[str, Any]:
    """Each part of a run by itself, so that a difference names it."""
    flat: dict[str, Any] = {}
    for name, value in found.items():
        if name.startswith("run "):
            flat |= {f"{name} {part}": content for part, content in value.items()}
        else:
            flat[name] = value
    return flat


def _is_cost(metric: str) -> bool:
    return metric.startswith(("seconds", "waiting_share", "cost/"))


def _artifacts(place: Path) -> dict[str, Any]:
    compared = {*RECORDS, "selection.csv"} - {"history.json"}
    return {
        file.relative_to(place).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()[:8]
        if file.name in compared
        else "there"
        for file in place.rglob("*")
        if file.is_file()
    }
