"""The committed analyses are what their packed records give, to the byte."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from lchp.reporting.build import write_report
from lchp.reporting.contents import read_contents
from lchp.reporting.figures import save
from lchp.reporting.formats import write_format
from lchp.reporting.records import opened, pack
from lchp.store.study_folder import StudyFolder
from lchp.study.run.results import table_specs
from lchp.study.spec.claims import space_of
from lchp.study.spec.load import load_study
from lchp.vocabulary import METHODS

ROOT = Path(__file__).parents[2]
REFERENCE = "analysis/reference"
ANEW = f"`lchp report {REFERENCE}` writes it anew"


def in_git(*arguments: str) -> bytes | None:
    """What git says of the checkout; None where this is none. A mounted one may belong to another user."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return None
    command = ["git", "-c", f"safe.directory={ROOT}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout


def committed_names() -> list[str]:
    """The committed analyses."""
    listed = in_git("ls-tree", "-r", "--name-only", "HEAD", REFERENCE)
    files = [Path(name) for name in listed.decode().splitlines()] if listed else (ROOT / REFERENCE).glob("*/*")
    return sorted(file.parent.name for file in files if file.name == "report.json")


every_analysis = pytest.mark.parametrize("name", committed_names())


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The analyses as they are committed, without a store, and the paper's numbers in ``paper``."""
    folder = tmp_path_factory.mktemp("committed")
    archive = in_git("archive", "HEAD", "analysis")
    if archive is None:
        for part in ("paper", "reference"):
            shutil.copytree(
                ROOT / "analysis" / part, folder / "analysis" / part, ignore=shutil.ignore_patterns(".store")
            )
    else:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
    return folder / "analysis"


@every_analysis
def test_committed_texts_are_made_again_to_the_byte(name: str, analysis: Path, tmp_path: Path) -> None:
    """Pictures take seconds, and are left to the command."""
    committed, folder = analysis / "reference" / name, tmp_path / "analysis" / name
    shutil.copytree(committed, folder, ignore=shutil.ignore_patterns("*.md", "*.tex", "*.csv"))
    contents = read_contents(committed / "report.json")
    with pytest.MonkeyPatch.context() as patch, opened(folder, contents) as store:
        patch.setattr("lchp.reporting.build._draw", lambda *_: None)
        write_format(write_report(contents, store, folder, analysis / "paper"), folder, "md")
    (folder / "report.md").unlink()
    made = [file for file in folder.iterdir() if file.suffix in (".csv", ".md", ".tex", ".json")]
    assert len(made) >= 7
    assert [file.name for file in made if file.read_bytes() != (committed / file.name).read_bytes()] == [], ANEW


@every_analysis
def test_committed_contents_are_those_of_the_shipped_study(name: str, analysis: Path) -> None:
    study = load_study(ROOT / "studies" / f"{name}.yaml")
    contents = read_contents(analysis / "reference" / name / "report.json")
    assert (contents.study, contents.question) == (study.name, study.question), ANEW
    assert contents.specs == tuple(table_specs(study))
    assert contents.claims == tuple(claim.text for claim in study.claims)
    assert contents.space == space_of(study.base, study.varied, study.grid, study.references)


def test_committed_records_of_the_quickstart_are_packed_and_drawn_to_the_same_bytes(
    analysis: Path, tmp_path: Path
) -> None:
    committed = analysis / "reference" / "quickstart"
    contents = read_contents(committed / "report.json")
    with opened(committed, contents) as store:
        document = write_report(contents, store, committed, analysis / "paper", redraw=False)
        pack(contents, store, tmp_path / "records.zip")
        (picture,) = (one for one in document.pictures if one.file == StudyFolder(committed).ious)
        assert picture.draw is not None
        save(picture.draw(), tmp_path / "ious.png", vector=True)
    for name in ("records.zip", "ious.png", "ious.svg"):
        assert (tmp_path / name).read_bytes() == (committed / name).read_bytes(), ANEW
    text = (tmp_path / "ious.svg").read_text(encoding="utf-8")
    assert all(method.title in text for method in METHODS.values() if not method.reference)
