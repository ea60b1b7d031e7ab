"""lchp from Python, as a person would call it."""

from __future__ import annotations

import doctest
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import lchp
from lchp import api
from lchp.errors import Refusal
from lchp.study.spec.load import load_study
from tests.study.conftest import Trained
from tests.study.written import GRID


def test_import_of_lchp_imports_the_standard_library_alone() -> None:
    code = "import sys; before = set(sys.modules); import lchp; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = {name.partition(".")[0] for name in done.stdout.split()} - set(sys.stdlib_module_names)
    assert found == {"lchp"}


def test_every_name_is_there_and_others_are_told() -> None:
    assert set(lchp.__all__) == set(api.__all__) <= set(dir(lchp))
    assert [name for name in lchp.__all__ if not getattr(lchp, name).__doc__] == []
    with pytest.raises(AttributeError, match="has no attribute 'run_studdy'"):
        lchp.run_studdy  # noqa: B018


def test_examples_of_the_api_give_what_they_say(trained: Trained) -> None:
    found = doctest.testmod(api, extraglobs={"output": trained.output, "images": trained.images})
    assert found.attempted >= 10
    assert found.failed == 0


def test_load_study_takes_values_of_any_type_and_shows_itself_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID, encoding="utf-8")
    study = lchp.load_study(tmp_path / "grid.yaml", {"initialization.classifier_rate": 1e-7, "augmentation": "flip"})
    assert study.base.initialization.classifier_rate == 1e-7
    assert repr(study) == "Study 'tiny': 4 trials (delta × tau, seeds 0)"
    assert load_study(tmp_path / "grid.yaml").identity() != study.identity()
    with pytest.raises(ValueError, match="did you mean `tau`"):
        lchp.load_study(tmp_path / "grid.yaml", {"tua": 1})


def test_what_is_no_name_of_anything_is_refused() -> None:
    for load in (lchp.load_study, lchp.load_trial, lchp.run_study):
        with pytest.raises(Refusal, match="NoneType None: is no file: give"):
            load(None)  # type: ignore[arg-type]
    for what in (lchp.results, lambda one: lchp.predict(one, "x.jpg")):
        with pytest.raises(Refusal, match=r"is no study or run|x\.jpg"):
            what(None)  # type: ignore[arg-type]
    with pytest.raises(Refusal, match="is a study, not a trial: run it with"):
        lchp.load_trial("quickstart")


def itself() -> list[object]:
    held: list[object] = []
    held.append(held)
    return held


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: lchp.load_study("quickstart", 3), "sets: give a mapping"),
        (lambda: lchp.load_study("quickstart", None), "sets: give a mapping"),
        (lambda: lchp.load_study("quickstart", [3]), "sets: give a mapping"),
        (lambda: lchp.load_study("quickstart", "delta=1"), "sets: give a mapping"),
        (lambda: lchp.load_study("quickstart", {"delta": itself()}), "sets: a value holds itself"),
        (lambda: lchp.load_study("quickstart", data=3), "data: int 3 is no path"),
        (lambda: lchp.load_study("quickstart", device="gpu"), "device: str 'gpu' is none of auto, cpu, cuda"),
        (lambda: lchp.load_study("a\0b"), "is no path"),
        (lambda: lchp.load_study(""), "is no path"),
        (lambda: lchp.load_trial("x.yaml", device=None), "device: NoneType None is none of"),
        (lambda: lchp.run_study("quickstart", None), "output: NoneType None is no path"),
        (lambda: lchp.run_study("quickstart", ""), "output: str '' is no path"),
        (lambda: lchp.run_study("quickstart", cache=3), "cache: int 3 is no path"),
        (lambda: lchp.run_study("quickstart", device="gpu"), "device: str 'gpu' is none of"),
        (lambda: lchp.run_study("quickstart", workers=-1), "workers: int -1 is no whole number from 0 to 1024"),
        (lambda: lchp.run_study("quickstart", workers="2"), "workers: str '2' is no whole number"),
        (lambda: lchp.run_study("quickstart", workers=True), "workers: bool True is no whole number"),
        (lambda: lchp.run_study("quickstart", tracking_uri=""), "tracking_uri: str '' is no URI"),
        (lambda: lchp.run_study("quickstart", tracking_uri=3), "tracking_uri: int 3 is no URI"),
        (lambda: lchp.run_study("quickstart", store=" "), "store: str ' ' is no URI"),
        (lambda: lchp.run_study("quickstart", say=None), "say: NoneType None cannot be called"),
        (lambda: lchp.run_study(lchp.load_study("quickstart").base), "TrialConfig TrialConfig.{1,80}: is no file"),
        (lambda: lchp.run_trial("x.yaml", workers=2000), "workers: int 2000 is no whole number"),
        (lambda: lchp.run_trial("x.yaml", device="gpu"), "device: str 'gpu' is none of"),
        (lambda: lchp.run_trial("x.yaml", say=3), "say: int 3 cannot be called"),
        (lambda: lchp.results("tiny", output=3), "output: int 3 is no path"),
        (lambda: lchp.per_image("tiny", output=None), "output: NoneType None is no path"),
        (lambda: lchp.compare("a", "b", output=3), "output: int 3 is no path"),
        (lambda: lchp.results(np.zeros((100, 100))), "ndarray array.{1,80}: is no study or run"),
        (lambda: lchp.predict("tiny", b"abc"), "images: bytes is neither files nor arrays"),
        (lambda: lchp.predict("tiny", ["x.jpg"], output=3), "x.jpg: there is no such file"),
        (lambda: lchp.predict("tiny", np.zeros((2, 2)), output=3), "output: int 3 is no path"),
        (lambda: lchp.predict("tiny", np.zeros((2, 2)), tracking_uri=3), "tracking_uri: int 3 is no URI"),
    ],
)
def test_what_is_of_another_kind_is_refused_by_its_name_before_anything_starts(
    call: Callable[[], object], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refusal, match=told):
        call()
    assert list(tmp_path.iterdir()) == []


def test_predict_of_arrays_that_are_no_image_is_refused(trained: Trained) -> None:
    for array in (np.zeros((0, 3, 3), np.uint8), np.array(3), np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8)):
        with pytest.raises(Refusal, match="is no image: give a path, or an RGB array"):
            lchp.predict(trained.stage.path, array)
    with pytest.raises(Refusal, match="device: str 'gpu' is none of"):
        lchp.predict(trained.stage.path, np.zeros((4, 4, 3), np.uint8), device="gpu")


def test_load_study_takes_numpy_s_values_and_paths_and_refuses_the_rest_by_type(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID, encoding="utf-8")
    study = lchp.load_study(tmp_path / "grid.yaml", {"seeds": np.arange(2), "alpha": np.float64(0.25)})
    assert study.seeds == (0, 1)
    assert lchp.load_study(tmp_path / "grid.yaml", {"seeds": range(2)}).seeds == (0, 1)
    assert study.base.alpha == 0.25
    with pytest.raises(Refusal, match="sets: set"):
        lchp.load_study(tmp_path / "grid.yaml", {"seeds": {0, 1}})


def test_results_and_per_image_are_those_of_the_files(trained: Trained) -> None:
    frame = lchp.results("tiny", output=trained.output)
    scores = {"/".join((row.method, row.split, row.metric)): row.value for row in frame.itertuples()}
    assert scores == trained.stage.scores()
    boxes = lchp.per_image(trained.run, output=trained.output)
    assert boxes["x1"].tolist() == [float(row["x1"]) for row in trained.stage.per_image()]
    assert set(boxes["run_id"]) == {trained.run}
    pd.testing.assert_frame_equal(
        lchp.per_image(trained.stage.path)[["path", "iou"]], boxes[["path", "iou"]], check_exact=True
    )


def test_predict_takes_files_and_arrays_and_warns_of_what_it_cannot_read(trained: Trained, tmp_path: Path) -> None:
    file = next(trained.images.rglob("*.png"))
    (tmp_path / "broken.png").touch()
    with pytest.warns(UserWarning, match=r"broken\.png: the image does not decode"):
        found = lchp.predict(trained.stage.path, [file, tmp_path / "broken.png"])
    with Image.open(file) as image:
        pixels = np.asarray(image)
    for arrays in (pixels, [pixels]):
        assert lchp.predict(trained.stage.path, arrays)[["x1", "class"]].equals(found[["x1", "class"]])


def test_predict_takes_a_column_of_paths_and_says_of_other_images_what_to_give(trained: Trained) -> None:
    files = sorted(trained.images.rglob("*.png"))[:2]
    found = lchp.predict(trained.stage.path, pd.Series([str(file) for file in files]))
    assert found.equals(lchp.predict(trained.stage.path, files))
    with Image.open(files[0]) as image, pytest.raises(Refusal, match=r"numpy\.asarray"):
        lchp.predict(trained.stage.path, image)


def test_run_trial_finds_what_is_trained(trained: Trained) -> None:
    config = trained.output.parent / "trial.yaml"
    text = (trained.output.parent / "study.yaml").read_text(encoding="utf-8")
    config.write_text("\n".join(line for line in text.splitlines() if not line.startswith(("name", "question"))))
    told: list[str] = []
    result = lchp.run_trial(
        config, trained.output, cache=trained.output.parent / "cache", device="cpu", say=told.append
    )
    assert result.folder == trained.stage.path
    assert told
    assert all("reused" in line for line in told)


def test_compare_prints_as_the_command_does(trained: Trained) -> None:
    found = lchp.compare("tiny", trained.stage.path, output=trained.output)
    assert repr(found) == found.text()
    with pytest.raises(ValueError, match="two runs or studies at least"):
        lchp.compare("tiny", output=trained.output)
