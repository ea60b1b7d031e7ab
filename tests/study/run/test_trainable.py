from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tests.study.small as small
from lchp.study.run.trainable import Session, TrialTrainable, draw_predictions
from lchp.training.config import TrialConfig
from lchp.training.material import Runtime
from lchp.training.trial import finished_trial


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def session(folder: Path, cache: Path, objective: str | None = None) -> Session:
    config = small.load(folder, small.TINY).base
    return Session(Runtime(folder / "store", cache), {"only": config}, objective)


def steps(trainable: TrialTrainable) -> list[dict[str, Any]]:
    found = [trainable.step()]
    while not found[-1]["done"]:
        found.append(trainable.step())
    return found


def test_step_is_one_epoch_over_both_stages(tmp_path: Path, cache: Path) -> None:
    shared = session(tmp_path, cache, "lchp_r/val/gt_known")
    results = steps(TrialTrainable({"session": shared, "trial": "only"}))
    assert [result["global_epoch"] for result in results] == [1, 2, 3, 4]
    assert [result["reports"][0]["stage"] for result in results] == ["initialization"] * 2 + ["refinement"] * 2
    assert [result["done"] for result in results] == [False, False, False, True]
    finished = finished_trial(shared.configs["only"], shared.runtime)
    assert finished is not None
    assert results[-1]["objective"] == finished.scores["lchp_r/val/gt_known"]
    assert (finished.folder / "predictions.png").stat().st_size > 1000


def test_step_of_a_finished_trial_is_done_at_once(tmp_path: Path, cache: Path) -> None:
    shared = session(tmp_path, cache)
    steps(TrialTrainable({"session": shared, "trial": "only"}))
    (result,) = steps(TrialTrainable({"session": shared, "trial": "only"}))
    assert [report["reused"] for report in result["reports"]] == [True] * 4


def test_load_checkpoint_into_an_empty_store_continues_with_the_same_bits(tmp_path: Path, cache: Path) -> None:
    for name in ("through", "first", "second"):
        (tmp_path / name).mkdir()
    through = session(tmp_path / "through", cache)
    steps(TrialTrainable({"session": through, "trial": "only"}))
    stopped = TrialTrainable({"session": session(tmp_path / "first", cache), "trial": "only"})
    stopped.step()
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    stopped.save_checkpoint(str(checkpoint))
    stopped.cleanup()
    elsewhere = session(tmp_path / "second", cache)
    continued = TrialTrainable({"session": elsewhere, "trial": "only"})
    continued.load_checkpoint(str(checkpoint))
    results = steps(continued)
    assert [report["reused"] for report in results[0]["reports"]] == [True, False]
    one, two = (finished_trial(s.configs["only"], s.runtime) for s in (through, elsewhere))
    assert one is not None
    assert two is not None
    assert one.scores == two.scores
    assert (one.folder / "per_image.csv").read_bytes() == (two.folder / "per_image.csv").read_bytes()


def test_reset_config_goes_on_with_another_trial(tmp_path: Path, cache: Path) -> None:
    shared = session(tmp_path, cache)
    both = Session(shared.runtime, {**shared.configs, "other": shared.configs["only"].model_copy(update={"tau": 0.2})})
    trainable = TrialTrainable({"session": both, "trial": "only"})
    steps(trainable)
    assert trainable.reset_config({"session": both, "trial": "other"})
    assert [result["global_epoch"] for result in steps(trainable)] == [3, 4]


def test_session_suggestion_is_laid_over_the_studys_configuration(tmp_path: Path, cache: Path) -> None:
    config: TrialConfig = session(tmp_path, cache).config({"trial": "only", "suggestion": {"tau": 0.25}, "number": 3})
    assert config.tau == 0.25


def test_draw_predictions_of_a_drawn_folder_keeps_the_picture(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "predictions.png").write_bytes(b"there")
    shared = session(tmp_path, cache)
    draw_predictions(shared.configs["only"], shared.runtime, tmp_path)
    assert (tmp_path / "predictions.png").read_bytes() == b"there"
