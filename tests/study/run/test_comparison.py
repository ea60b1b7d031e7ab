"""Runs and studies beside one another, from their folders alone."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tests.study.written as written
from lchp.cli import run
from lchp.cli import run as command
from lchp.reporting.compare import beside
from lchp.reporting.statistics import Interval
from lchp.store.folder import StageFolder, StageResult
from lchp.store.per_image import COLUMNS
from lchp.study.run.comparison import found_group
from lchp.study.run.ledger import Entry, Ledger
from lchp.study.spec.load import Study
from tests.reporting.test_evidence import history_of

PREDICTING = ("pseudo_label", "lchp_i", "lchp_r")
IMAGES = 40
KEY = "lchp_r/test/mean_iou"


def write_study(study: Study, output: Path, lift: float, boxes: bool = True) -> None:
    """A finished study whose LCHP-R boxes have ``lift`` more IoU, as its folder and the store hold it.

    Without true ``boxes`` its classifier is so much better.
    """
    ledger = Ledger(output / study.name)
    for trial in study.trials:
        generator = np.random.default_rng(trial.config.seed)
        base = generator.uniform(0.2, 0.7, IMAGES)
        noise = np.random.default_rng([trial.config.seed, round(100 * lift)]).normal(0, 0.05, IMAGES)
        ious = dict.fromkeys(PREDICTING, base) | {"lchp_r": np.clip(base + lift + noise, 0, 1)}
        right = [(int(iou >= 0.5), 1) for iou in ious["lchp_r"]]
        rows = [
            [f"{at:02}.png", at % 8, "test", method, 0, 0, 9, 9, *([iou, 1, 1] if boxes else ["", *right[at]])]
            for method, values in ious.items() for at, iou in enumerate(values)
        ]  # fmt: skip
        place = f"trial/{study.name}-{trial.number}"
        StageFolder(output / ".store" / place).finish(
            StageResult(
                config=trial.config.model_dump(mode="json"),
                environment={"commit": "c", "versions": {}, "cpu": "c", "device": "cpu"},
                history=history_of(0.5),
                scores={
                    **{f"{name}/test/gt_known": float((values >= 0.5).mean()) for name, values in ious.items()},
                    **{f"{name}/test/mean_iou": float(values.mean()) for name, values in ious.items()},
                }
                if boxes
                else {f"{name}/test/top1_cls": float(np.mean([hit for hit, _ in right])) for name in ious},
                per_image=pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False),
                selection=None,
                dataset="0" * 64,
                networks={},
            )
        )
        ledger.put(
            Entry(
                trial.name, trial.config.seed, trial.varied, place, 4, trial.number,
                state="finished", run_id=f"{study.name}run{trial.number}",
            )
        )  # fmt: skip


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies of three seeds that differ in refinement's rate, and one that varies delta."""
    folder = tmp_path_factory.mktemp("compared")
    seeds = written.TINY + "seeds: [0, 1, 2]\n"
    for name, lift, sets in (("slow", 0.0, ()), ("fast", 0.2, ("refinement.rate=0.01",))):
        write_study(written.load(folder, seeds, f"name={name}", *sets), folder / "out", lift)
    write_study(written.load(folder, written.GRID, "name=grid"), folder / "out", 0.1)
    return folder / "out"


def test_compare_studies_says_configuration_differences_and_images(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", "slow", "fast", "--output", str(output)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("slow: 3 trials\nfast: 3 trials\n\nconfiguration:\n")
    assert "  refinement.rate: 0.002 | 0.01\n" in text
    assert text.index("configuration:") < text.index("paired by image and seed") < text.index("changed most")
    (line,) = [line for line in text.splitlines() if line.startswith("  LCHP-R, Mean IoU")]
    assert "n = 3 seeds, 40 images" in line
    assert "new seeds [" in line
    assert len([line for line in text.splitlines() if ".png: " in line]) == 10


def test_compare_studies_without_true_boxes_compares_the_classifiers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, lift, sets in (("plain", 0.0, ()), ("better", 0.2, ("refinement.rate=0.01",))):
        study = written.load(tmp_path, written.TINY + "seeds: [0, 1, 2]\n", f"name={name}", *sets)
        write_study(study, tmp_path / "out", lift, boxes=False)
    assert run(["compare", "plain", "better", "--output", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "  refinement.rate: 0.002 | 0.01\n" in text
    (line,) = text.partition("paired by image and seed:\n")[2].splitlines()
    assert line.startswith("  Top-1 classification: ")
    assert "n = 3 seeds, 40 images" in line


def test_compare_a_study_that_varies_nothing_is_compared_with_the_setting_that_it_is(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(output, tmp_path / "out")
    study = written.load(tmp_path, written.TINY + "seeds: [0, 1]\n", "name=one", "delta=0.5", "tau=0")
    write_study(study, tmp_path / "out", 0.0)
    for names in (["one", "grid"], ["grid", "one"]):
        assert run(["compare", *names, "--output", str(tmp_path / "out"), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert {one["at"] for one in found["differences"]} == {"delta = 0.5, tau = 0.0"}
        assert {one["at"] for one in found["images"]} == {"delta = 0.5, tau = 0.0"}


def test_compare_json_has_the_differences_of_the_scores(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", str(output / "slow"), "fast", "slow", "--output", str(output), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["configuration"]) == ["refinement.rate"]
    rows = {(one["right"], one["method"], one["metric"]): one for one in found["differences"]}
    means = {
        name: np.mean([StageFolder(output / f".store/trial/{name}-{at}").scores()[KEY] for at in range(3)])
        for name in ("slow", "fast")
    }
    for name, mean in means.items():
        one = rows[name, "lchp_r", "mean_iou"]
        assert one["difference"] == pytest.approx(100 * (mean - means["slow"]))
        assert one["images"] == IMAGES
    assert rows["fast", "lchp_r", "mean_iou"]["these_seeds"]["low"] > 15
    assert rows["slow", "lchp_r", "mean_iou"]["these_seeds"] is None
    moved = [abs(one["after"] - one["before"]) for one in found["images"]]
    assert moved == sorted(moved, reverse=True)


def test_compare_runs_by_id_and_folder_makes_no_statement_on_seeds(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(output / ".store/trial/fast-1")
    assert run(["compare", "slowrun0", other, "--output", str(output)]) == 0
    text = capsys.readouterr().out
    assert "one seed: no statement on new seeds; these seeds [" in text
    assert run(["compare", "gridrun0", "gridrun2", "--output", str(output), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["configuration"]) == ["delta"]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["slow"], "give two runs or studies at least"),
        (["slow", "nowhere"], "nowhere: is no folder of a study or trial, and no finished run"),
        (["slow", "slowrun"], "several runs begin so"),
        (["grid", "slow"], "and slow delta = 0.35, tau = 0.9: they have no setting in common"),
    ],
)
def test_compare_what_cannot_be_compared_is_refused(
    names: list[str], told: str, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", *names, "--output", str(output)]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out == ""


def test_compare_on_a_split_that_was_not_measured_says_so(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "slow", "fast", "--output", str(output), "--split", "val"]) == 2
    told = capsys.readouterr().err
    assert "slow: has no GT-Known and Mean IoU on val" in told
    assert "compare on --split test" in told


def test_compare_a_damaged_list_of_another_study_stops_nothing(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(output, tmp_path / "out")
    (tmp_path / "out" / "broken").mkdir()
    (tmp_path / "out" / "broken" / "trials.json").write_text("[", encoding="utf-8")
    assert run(["compare", "slowrun0", "fastrun0", "--output", str(tmp_path / "out")]) == 0
    assert run(["compare", "slowrun0", "nowhere-run", "--output", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "no finished run" in told
    assert "not looked into: " in told
    assert "broken/trials.json" in told


def test_compare_json_has_null_for_an_end_that_is_nowhere(output: Path) -> None:
    group = found_group("slow", output)
    found = beside([group, group], "test")
    interval = Interval(-math.inf, math.inf, 1.0, math.inf)
    pairs = (replace(found.pairs[0], found=replace(found.pairs[0].found, these_seeds=interval)),)
    plain = json.loads(json.dumps(replace(found, pairs=pairs).as_dict(), allow_nan=False))
    assert plain["differences"][0]["these_seeds"] == {"low": None, "high": None, "p": 1.0, "smallest": None}


def test_compare_imports_neither_torch_nor_mlflow_nor_ray(output: Path) -> None:
    arguments = ["compare", "slow", "fast", "--output", str(output)]
    code = (
        f"import sys; from lchp.cli import run; code = run({arguments!r}); "
        "print(code, sorted({'torch', 'mlflow', 'ray', 'optuna', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize(("line", "option"), [(["compare", "a", "b"], "--picture"), (["draw", "a"], "--to")])
def test_picture_that_is_refused_leaves_no_folder_behind(
    line: list[str], option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command([*line, option, "new/below/a.png"]) == 2
    assert "a: is no folder of a study or trial" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    Path("file").touch()
    assert command([*line, option, "file/a.png"]) == 2
    assert f"{option} {tmp_path / 'file'}: is no folder that can be written" in capsys.readouterr().err
