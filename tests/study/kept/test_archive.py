from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lchp.cli import run as command
from lchp.data.fingerprint import fingerprint
from lchp.errors import Refusal
from lchp.shipped import study_file
from lchp.store.folder import StageFolder
from lchp.store.study_folder import StudyFolder
from lchp.study.kept.archive import INDEX, SEAL, missing_options, without_places, write_archive, written_study
from lchp.study.kept.arrival import put_archive
from lchp.study.kept.needs import places_of
from lchp.study.run.found import whole_id
from lchp.study.run.ledger import read
from lchp.study.run.ownership import alone, unchanging
from lchp.study.spec.load import load_study
from lchp.study.spec.source import as_yaml
from tests.study.conftest import Trained
from tests.study.planted import plant

ONE_LETTER = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
"""The SHA-256 of an x."""
Entries = dict[str, bytes]


@pytest.fixture(scope="session")
def packed(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of one trial in an archive."""
    out = tmp_path_factory.mktemp("packed") / "tiny.zip"
    write_archive(trained.output / "tiny", "name: tiny\n", out, silent)
    return out


def silent(line: str) -> None:
    raise AssertionError(line)


def test_archive_again_has_the_same_bytes_wherever_the_study_lies(
    packed: Path, trained: Trained, tmp_path: Path
) -> None:
    shutil.copytree(trained.output, tmp_path / "elsewhere")
    for file in (tmp_path / "elsewhere").rglob("*"):
        os.utime(file, (0, 0))
    write_archive(tmp_path / "elsewhere/tiny", "name: tiny\n", tmp_path / "again.zip", silent)
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_archive_names_no_path_of_this_machine(packed: Path, trained: Trained) -> None:
    with zipfile.ZipFile(packed) as archive:
        assert [name for name in archive.namelist() if name.startswith("/") or ".." in name] == []
        texts = {name: archive.read(name) for name in archive.namelist()}
    place = str(trained.output.parent).encode()
    assert [name for name, text in texts.items() if place in text] == []


def test_import_gives_the_study_and_whole_stages(packed: Path, trained: Trained, tmp_path: Path) -> None:
    arrived = put_archive(packed, tmp_path / "out", silent)
    assert (arrived.folder, arrived.stages, arrived.known) == (tmp_path / "out/tiny", 2, 0)
    assert read(arrived.folder) == [trained.entry]
    for place in places_of(arrived.folder):
        stage = StageFolder(tmp_path / "out/.store" / place)
        assert stage.whole
        for name in ("networks.pt", "per_image.csv", "scores.json"):
            assert (stage.path / name).read_bytes() == (trained.output / ".store" / place / name).read_bytes()
    lists = {file.name for file in (trained.output / ".store/datasets").iterdir()}
    assert {file.name for file in (tmp_path / "out/.store/datasets").iterdir()} == lists
    assert (StudyFolder(arrived.folder).written).read_text(encoding="utf-8") == "name: tiny\n"
    write_archive(arrived.folder, "name: tiny\n", tmp_path / "again.zip", silent)
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_import_keeps_what_is_there_and_mends_what_is_damaged(packed: Path, trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.output / ".store", tmp_path / "out/.store")
    assert put_archive(packed, tmp_path / "out", silent).known == 2
    with pytest.raises(Refusal, match="holds a study of that name"):
        put_archive(packed, tmp_path / "out", silent)
    (tmp_path / "out/tiny/trials.json").unlink()
    (tmp_path / "out/tiny/mine.txt").touch()
    with pytest.raises(Refusal, match=r"mine\.txt: is none of the study's files"):
        put_archive(packed, tmp_path / "out", silent)
    (tmp_path / "out/tiny/mine.txt").unlink()
    scores = tmp_path / "out/.store" / trained.entry.folder / "scores.json"
    scores.write_text("{}", encoding="utf-8")
    told: list[str] = []
    arrived = put_archive(packed, tmp_path / "out", told.append)
    assert (arrived.stages, arrived.known) == (1, 1)
    assert "set aside as" in told[0]
    assert StageFolder(scores.parent).whole


def test_import_leaves_a_stage_to_the_process_that_is_at_work_on_it(
    packed: Path, trained: Trained, tmp_path: Path
) -> None:
    told: list[str] = []
    with StageFolder(tmp_path / "out/.store" / trained.entry.folder).lock():
        assert put_archive(packed, tmp_path / "out", told.append).stages == 1
    assert told == [f"{tmp_path / 'out/.store' / trained.entry.folder}: a process is at work on it: left to that"]


def test_import_while_the_study_runs_is_refused_before_a_stage_is_written(packed: Path, tmp_path: Path) -> None:
    with alone(tmp_path / "out/tiny"), pytest.raises(Refusal, match="is running this study"):
        put_archive(packed, tmp_path / "out", silent)
    assert list((tmp_path / "out/.store").glob("*/*")) == []


def test_import_of_a_stage_under_way_goes_on_from_its_checkpoint(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.output, tmp_path / "out")
    stage = StageFolder(tmp_path / "out/.store" / trained.entry.folder)
    for file in stage.files():
        file.unlink()
    stage.save_checkpoint({"history": "[]"})
    write_archive(tmp_path / "out/tiny", None, tmp_path / "tiny.zip", silent)
    put_archive(tmp_path / "tiny.zip", tmp_path / "there", silent)
    assert StageFolder(tmp_path / "there/.store" / trained.entry.folder).checkpoint() == {"history": "[]"}


def _sealed(entries: Entries, change: Callable[[dict[str, object]], None]) -> None:
    """Change the index, whose seal is right afterwards."""
    index = json.loads(entries[INDEX])
    del index[SEAL]
    change(index)
    entries[INDEX] = json.dumps({**index, SEAL: fingerprint(index)}).encode()


def _with_entry(name: str) -> Callable[[Entries], None]:
    """An entry of that name, which the index lists."""

    def change(entries: Entries) -> None:
        entries[name] = b"x"
        _sealed(entries, lambda index: index["files"].update({name: {"bytes": 1, "sha256": ONE_LETTER}}))  # type: ignore[attr-defined]

    return change


OUTSIDE = b'[{"name": "a", "seed": 0, "varied": {}, "folder": "../../up", "of": 4, "number": 0, "state": "finished"}]'
"""A list of trials whose place is none in the store."""


def _with_trials(data: bytes) -> Callable[[Entries], None]:
    """Another list of trials, which the index lists."""
    name, listed = "study/trials.json", {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def change(entries: Entries) -> None:
        entries[name] = data
        _sealed(entries, lambda index: index["files"].update({name: listed}))  # type: ignore[attr-defined]

    return change


def _without_trials(entries: Entries) -> None:
    del entries["study/trials.json"]
    _sealed(entries, lambda index: index["files"].pop("study/trials.json"))  # type: ignore[attr-defined]


def _named(study: object) -> Callable[[Entries], None]:
    return lambda entries: _sealed(entries, lambda index: index.update(study=study))


def _one_byte(entries: Entries) -> None:
    name = next(name for name in entries if name.endswith("networks.pt"))
    entries[name] = entries[name][:-1] + b"\1"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_one_byte, "networks.pt is not what was written"),
        (lambda entries: entries.pop("study/trials.json"), "its files are not those"),
        (lambda entries: entries.update({"study/more.csv": b""}), "its files are not those"),
        (lambda entries: entries.pop(INDEX), "it holds no archive.json"),
        (lambda entries: entries.update({INDEX: b"[]"}), "does not say what it holds"),
        (lambda entries: entries.update({INDEX: entries[INDEX].replace(b"tiny", b"tinx")}), "is not what was written"),
        (_with_entry("../up.txt"), "leads out"),
        (_with_entry("study/../../up.txt"), "leads out"),
        (_with_entry("/etc/up.txt"), "leads out"),
        (_with_entry("store/trial/../up.txt"), "leads out"),
        (_with_entry("study\\..\\up.txt"), "leads out"),
        (_with_entry("study/.lock"), "leads out"),
        (_with_entry("store/other/a/b.txt"), "leads out"),
        (_named("../tiny"), "leads out"),
        (_named(".store"), "leads out"),
        (_named("tiny\n"), "leads out"),
        (_named("Paper"), "leads out"),
        (_with_trials(b"[{"), "study/trials.json is no JSON"),
        (_with_trials(b"{}"), "study/trials.json is no list of trials"),
        (_with_trials(b"[1]"), "study/trials.json is no list of trials"),
        (_with_trials(b"\xff"), "study/trials.json is no JSON"),
        (_with_trials(OUTSIDE), "'../../up', which is no place in the store"),
        (_with_entry("study/trials.json/x"), "leads out"),
        (_named(5), "names no study"),
        (_without_trials, "does not say what it holds"),
    ],
)
def test_import_of_a_changed_archive_is_refused_and_writes_nothing(
    packed: Path, tmp_path: Path, change: Callable[[Entries], None], told: str
) -> None:
    with zipfile.ZipFile(packed) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    file = tmp_path / "changed.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    with pytest.raises(Refusal, match=told):
        put_archive(file, tmp_path / "out", silent)
    assert [path.name for path in tmp_path.iterdir()] == ["changed.zip"]


def test_import_of_an_archive_packed_otherwise_is_refused(packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as archive, zipfile.ZipFile(tmp_path / "other.zip", "w", zipfile.ZIP_LZMA) as other:
        other.writestr(INDEX, archive.read(INDEX))
    with pytest.raises(Refusal, match="is encrypted, or packed as lchp packs nothing"):
        put_archive(tmp_path / "other.zip", tmp_path / "out", silent)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
def test_import_of_a_cut_archive_is_refused(packed: Path, tmp_path: Path, part: float) -> None:
    data = packed.read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: int(part * len(data))])
    with pytest.raises(Refusal, match=r"cut\.zip: is (no whole archive|cut)"):
        put_archive(tmp_path / "cut.zip", tmp_path / "out", silent)


def test_study_that_is_read_is_neither_run_nor_removed_and_one_that_runs_is_not_read(tmp_path: Path) -> None:
    with alone(tmp_path / "tiny"), pytest.raises(Refusal, match="is running this study"):
        write_archive(tmp_path / "tiny", None, tmp_path / "tiny.zip", silent)
    study = tmp_path / "tiny"
    refused = pytest.raises(Refusal, match="is running this study")
    with unchanging(study), unchanging(study), refused, alone(study):
        pass


def test_archive_of_a_damaged_stage_is_refused(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.output, tmp_path / "out")
    (tmp_path / "out/.store" / trained.entry.folder / "history.json").unlink()
    with pytest.raises(Refusal, match=r"history\.json is missing: `lchp study run` makes it again"):
        write_archive(tmp_path / "out/tiny", None, tmp_path / "tiny.zip", silent)
    assert not (tmp_path / "tiny.zip").exists()


def test_missing_options_are_those_of_the_paths_that_a_study_names_and_that_are_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = {"dataset": {"kind": "table", "path": "images.csv"}, "weights": {"classifier": {"file": "a.pth"}}}
    assert missing_options(values) == ["--data PATH", "--set weights.classifier.file=PATH"]
    assert missing_options({"dataset": "synthetic", "weights": {"classifier": "none"}}) == []
    assert missing_options({"preset": "cub"}) == ["--data PATH"]
    assert missing_options({"preset": "quickstart"}) == missing_options({}) == []
    (tmp_path / "a.pth").touch()
    assert missing_options(values) == ["--data PATH"]
    (tmp_path / "images.csv").touch()
    assert missing_options(values) == []


def test_import_says_the_command_line_that_goes_on(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert command(["study", "import", str(packed), "--output", str(out)]) == 0
    told = capsys.readouterr()
    assert f"lchp study run {out}/tiny/written.yaml --output {out}\n" in told.out + told.err


def test_study_whose_own_file_is_none_is_not_packed_and_arrives_with_a_warning(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_archive(trained.output / "tiny", "name: [", tmp_path / "tiny.zip", silent)
    assert command(["study", "import", str(tmp_path / "tiny.zip"), "--output", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert "written.yaml:1: no readable YAML" in told.err
    assert "imported: " in told.out
    again = ["study", "archive", str(tmp_path / "out/tiny"), str(tmp_path / "again.zip")]
    for data in (b"name: [", b"\xff"):
        (tmp_path / "out/tiny/written.yaml").write_bytes(data)
        assert command(again) == 2
        assert "written.yaml:1: " in capsys.readouterr().err
    assert not (tmp_path / "again.zip").exists()


def test_whole_id_is_that_of_the_one_run_that_begins_so(trained: Trained) -> None:
    assert whole_id(trained.run[:6], trained.output) == trained.run
    assert whole_id("ffffff", trained.output) == "ffffff"


def test_written_study_is_its_own_text_unless_it_names_a_place() -> None:
    assert written_study("name: a # mine\n") == "name: a # mine\n"
    values = {
        "question": "/etc or not? and/or more",
        "base": {"dataset": {"path": "../../home/me/images.csv"}},
        "vary": {"weights.classifier.file": ["/a/b.pth", "c.pth"], "pseudo_boxes": [{"file": "/a/boxes.csv"}]},
    }
    placeless = {
        "question": "/etc or not? and/or more",
        "base": {"dataset": {"path": "images.csv"}},
        "vary": {"weights.classifier.file": ["b.pth", "c.pth"], "pseudo_boxes": [{"file": "boxes.csv"}]},
    }
    assert without_places(values) == placeless
    assert yaml.safe_load(written_study(as_yaml(values))) == placeless


def test_archive_of_a_name_holds_the_study_that_comes_with_lchp_where_it_was_run_as_it_is(tmp_path: Path) -> None:
    file, out, zipped = study_file(Path("quickstart")), str(tmp_path / "out"), tmp_path / "q.zip"
    for seeds, held in ((), True), (("seeds=[7]",), False):
        folder = plant(load_study(file, seeds), tmp_path / "out", finished=0)
        assert command(["study", "archive", "quickstart", str(zipped), "--output", out]) == 0
        with zipfile.ZipFile(zipped) as archive:
            assert ("study/written.yaml" in archive.namelist()) == held
            assert archive.read("study/trials.json") == StudyFolder(folder).ledger.read_bytes()


def test_archive_of_a_name_holds_the_study_as_its_last_run_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine  # so far\npreset: quickstart\n", encoding="utf-8")
    out, zipped = str(tmp_path / "out"), tmp_path / "mine.zip"
    for sets in ([], ["vary.delta=[0.3, 0.4]", "seeds=[0, 1]"]):
        study = load_study(tmp_path / "mine.yaml", sets)
        folder = plant(study, tmp_path / "out", finished=0)
        StudyFolder(folder).written.write_text(study.written, encoding="utf-8")
        assert command(["study", "archive", str(folder), str(zipped)]) == 0
        with zipfile.ZipFile(zipped) as archive:
            text = archive.read("study/written.yaml").decode()
        (tmp_path / "again.yaml").write_text(text, encoding="utf-8")
        assert load_study(tmp_path / "again.yaml") == study
        assert ("# so far" in text) == (not sets)
    StudyFolder(folder).written.write_text("name: mine\npreset: quickstart\n", encoding="utf-8")
    assert command(["study", "archive", "mine", str(zipped), "--output", out]) == 0
    with zipfile.ZipFile(zipped) as archive:
        assert "study/written.yaml" not in archive.namelist(), "another study than the folder holds"


def test_archive_takes_what_lies_in_the_folder_and_tells_what_it_leaves_out(trained: Trained, tmp_path: Path) -> None:
    study, told = tmp_path / "tiny", list[str]()
    shutil.copytree(trained.output / "tiny", study)
    for name in ("notes.txt", "a,b.csv", "log.txt"):
        (study / name).touch()
    write_archive(study, None, tmp_path / "tiny.zip", told.append)
    with zipfile.ZipFile(tmp_path / "tiny.zip") as archive:
        assert set(archive.namelist()) == {"study/notes.txt", "study/trials.json", INDEX}
    assert told == [f"{study / 'a,b.csv'}: its name or its depth is none of a study's files: left out"]


def test_archive_and_import_commands_say_how_to_go_on(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "tiny.zip", str(tmp_path / "out")
    assert command(["study", "archive", str(trained.output / "tiny"), str(file)]) == 0
    assert "give its FILE, with its options" in capsys.readouterr().err
    inside = trained.output / "tiny/tiny.zip"
    assert command(["study", "archive", str(trained.output / "tiny"), str(inside)]) == 2
    assert not inside.exists()
    assert command(["study", "import", str(file), "--output", out]) == 0
    assert f"lchp study sync {out}/tiny" in capsys.readouterr().out
    image = str(next(trained.images.rglob("*.png")))
    assert command(["predict", "tiny", image, "--output", out]) == 0
