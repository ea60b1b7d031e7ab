from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lchp.cli import run as command
from lchp.data.locks import locked, machine
from lchp.data.scratch import LOCK
from lchp.errors import Refusal
from lchp.store.folder import StageFolder
from lchp.store.in_use import using
from lchp.study.kept.collect import remove, remove_place, unneeded
from lchp.study.kept.needs import places_of
from lchp.study.kept.occupied import occupied_by, space_of
from lchp.study.kept.removal import removal, remove_study, study_folder
from lchp.study.kept.sizes import bytes_of
from lchp.study.run.ledger import Ledger, read
from lchp.study.run.ownership import alone
from tests.study.conftest import Trained


def silent(line: str) -> None:
    raise AssertionError(line)


def test_space_of_tells_what_is_shared(output: Path, trained: Trained) -> None:
    space = space_of(output)
    tiny, other = sorted(space.studies, key=lambda one: one.name, reverse=True)
    first = bytes_of(output / ".store" / str(trained.entry.initialization))
    assert (tiny.shared, other.shared, tiny.stages, tiny.finished) == (first, first, 2, 1)
    assert tiny.trained == first + bytes_of(output / ".store" / trained.entry.folder)
    assert (tiny.own, space.milestones) == (bytes_of(output / "tiny"), bytes_of(output / ".store/milestones"))
    assert space.store == bytes_of(output / ".store") > tiny.trained + space.milestones


def test_occupied_by_one_study_reads_its_own_stages_alone(
    output: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, read = space_of(output).studies, list[Path]()

    def noted(place: Path) -> int:
        read.append(place)
        return bytes_of(place)

    monkeypatch.setattr("lchp.study.kept.occupied.bytes_of", noted)
    assert occupied_by(output / "tiny") == next(one for one in both if one.name == "tiny")
    assert {place.relative_to(output).as_posix() for place in read} == {
        "tiny", f".store/{trained.entry.folder}", f".store/{trained.entry.initialization}",
    }  # fmt: skip
    assert occupied_by(output / "gone") is None


def test_unneeded_is_what_no_study_has(output: Path, trained: Trained) -> None:
    store = output / ".store"
    found = {str(one.path.relative_to(store)): one.why for one in unneeded(output)}
    assert found.pop("trial/00000000000000bb") == "no study has it"
    assert found.pop("trial/00000000000000cc.damaged-1") == "set aside as damaged"
    assert found.pop(f"{trained.entry.folder}/.networks.4194305.pt") == "left by a process that was killed"
    assert set(found.values()) == {"for longer trainings alone: every trial is finished"}
    assert len(found) == len(list((store / "milestones").iterdir()))
    assert not [one for one in unneeded(output, keep_milestones=True) if "milestones" in str(one.path)]
    Ledger(output / "other", [replace(read(output / "other")[0], state="stopped")]).write()
    assert not [one for one in unneeded(output) if "milestones" in str(one.path)]


def test_gc_dry_run_tells_and_gc_removes_what_it_told(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_size for path in output.rglob("*") if path.is_file()}
    assert command(["study", "gc", "--output", str(output), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {path: path.stat().st_size for path in output.rglob("*") if path.is_file()} == before
    assert command(["study", "gc", "--output", str(output)]) == 2
    assert "give --yes" in capsys.readouterr().err
    assert command(["study", "gc", "--output", str(output), "--yes"]) == 0
    left = {path for path in output.rglob("*") if path.is_file()}
    assert sum(size for path, size in before.items() if path not in left) == told["bytes"] > 0
    for study in ("tiny", "other"):
        assert all(StageFolder(output / ".store" / place).whole for place in places_of(output / study))
    capsys.readouterr()
    assert command(["study", "gc", "--output", str(output), "--yes"]) == 0
    assert "there is nothing that no study needs" in capsys.readouterr().out


def test_gc_of_a_folder_without_studies_takes_everything(output: Path) -> None:
    for study in ("tiny", "other"):
        (output / study / "trials.json").unlink()
    kinds = {one.path.parent.name for one in unneeded(output)}
    assert kinds == {"trial", "initialization", "milestones", "datasets"}


def test_gc_refuses_while_a_study_runs_or_cannot_be_read(output: Path) -> None:
    with alone(output / "tiny"), pytest.raises(Refusal, match="a process is running this study"):
        unneeded(output)
    (output / "other/trials.json").write_text("[{", encoding="utf-8")
    with pytest.raises(Refusal, match=r"other/trials\.json is cut or damaged"):
        unneeded(output)


def test_gc_and_rm_refuse_while_a_trial_of_no_study_trains(output: Path) -> None:
    found, what = unneeded(output), removal(output / "tiny")
    before = set(output.rglob("*"))
    with using(output / ".store"):
        for refused in (
            lambda: unneeded(output),
            lambda: removal(output / "tiny"),
            lambda: remove(found, output, silent),
            lambda: remove_study(what.study, silent, lambda: silent("forgotten")),
        ):
            with pytest.raises(Refusal, match="a process trains, imports or removes there"):
                refused()
    assert set(output.rglob("*")) - before <= {output / ".store/.in-use"}


def test_gc_and_rm_leave_what_a_study_needs_since_they_told(output: Path, trained: Trained) -> None:
    told: list[str] = []
    (output / "tiny").rename(output.parent / "tiny")
    found = unneeded(output)
    (output.parent / "tiny").rename(output / "tiny")
    what = removal(output / "tiny")
    Ledger(output / "new", [replace(trained.entry, name="seed=1")]).write()
    remove(found, output, told.append)
    assert remove_study(what.study, told.append, lambda: None).stages == ()
    assert all(StageFolder(output / ".store" / place).whole for place in places_of(output / "new"))
    assert f"{output / '.store' / trained.entry.folder}: is needed by now, or gone: left" in told


def test_gc_leaves_a_temporary_file_whose_stage_or_study_is_held(output: Path, trained: Trained) -> None:
    stage, told = StageFolder(output / ".store" / trained.entry.folder), list[str]()
    parts = [output / "other/.log.4194305.txt", stage.path / ".networks.4194305.pt"]
    parts[0].touch()
    found = [one for one in unneeded(output) if one.path in parts]
    with stage.lock():
        remove(found, output, told.append)
    assert [part.exists() for part in parts] == [False, True]
    assert told == [f"{parts[1]}: a process is at work on it: left"]
    remove(found[1:], output, silent)
    assert not parts[1].exists()


def test_gc_takes_what_a_killed_repetition_has_left_and_none_that_goes_on(output: Path) -> None:
    left, held, begun, elsewhere = (output / f".reproduce-{name}" for name in ("left", "held", "begun", "elsewhere"))
    for folder in (left, held, begun, elsewhere):
        (folder / ".store/trial").mkdir(parents=True)
        (folder / LOCK).write_text("another machine's" if folder == elsewhere else machine(), encoding="utf-8")
    told = list[str]()
    with locked(held / LOCK):
        found = [one for one in unneeded(output) if one.path.name.startswith(".reproduce-")]
        assert [(one.path, one.why) for one in found] == [
            (begun, "left by a process that was killed"),
            (left, "left by a process that was killed"),
        ]
        with locked(begun / LOCK):
            remove(found, output, told.append)
    assert told == [f"{begun}: is needed by now, or gone: left"]
    assert [folder.exists() for folder in (left, held, begun, elsewhere)] == [False, True, True, True]


def test_rm_deletes_no_runs_of_a_study_that_runs(output: Path) -> None:
    with alone(output / "tiny"), pytest.raises(Refusal, match="a process is running this study"):
        remove_study(output / "tiny", silent, lambda: silent("its runs are deleted"))


def test_study_folder_above_the_working_folder_is_told_by_its_own_name(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (output / "tiny/runs").mkdir(exist_ok=True)
    monkeypatch.chdir(output / "tiny/runs")
    assert study_folder(Path(".."), Path("analysis")) == output / "tiny"


def test_rm_of_a_study_whose_list_is_damaged_leaves_its_stages_to_gc(
    output: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    (output / "tiny/trials.json").write_text("[{", encoding="utf-8")
    for words in (["gc"], ["rm", "other"]):
        assert command(["study", *words, "--output", str(output), "--yes"]) == 2
        assert f"or remove that study: `lchp study rm {output / 'tiny'}`" in capsys.readouterr().err
    assert command(["study", "rm", "tiny", "--output", str(output), "--yes"]) == 0
    assert "its trials cannot be told" in capsys.readouterr().out
    assert not (output / "tiny").exists()
    assert StageFolder(output / ".store" / trained.entry.folder).whole
    assert output / ".store" / trained.entry.folder in [one.path for one in unneeded(output)]


@pytest.mark.parametrize("place", ["../../mine", "/mine", "trial/../../../mine", "trial", "", "trial/.."])
def test_rm_and_gc_touch_nothing_outside_of_the_store_whatever_a_list_says(
    place: str, output: Path, trained: Trained
) -> None:
    mine = output.parent / "mine"
    mine.mkdir()
    for wrong in (
        replace(trained.entry, folder=place),
        replace(trained.entry, initialization=place),
        replace(trained.entry, references={"center": place}),
    ):
        Ledger(output / "tiny", [wrong]).write()
        with pytest.raises(Refusal, match="which is no place in the store"):
            places_of(output / "tiny")
        with pytest.raises(Refusal, match="which is no place in the store"):
            unneeded(output)
        assert removal(output / "tiny").stages == ()
    remove_study(output / "tiny", silent, lambda: None)
    assert mine.is_dir()
    assert (output / ".store/trial").is_dir()


def test_rm_removes_a_study_and_the_stages_of_no_other(
    output: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["study", "rm", "tiny", "--output", str(output)]
    assert command([*words, "--dry-run"]) == 0
    assert command(words) == 2
    assert StageFolder(output / ".store" / trained.entry.folder).whole
    capsys.readouterr()
    assert command([*words, "--yes"]) == 0
    assert "1 stages stay, which other studies have" in capsys.readouterr().out
    assert not (output / "tiny").exists()
    assert not (output / ".store" / trained.entry.folder).exists()
    assert all(StageFolder(output / ".store" / place).whole for place in places_of(output / "other"))
    assert (output / ".store/trial/00000000000000bb").exists()


@pytest.mark.parametrize("words", [["rm", "tiny", "--yes"], ["gc", "--yes"]])
def test_removal_that_was_killed_goes_on_by_the_same_command(
    output: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    def killed(folder: Path, **_: bool) -> None:
        if folder.exists():
            raise KeyboardInterrupt

    command_line = ["study", *words, "--output", str(output)]
    before = set((output / ".store").glob("trial/*"))
    with monkeypatch.context() as patch:
        patch.setattr("lchp.store.folder.shutil.rmtree", killed)
        assert command(command_line) == 130
    assert set((output / ".store").glob("trial/*.removed"))
    assert command(command_line) == 0
    left = set((output / ".store").glob("trial/*"))
    assert left < before
    assert not (output / "tiny").exists() or words[0] == "gc"


def test_gc_goes_on_with_removals_of_repetitions_and_milestones_while_a_trial_is_unfinished(output: Path) -> None:
    Ledger(output / "other", [replace(read(output / "other")[0], state="stopped")]).write()
    begun = [output / ".reproduce-abcd_123.removed", output / ".store/milestones/00000000000000dd.removed"]
    for folder in begun:
        folder.mkdir()
    found = [one for one in unneeded(output) if one.path in begun]
    assert [(one.path, one.why) for one in found] == [(path, "left by a process that was killed") for path in begun]
    remove(found, output, silent)
    assert not [*output.glob(".reproduce-*"), *output.glob(".store/milestones/*.removed*")]


def test_gc_tells_what_it_cannot_remove_and_goes_on(
    output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusing(path: Path) -> None:
        if path.name == "00000000000000bb":
            raise PermissionError(13, "Permission denied")
        remove_place(path)

    monkeypatch.setattr("lchp.study.kept.collect.remove_place", refusing)
    assert command(["study", "gc", "--output", str(output), "--yes"]) == 0
    assert "00000000000000bb: cannot be removed ([Errno 13] Permission denied): left" in "".join(capsys.readouterr())
    assert [one.path.name for one in unneeded(output)] == ["00000000000000bb"]


def test_rm_passes_over_a_removal_that_it_cannot_go_on_with(output: Path) -> None:
    (output.parent / "mine").mkdir()
    (output / ".store/trial/mine.removed").symlink_to(output.parent / "mine")
    (output / ".store/trial/zz.removed").mkdir()
    remove_study(output / "tiny", silent, lambda: None)
    assert not (output / "tiny").exists()
    assert [path.name for path in output.glob(".store/trial/*.removed")] == ["mine.removed"]
    assert (output.parent / "mine").is_dir()


def test_rm_takes_no_folder_of_another_kind(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (output / "link").symlink_to(output / "tiny")
    for place, told in (("nothing", "(link, other, tiny)"), ("link", "is a link"), (".store", "is no folder of a")):
        assert command(["study", "rm", place, "--output", str(output), "--yes"]) == 2
        assert told in capsys.readouterr().err
    assert (output / "tiny/table.md").exists()


def test_rm_says_where_it_knows_of_no_runs_to_delete(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["study", "rm", "tiny", "--output", str(output), "--yes", "--runs"]
    assert command([*line, "delete"]) == 0
    assert f"{output / 'tiny'}: holds no record of its runs, and none is deleted" in capsys.readouterr().err
    assert command(["study", "rm", "other", "--output", str(output), "--yes"]) == 0
    assert capsys.readouterr().err == ""
