"""`lchp report`: a study's report made again from its records alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tests.study.written as written
from lchp.cli import run
from lchp.reporting.build import write_report
from lchp.reporting.contents import read_contents
from lchp.reporting.document import Document
from lchp.reporting.formats import latex, markdown, write_format
from lchp.store.study_folder import store_of
from lchp.study.run.results import make_tables, name_runs
from tests.study.run.test_comparison import write_study


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that states a claim, its records packed, its store gone; beside it another, as it was."""
    folder = tmp_path_factory.mktemp("reported")
    output = folder / "out"
    for name in ("grid", "other"):
        text = written.GRID + "claims: [lchp_r > lchp_i for every delta]\n"
        study = written.load(folder, text, f"name={name}", "seeds=[0, 1]")
        write_study(study, output, 0.1)
        make_tables(study, output)
    assert run(["report", str(output / "grid"), "--keep-records"]) == 0
    return output


@pytest.fixture
def alone(made: Path, tmp_path: Path) -> Path:
    """What somebody has who has the tables and the packed records alone."""
    for file in ("report.json", "records.zip"):
        (tmp_path / "analysis" / "grid").mkdir(parents=True, exist_ok=True)
        shutil.copy(made / "grid" / file, tmp_path / "analysis" / "grid")
    return tmp_path / "analysis"


def test_report_from_packed_records_is_the_one_from_the_store_to_the_byte(
    made: Path, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(alone), "--keep-records"]) == 0
    assert capsys.readouterr().out == f"report: {alone / 'grid' / 'report.html'}\n"
    first, again = (
        {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "trials.json"}
        for folder in (made / "grid", alone / "grid")
    )
    assert {"table.csv", "table.svg", "training.png", "ious.svg", "differences.md", "claims.md"} <= first.keys()
    assert first == again
    with zipfile.ZipFile(alone / "grid" / "records.zip") as archive:
        assert {name.rpartition("/")[2] for name in archive.namelist()} == {
            "config.json", "dataset.json", "environment.json", "history.json", "per_image.csv", "scores.json",
        }  # fmt: skip


def test_report_of_a_folder_makes_that_of_every_study_in_it(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    monkeypatch.setattr("lchp.reporting.remake.remake", lambda folder, form, _: told.append((folder.name, form)))
    assert run(["report", str(made), "--format", "md"]) == 0
    assert run(["report", "other", "--output", str(made), "--format", "tex"]) == 0
    assert told == [("grid", "md"), ("other", "md"), ("other", "tex")]


@pytest.fixture(scope="module")
def document(made: Path) -> Document:
    """The report of one of them."""
    return write_report(read_contents(made / "other" / "report.json"), store_of(made), made / "other", redraw=False)


def test_markdown_begins_with_question_and_answer_and_ends_with_commands(document: Document) -> None:
    text = markdown(document)
    assert text.startswith("# other\n\ndoes a study of four trials train?\n\nOf 1 claim 1 ")
    assert "](training.png)" in text
    assert "| lchp reproduce otherrun0 |" in text
    assert text.endswith("| lchp reproduce otherrun7 |\n")


def test_latex_closes_what_it_opens_and_names_its_pictures(document: Document) -> None:
    text = latex(document)
    for kind in ("document", "itemize", "table", "tabular", "figure"):
        ends = [text.count(rf"\{word}{{{kind}}}") for word in ("begin", "end")]
        assert ends[0] == ends[1] > 0
    plain = text.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    assert "{training.png}" in text
    assert r"lchp\_r" in text


def test_write_format_a_browser_prints_the_page_or_it_is_said_that_none_is_there(
    document: Document, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = tmp_path / "chromium"
    browser.write_text('#!/bin/sh\nfor one; do case "$one" in --print-to-pdf=*) echo %PDF > "${one#*=}";; esac; done\n')
    browser.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert write_format(document, made / "other", "pdf").read_text(encoding="utf-8") == "%PDF\n"
    browser.write_text("#!/bin/sh\necho it is broken >&2\nexit 1\n")
    with pytest.raises(ValueError, match=r"did not print .*it is broken.*: print the page"):
        write_format(document, made / "other", "pdf")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match=r"no browser prints .*: install chromium"):
        write_format(document, made / "other", "pdf")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / "records.zip").unlink(), "holds no finished trial, and there is no"),
        (lambda folder: (folder / "records.zip").write_bytes(b"PK"), "records.zip is damaged"),
        (lambda folder: (folder / "report.json").write_text("{}"), "does not say what a report is made of"),
        (lambda folder: (folder / "report.json").unlink(), "holds no study with a report (no report.json in "),
    ],
)
def test_report_of_what_is_not_whole_is_refused(
    damage: object, told: str, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(alone / "grid")  # type: ignore[operator]
    assert run(["report", str(alone)]) == 2
    assert told in capsys.readouterr().err


def test_report_contents_are_read_as_they_were_written_and_name_runs(made: Path, alone: Path) -> None:
    file = alone / "grid" / "report.json"
    contents = read_contents(file)
    assert contents.text() == file.read_text(encoding="utf-8")
    assert [claim.text for claim in contents.stated()] == ["lchp_r > lchp_i for every delta"]
    name_runs(alone / "grid", {"gridrun0": "named"})
    renamed = read_contents(file)
    assert (renamed.trials[0].run_id, renamed.trials[0].folder) == ("named", contents.trials[0].folder)
    assert renamed.trials[1:] == contents.trials[1:]


@pytest.mark.parametrize("outside", ["/etc", "trial/../../other"])
def test_report_contents_that_lead_out_of_the_folder_are_refused(alone: Path, outside: str) -> None:
    file = alone / "grid" / "report.json"
    text = file.read_text(encoding="utf-8")
    first = json.loads(text)["trials"][0]["folder"]
    for before, after in ((f'"{first}"', f'"{outside}"'), ('"name": "table"', f'"name": "{outside}"')):
        assert before in text
        file.write_text(text.replace(before, after), encoding="utf-8")
        with pytest.raises(ValueError, match=rf"report\.json: '{outside}' leads out of the folder"):
            read_contents(file)


def test_report_imports_neither_torch_nor_mlflow_nor_ray(alone: Path) -> None:
    code = (
        f"import sys; from lchp.cli import run; code = run(['report', {str(alone)!r}]); "
        "print(code, sorted({'torch', 'mlflow', 'ray', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
