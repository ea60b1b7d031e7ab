"""The committed analyses are what their packed records give, to the byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lchp.reporting.build import write_report
from lchp.reporting.contents import Contents, read_contents
from lchp.reporting.figures import save
from lchp.reporting.formats import write_format
from lchp.reporting.records import opened, pack
from lchp.store.study_folder import StudyFolder
from lchp.study.run.results import table_specs
from lchp.study.spec.claims import space_of
from lchp.study.spec.load import load_study
from lchp.vocabulary import METHODS

ROOT = Path(__file__).parents[2]
COMMITTED = sorted(file.parent.name for file in (ROOT / "analysis").glob("*/report.json"))
every_analysis = pytest.mark.parametrize("name", COMMITTED)
ANEW = "`lchp report analysis/` writes it anew"


def contents_of(name: str) -> Contents:
    return read_contents(ROOT / "analysis" / name / "report.json")


@every_analysis
def test_committed_texts_are_made_again_to_the_byte(name: str, tmp_path: Path) -> None:
    """Pictures take seconds, and are left to the command."""
    committed, folder = ROOT / "analysis" / name, tmp_path / "analysis" / name
    shutil.copytree(committed, folder, ignore=shutil.ignore_patterns("*.md", "*.tex", "*.csv"))
    contents = contents_of(name)
    with pytest.MonkeyPatch.context() as patch, opened(folder, contents) as store:
        patch.setattr("lchp.reporting.build._draw", lambda *_: None)
        write_format(write_report(contents, store, folder, ROOT / "analysis" / "paper"), folder, "md")
    (folder / "report.md").unlink()
    made = [file for file in folder.iterdir() if file.suffix in (".csv", ".md", ".tex", ".json")]
    assert len(made) >= 7
    assert [file.name for file in made if file.read_bytes() != (committed / file.name).read_bytes()] == [], ANEW


@every_analysis
def test_committed_contents_are_those_of_the_shipped_study(name: str) -> None:
    study, contents = load_study(ROOT / "studies" / f"{name}.yaml"), contents_of(name)
    assert (contents.study, contents.question) == (study.name, study.question), ANEW
    assert contents.specs == tuple(table_specs(study))
    assert contents.claims == tuple(claim.text for claim in study.claims)
    assert contents.space == space_of(study.base, study.varied, study.grid, study.references)


def test_committed_records_of_the_quickstart_are_packed_and_drawn_to_the_same_bytes(tmp_path: Path) -> None:
    committed, contents = ROOT / "analysis" / "quickstart", contents_of("quickstart")
    with opened(committed, contents) as store:
        document = write_report(contents, store, committed, ROOT / "analysis" / "paper", redraw=False)
        pack(contents, store, tmp_path / "records.zip")
        (picture,) = (one for one in document.pictures if one.file == StudyFolder(committed).ious)
        assert picture.draw is not None
        save(picture.draw(), tmp_path / "ious.png", vector=True)
    for name in ("records.zip", "ious.png", "ious.svg"):
        assert (tmp_path / name).read_bytes() == (committed / name).read_bytes(), ANEW
    text = (tmp_path / "ious.svg").read_text(encoding="utf-8")
    assert all(method.title in text for method in METHODS.values() if not method.reference)
