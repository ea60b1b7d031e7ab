"""lchp from Python, as a person would call it."""

from __future__ import annotations

import doctest
import subprocess
import sys
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


def test_load_study_takes_numpy_s_values_and_paths_and_refuses_the_rest_by_type(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID, encoding="utf-8")
    study = lchp.load_study(tmp_path / "grid.yaml", {"seeds": np.arange(2), "alpha": np.float64(0.25)})
    assert study.seeds == (0, 1)
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
