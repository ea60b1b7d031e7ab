from __future__ import annotations

import re
from pathlib import Path

import pytest

import lchp
from lchp.store import per_image
from lchp.store.folder import PICTURE
from lchp.store.study_folder import StudyFolder, store_of

FILES = {name: value.fget(StudyFolder(Path())) for name, value in vars(StudyFolder).items() if type(value) is property}
PACKAGE = Path(lchp.__file__).parent


@pytest.mark.parametrize("name", [file.name for file in FILES.values()] + [store_of(Path()).name])
def test_study_folder_alone_types_the_names_of_its_files(name: str) -> None:
    typed = re.compile(rf"""["']{re.escape(name)}["']""")
    found = {file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py") if typed.search(file.read_text())}
    # The folder of a stage has a lock of its own, and a table of MLflow's database is called runs, too.
    others = {".lock": {"store/folder.py"}, "runs": {"tracking/database.py"}}
    # The picture of a trial is called the same in both.
    owner = "store/folder.py" if name == PICTURE else "store/study_folder.py"
    assert found == {owner} | others.get(name, set())


@pytest.mark.parametrize("name", [*per_image.CORNERS, per_image.TOP1, per_image.TOP5])
def test_per_image_alone_types_the_names_of_its_columns(name: str) -> None:
    found = {file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py") if f'"{name}"' in file.read_text()}
    assert "store/per_image.py" in found
    assert not {place for place in found if place.startswith(("reporting/", "training/", "study/", "tracking/"))}


def test_study_folder_tracked_files_are_results_tables_and_report() -> None:
    tracked = StudyFolder(Path("birds")).tracked(["table", "by_tau"])
    names = ["results.csv", "table.csv", "table.md", "by_tau.csv", "by_tau.md"]
    names += ["differences.csv", "differences.md", "report.json", "report.html"]
    assert tracked == [Path("birds") / name for name in names]
