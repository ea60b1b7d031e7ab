"""The wheel, installed where the source tree is not: studies and the paper's numbers are in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
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
