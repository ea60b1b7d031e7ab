from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lchp.errors import Refusal
from lchp.shipped import STUDIES
from lchp.study.kept.needs import places_of, study_or_file
from lchp.study.run.cards import Cards
from lchp.study.run.ledger import Entry, Ledger
from lchp.study.run.materials import Materials
from lchp.study.run.options import Machine, total_epochs
from lchp.study.run.run_cards import trial_card
from tests.study import small
from tests.study.conftest import Trained


def test_places_of_a_study_are_all_that_its_trials_train(trained: Trained, tmp_path: Path) -> None:
    text = small.TINY + "confidence: {score: out_of_fold, folds: 2}\n"
    (trial,) = small.load(tmp_path, text).trials
    materials = Materials(Machine(trained.output.parent / "cache", "cpu").runtime(tmp_path / "out"))
    entry = Entry(
        trial.name, 0, {}, materials.folder(trial.config), total_epochs(trial.config), 0,
        initialization=materials.initialization(trial.config), references={"supervised": "reference/00"},
    )  # fmt: skip
    Ledger(tmp_path / "out/tiny", [entry]).write()
    Cards(tmp_path / "out/tiny").write(trial_card(trial, entry, materials.of(trial.config), True))
    stages = {folder.relative_to(tmp_path / "out/.store").as_posix() for folder in materials.stages(trial.config)}
    assert len(stages) == 3
    assert places_of(tmp_path / "out/tiny") == stages | {"reference/00"}


def test_places_of_a_trial_of_version_0_2_are_found_beside_it(trained: Trained, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / ".store").symlink_to(trained.output / ".store")
    Ledger(output / "old", [replace(trained.entry, initialization=None)]).write()
    assert places_of(output / "old") == {trained.entry.folder, str(trained.entry.initialization)}


def test_study_or_file_takes_a_study_that_was_run_before_one_that_comes_with_lchp(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, output, shipped = Path("quickstart"), Path("analysis"), STUDIES / "quickstart.yaml"
    assert study_or_file(name, output) == (None, shipped)
    Ledger(output / name, [trained.entry]).write()
    assert study_or_file(name, output) == (tmp_path / output / name, shipped)
    assert study_or_file(name, output, has_options=True) == (None, shipped)
    assert study_or_file(Path("quickstart.yaml"), output) == (None, Path("quickstart.yaml"))
    name.write_text("a file of that name", encoding="utf-8")
    assert study_or_file(name, output) == (None, name)


@pytest.mark.parametrize("place", ["mine", "analysis/mine"])
def test_study_or_file_refuses_options_beside_a_name_or_folder(
    place: str, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = Path("analysis")
    assert study_or_file(Path("mine"), output, has_options=True) == (None, Path("mine"))
    Ledger(output / "mine", [trained.entry]).write()
    reason = "is the study in .*analysis/mine, and --set, --seeds and --data go with the study's FILE: give"
    with pytest.raises(Refusal, match=f"^{place}: {reason}"):
        study_or_file(Path(place), output, has_options=True)
