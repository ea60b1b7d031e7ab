"""A study that trains in a second, and a way to train it without Ray."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lchp.study.run.options import Machine
from lchp.study.run.optuna_search import ContinuedSearch
from lchp.study.run.recorder import Recorder
from lchp.study.run.study import run_study
from lchp.study.run.trainable import TrialTrainable
from lchp.study.spec.load import Study, load_study

TINY = """
name: tiny
question: does a study of four trials train?
preset: quickstart
dataset: {kind: synthetic, train_per_class: 6, test_per_class: 2, size: 40}
view: {resize: 40, crop: 32}
split: {val_per_class: 1}
initialization: {epochs: 2, regressor_start: 0, batch_size: 16, attention_maps: 2}
refinement: {epochs: 2, batch_size: 16}
"""
GRID = TINY + "vary: {delta: [0.4, 0.5], tau: [0.0, 0.5]}\n"


def trial_of(recorder: Recorder, name: str, **suggested: Any) -> SimpleNamespace:
    """What Ray's callbacks see of a trial."""
    return SimpleNamespace(config={"session": recorder.session, "trial": name, **suggested}, error_file=None)


def train_serially(study: Study, names: list[str], missing: int, recorder: Recorder) -> None:
    """Train the named trials, or a search's missing suggestions, one after the other in this process, through the same
    Trainable, the same search and the same Recorder.
    """
    if study.search is None:
        for name in names:
            _train(trial_of(recorder, name), recorder)
        return
    searcher = ContinuedSearch(study.name, recorder.folder, study.search)
    for name in map(str, range(missing)):
        trial = trial_of(recorder, "", **searcher.suggest(name))
        searcher.on_trial_complete(name, _train(trial, recorder))


def _train(trial: SimpleNamespace, recorder: Recorder) -> dict[str, Any]:
    """Train one trial; gives the last of its results."""
    recorder.on_trial_start(0, [], trial)
    trainable = TrialTrainable(trial.config)
    result: dict[str, Any] = {"done": False}
    while not result["done"]:
        result = trainable.step()
        recorder.on_trial_result(0, [], trial, result)
    trainable.stop()
    recorder.on_trial_complete(0, [], trial)
    return result


def load(folder: Path, text: str, *sets: str) -> Study:
    """The study that a text writes."""
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return load_study(path, sets)


def run(study: Study, folder: Path, lines: list[str] | None = None) -> int:
    """Run a study into ``folder/out`` with its store, cache and MLflow in ``folder``."""
    said = lines if lines is not None else []
    machine = Machine(folder / "cache", "cpu")
    return run_study(study, folder / "out", f"sqlite:///{folder / 'mlflow.db'}", machine, said.append)
