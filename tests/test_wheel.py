"""The wheel, installed where the source tree is not: what is in it, and that docs/ways.md is so with it alone."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from tests.documents import section

ROOT = Path(__file__).resolve().parents[1]
WAYS = ROOT / "docs/ways.md"
COMMAND = "import sys; from lchp.cli import main; main()"
PAPER_OF_A_NEW_FOLDER = """
from pathlib import Path
import lchp
from lchp.reporting.paper import load_paper, paper_beside
print(lchp.__file__)
print(load_paper("table3_delta", paper_beside(Path("analysis"))).number(0.7, "lchp_r", "gt_known"))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages that holds the wheel alone."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("lchp", "studies", "analysis/paper"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    build = [*pip, "wheel", "--no-build-isolation", *offline, "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    shutil.rmtree(source)
    (wheel,) = folder.glob("*.whl")
    install = [*pip, "install", *offline, "--no-compile", "--target", str(folder / "site"), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return folder / "site"


def told(site: Path, folder: Path, *arguments: str, code: str = COMMAND) -> str:
    """What Python says in ``folder``, where the wheel's packages come first."""
    environment = {**os.environ, "PYTHONPATH": str(site), "HOME": str(folder)}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_every_module_study_and_table_of_the_paper(site: Path) -> None:
    def below(folder: Path, ending: str) -> set[str]:
        return {str(file.relative_to(folder)) for file in folder.rglob(f"*.{ending}")}

    assert below(site / "lchp", "py") == below(ROOT / "lchp", "py")
    for kept, owner, ending in (("studies", "studies", "yaml"), ("paper", "analysis/paper", "csv")):
        files = sorted((ROOT / owner).glob(f"*.{ending}"))
        assert [(site / "lchp/shipped" / kept / file.name).read_bytes() for file in files] == [
            file.read_bytes() for file in files
        ]


def test_wheel_in_an_empty_folder_lists_shows_and_plans_studies(site: Path, tmp_path: Path) -> None:
    listed = json.loads(told(site, tmp_path, "study", "list", "--json"))
    assert list(listed) == sorted(file.stem for file in (ROOT / "studies").glob("*.yaml"))
    assert all(Path(about["file"]).is_relative_to(site) and about["question"] for about in listed.values())
    (tmp_path / "mine.yaml").write_text(told(site, tmp_path, "study", "show", "table3-delta"), encoding="utf-8")
    plans = [
        json.loads(told(site, tmp_path, "study", "plan", name, "--json")) for name in ("table3-delta", "mine.yaml")
    ]
    assert plans[0] == plans[1]
    assert plans[0]["trials"] == 4


def test_wheel_finds_the_papers_numbers_beside_any_output(site: Path, tmp_path: Path) -> None:
    file, number = told(site, tmp_path, code=PAPER_OF_A_NEW_FOLDER).split()
    assert Path(file).is_relative_to(site)
    assert number == "94.36"


class Walk:
    """A person who follows docs/ways.md in an empty folder, with the wheel alone."""

    def __init__(self, site: Path, folder: Path) -> None:
        self.folder = folder
        path = os.pathsep.join([str(site / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": str(site), "HOME": str(folder)}

    def follow(self, title: str, *, at: slice = slice(None), **words: str) -> str:
        """Run the blocks of a section, or those ``at`` some places, as they are written but for ``words``; gives what
        they said.
        """
        told = ""
        for marked, code in section(WAYS, title)[at]:
            for word, value in words.items():
                assert word in code
                code = code.replace(word, value)
            shell = [sys.executable, "-c"] if marked == "python" else ["bash", "-euc"]
            done = subprocess.run(
                [*shell, code], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
            told += done.stdout + done.stderr
        return told

    def text(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def rows(self, name: str) -> list[dict[str, str]]:
        return list(csv.DictReader(self.text(name).splitlines()))

    def finished_runs(self, database: str, study: str) -> set[str]:
        """The names of a study's runs in an MLflow store, where every one is finished."""
        with closing(sqlite3.connect(self.folder / database)) as store:
            asked = (
                "select runs.name, status from runs join experiments using (experiment_id) where experiments.name = ?"
            )
            runs = store.execute(asked, (study,)).fetchall()
        assert [run for run in runs if run[1] != "FINISHED"] == []
        return {name for name, _ in runs}


@pytest.fixture(scope="module")
def own(site: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Walk, str]:
    """The first way: who went it, and what was said after the study's file was written."""
    import torch
    from torchvision.models import mobilenet_v2

    walk = Walk(site, tmp_path_factory.mktemp("own"))
    torch.manual_seed(0)
    torch.save(mobilenet_v2().state_dict(), walk.folder / "mobilenet_v2.pth")
    begun = walk.follow("Pictures of one's own", at=slice(2))
    assert "32 training and 8 test images of 4 classes, none with true boxes" in begun
    study = yaml.safe_load(walk.text("pictures.yaml"))
    study |= {"initialization": {"epochs": 2, "classifier_epochs": 1, "warmup": 1}, "refinement": {"epochs": 1}}
    (walk.folder / "pictures.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    return walk, walk.follow("Pictures of one's own", at=slice(2, None))


@pytest.fixture(scope="module")
def compared(own: tuple[Walk, str]) -> tuple[Walk, str]:
    return own[0], own[0].follow("Runs beside one another")


@pytest.fixture(scope="module")
def elsewhere(site: Path, own: tuple[Walk, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Walk, str]:
    """Another machine, to which the study has come."""
    before, there = own[0], Walk(site, tmp_path_factory.mktemp("elsewhere"))
    before.follow("On another machine", at=slice(1))
    shutil.copytree(before.folder / "pictures", there.folder / "pictures")
    for name in ("pictures.zip", "pictures.safetensors", "mobilenet_v2.pth", "new.png"):
        shutil.copy(before.folder / name, there.folder)
    told = there.follow("On another machine", at=slice(1, None))
    return there, told + there.follow("A script", at=slice(1))


def test_ways_pictures_become_a_table_a_report_and_boxes(own: tuple[Walk, str]) -> None:
    walk, told = own
    assert "pictures: 1 of 1 trial to train" in told
    (score,) = (row for row in walk.rows("analysis/pictures/table.csv"))
    assert f"| Classifier | {float(score['top1_cls_mean']):.2f} (1) |" in walk.text("analysis/pictures/table.md")
    assert "data:image/png;base64," in walk.text("analysis/pictures/report.html")
    found = re.search(r"^(\S+) +0\.\d{3}" + r" +(\d+\.\d)" * 4 + r"  new\.png$", told, re.MULTILINE)
    assert found is not None
    assert found[1] in {folder.name for folder in (walk.folder / "pictures").iterdir()}
    assert 0 <= float(found[2]) < float(found[4]) <= 96
    assert (walk.folder / "drawn/new.jpg").stat().st_size > 1000
    assert walk.finished_runs("mlflow.db", "pictures") > {"pictures", "seed=0"}


def test_ways_a_sweep_is_compared_with_what_was_there(compared: tuple[Walk, str]) -> None:
    walk, told = compared
    assert "deltas: 3 of 4 trials to train" in told
    assert "4 trials: 4 finished" in told
    assert "delta: 0.5 | 0.4, 0.5" in told
    assert "Classifier" in walk.text("analysis/deltas/report.md")
    trials = {f"delta={delta} seed={seed}" for delta in (0.4, 0.5) for seed in (0, 1)}
    assert walk.finished_runs("mlflow.db", "deltas") > {"deltas", *trials}


def test_ways_study_goes_on_elsewhere_with_the_same_rows(own: tuple[Walk, str], elsewhere: tuple[Walk, str]) -> None:
    (before, said), (there, told) = own, elsewhere
    assert f"lchp study run {there.folder}/results/pictures/written.yaml --output results --data PATH" in told
    assert "reuses 1 finished trial; trains 1 of 2" in told
    assert "seed=1: initialization 2 " in told
    assert "seed=0: initialization" not in told, "trained again"
    mine, theirs = before.rows("analysis/pictures/results.csv"), there.rows("results/pictures/results.csv")
    shared = [row for row in theirs if row["seed"] == "0"]
    assert [{**row, "run_id": ""} for row in shared] == [{**row, "run_id": ""} for row in mine]
    assert len(theirs) == 2 * len(mine)
    assert there.finished_runs("runs.db", "pictures") > {"pictures", "seed=0", "seed=1"}
    (box,) = there.rows("boxes.csv")
    corners = "".join(rf" +{float(box[corner]):.1f}" for corner in ("x1", "y1", "x2", "y2"))
    assert re.search(rf"^{box['class']} .*{corners}  new", said, re.MULTILINE), "another box than `lchp predict` gave"
    again = there.follow("A script", at=slice(1, None), RUN_ID=shared[0]["run_id"])
    assert "\nreproduced: everything agrees\n" in again
