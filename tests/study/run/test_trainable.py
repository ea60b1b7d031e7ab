from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

import tests.study.small as small
from lchp.store.folder import StageFolder
from lchp.study.run.materials import Materials
from lchp.study.run.pictures import keep_picture
from lchp.study.run.queue import Job
from lchp.study.run.trainable import Session, TrialTrainable
from lchp.training.material import Runtime
from lchp.training.trial import finished_trial


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def only(folder: Path, *sets: str) -> Job:
    (trial,) = small.load(folder, small.TINY, *sets).trials
    return Job(trial)


def session(folder: Path, cache: Path, objective: str | None = None) -> Session:
    runtime = Runtime(folder / "store", cache)
    materials = Materials(runtime)
    folder.mkdir(exist_ok=True)
    materials.of(only(folder).trial.config)
    return Session(runtime, materials.by_dataset(), objective)


def steps(trainable: TrialTrainable) -> list[dict[str, Any]]:
    results = [trainable.step()]
    while not results[-1]["done"]:
        results.append(trainable.step())
    return results


def test_step_is_one_epoch_over_both_stages(tmp_path: Path, cache: Path) -> None:
    shared = session(tmp_path, cache, "lchp_r/val/gt_known")
    results = steps(small.trainable_of(only(tmp_path), shared))
    assert [result["global_epoch"] for result in results] == [1, 2, 3, 4]
    assert [result["reports"][0]["stage"] for result in results] == ["initialization"] * 2 + ["refinement"] * 2
    assert [result["done"] for result in results] == [False, False, False, True]
    finished = finished_trial(only(tmp_path).trial.config, shared.runtime)
    assert finished is not None
    assert results[-1]["objective"] == finished.scores["lchp_r/val/gt_known"]
    assert (finished.folder / "predictions.png").stat().st_size > 1000


def test_step_is_an_epoch_of_the_confidences_classifiers_too_which_is_said_and_counts_no_step(
    tmp_path: Path, cache: Path
) -> None:
    asked = only(tmp_path, "confidence={score: out_of_fold, folds: 2}")
    results = steps(small.trainable_of(asked, session(tmp_path, cache)))
    assert [result["global_epoch"] for result in results] == [1, 2, 2, 2, 2, 2, 3, 4]
    assert [len(result["reports"]) for result in results] == [1, 1, 0, 0, 0, 0, 1, 1]
    notes = [note for result in results for note in result["notes"]]
    assert [note.partition("  ")[0] for note in notes] == [f"out_of_fold {epoch}" for epoch in (1, 2, 3, 4)]
    other = only(tmp_path, "confidence={score: out_of_fold, folds: 2}", "tau=0.5")
    assert [result["notes"] for result in steps(small.trainable_of(other, session(tmp_path, cache)))] == [[]] * 2


def test_step_of_a_finished_trial_is_done_at_once_unless_its_epochs_are_judged(tmp_path: Path, cache: Path) -> None:
    shared = session(tmp_path, cache)
    steps(small.trainable_of(only(tmp_path), shared))
    (result,) = steps(small.trainable_of(only(tmp_path), shared))
    assert [report["reused"] for report in result["reports"]] == [True] * 4
    judged = steps(small.trainable_of(only(tmp_path), replace(shared, judged=True)))
    assert [[report["step"] for report in result["reports"]] for result in judged] == [[1], [2], [3], [4]]


def test_step_after_a_worker_ended_continues_from_its_files_with_the_same_bits(tmp_path: Path, cache: Path) -> None:
    through, shared = (session(tmp_path / name, cache) for name in ("through", "shared"))
    steps(small.trainable_of(only(tmp_path), through))
    stopped = small.trainable_of(only(tmp_path), shared)
    stopped.step()
    stopped.cleanup()
    results = steps(small.trainable_of(only(tmp_path), shared))
    assert [report["reused"] for report in results[0]["reports"]] == [True, False]
    one, two = (finished_trial(only(tmp_path).trial.config, s.runtime) for s in (through, shared))
    assert one is not None
    assert two is not None
    assert one.scores == two.scores
    assert (one.folder / "per_image.csv").read_bytes() == (two.folder / "per_image.csv").read_bytes()


def test_reset_config_goes_on_with_another_trial(tmp_path: Path, cache: Path) -> None:
    trainable = small.trainable_of(only(tmp_path), session(tmp_path, cache))
    steps(trainable)
    assert trainable.reset_config({"job": only(tmp_path, "tau=0.2")})
    assert [result["global_epoch"] for result in steps(trainable)] == [3, 4]


def test_worker_unpickles_the_data_once_for_all_its_trials(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, trial, fetched = session(tmp_path, cache), only(tmp_path).trial, []
    reference = ray.ObjectRef.from_random()
    part = held.materials[trial.config.dataset]
    monkeypatch.setattr(ray, "get", lambda wanted: fetched.append(wanted) or pickle.dumps(part))
    for _ in range(2):
        # Ray hands a trial a session of its own.
        carried = Session(held.runtime, {trial.config.dataset: reference})
        assert carried.material(trial.config).digest == held.material(trial.config).digest
    assert fetched == [reference]


def test_job_that_ray_carries_holds_its_own_configuration_alone(tmp_path: Path) -> None:
    study = small.load(tmp_path, small.TINY + "vary: {delta: [0.4, 0.5], tau: [0.0, 0.5]}\nseeds: [0, 1, 2]\n")
    sizes = [len(pickle.dumps(Job(trial))) for trial in study.trials]
    alone = small.load(tmp_path, small.TINY + "vary: {delta: 0.4, tau: 0.0}\n")
    assert max(sizes) < len(pickle.dumps(Job(alone.trials[0]))) + 100


def test_keep_picture_of_a_drawn_folder_keeps_the_picture(tmp_path: Path, cache: Path) -> None:
    picture = b"\x89PNG\r\n\x1a\nthereIEND\xaeB`\x82"
    (tmp_path / "predictions.png").write_bytes(picture)
    keep_picture(session(tmp_path, cache).material(only(tmp_path).trial.config), tmp_path)
    assert (tmp_path / "predictions.png").read_bytes() == picture


def test_keep_picture_damaged_picture_is_drawn_again_to_the_same_bytes(tmp_path: Path, cache: Path) -> None:
    shared, trial = session(tmp_path, cache), only(tmp_path).trial
    steps(small.trainable_of(Job(trial), shared))
    folder = StageFolder(shared.material(trial.config).trial_folder(trial.config))
    picture = folder.picture
    assert picture is not None
    drawn = picture.read_bytes()
    for damaged in (drawn[: len(drawn) // 2], drawn[:500] + bytes([drawn[500] ^ 1]) + drawn[501:]):
        picture.write_bytes(damaged)
        assert folder.picture is None
        keep_picture(shared.material(trial.config), folder.path)
        assert picture.read_bytes() == drawn
    assert folder.whole


def test_process_of_ray_imports_neither_torch_nor_mlflow() -> None:
    """Each would be seconds of every study's start."""
    code = "import sys, lchp.study.run.ray_process; print({'torch', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
