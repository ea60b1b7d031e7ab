from __future__ import annotations

from pathlib import Path

import pytest

from lchp.errors import Refusal
from lchp.shipped import STUDIES
from lchp.study.spec.load import load_study, load_trial
from lchp.study.spec.shown import Line, as_yaml, shown


def lines_of(folder: Path, text: str, *sets: str, data: Path | None = None) -> dict[str, Line]:
    file = folder / "study.yaml"
    file.write_text(text, encoding="utf-8")
    return {line.name: line for line in shown(file, sets, data)}


@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.yaml")), ids=lambda file: file.stem)
def test_shown_study_is_yaml_that_does_the_same(file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.yaml"
    again.write_text(as_yaml(shown(file)), encoding="utf-8")
    first, second = load_study(file), load_study(again)
    assert second.identity() == first.identity()
    assert (second.tables, second.claims, second.references) == (first.tables, first.claims, first.references)
    assert (second.resources, second.failures) == (first.resources, first.failures)


def test_shown_trial_is_yaml_that_does_the_same(tmp_path: Path) -> None:
    text = "preset: cub\ndataset: {path: 'b: irds'}\nconfidence: {keep: 0.5}\nseed: 3\ninitialization: {clip: 1e-7}\n"
    lines_of(tmp_path, text)
    again = tmp_path / "again.yaml"
    again.write_text(as_yaml(shown(tmp_path / "study.yaml")), encoding="utf-8")
    assert load_trial(again) == load_trial(tmp_path / "study.yaml")
    assert "# tau: 0.9" in again.read_text(encoding="utf-8")


def test_shown_keys_say_which_layer_set_them(tmp_path: Path) -> None:
    text = "name: s\npreset: cub\ntau: 0.5\nview:\n  resize: 300\nvary:\n  delta: [0.6, 0.8]\n"
    found = lines_of(tmp_path, text, "view={crop: 224}", data=Path("birds"))
    file = tmp_path / "study.yaml"
    assert {name: found[name].origin for name in ("tau", "view.resize", "view.crop", "view.flip", "alpha")} == {
        "tau": f"{file}:3",
        "view.resize": f"{file}:5",
        "view.crop": "--set view={crop: 224}",
        "view.flip": None,
        "alpha": None,
    }
    assert found["split.val_per_class"].origin == "preset cub"
    assert found["dataset.path"].origin == "--data birds"
    assert found["delta"].origin == "preset cub"
    assert found["delta"].varies == f"{file}:7: 0.6, 0.8"


def test_shown_dataset_of_another_kind_takes_nothing_of_the_one_below(tmp_path: Path) -> None:
    found = lines_of(tmp_path, "name: s\ndataset: {kind: cub, path: birds}\n", "dataset={kind: table}")
    assert found["dataset.kind"].origin == "--set dataset={kind: table}"
    assert (found["dataset.path"].value, found["dataset.path"].origin) == (None, None)


def test_shown_key_that_nothing_reads_is_a_comment(tmp_path: Path) -> None:
    found = lines_of(tmp_path, "name: s\nvary: {confidence.keep: [0.5, 0.6]}\n")
    assert found["tau"].unread == "confidence.keep"
    assert "\n# tau: 0.9" in as_yaml(list(found.values()))
    assert lines_of(tmp_path, "name: s\nvary: {confidence.keep: [null, 0.6]}\n")["tau"].unread is None


def test_shown_line_tells_default_range_unit_and_source(tmp_path: Path) -> None:
    text = as_yaml(list(lines_of(tmp_path, "name: s\nview: {crop: 300}\n").values()))
    (line,) = (line for line in text.splitlines() if line.startswith("  crop:"))
    assert line.split("# ", 1)[1] == (
        f"{tmp_path / 'study.yaml'}:2, default 448 (paper 4.3) | a whole number from 16 to 2048, pixels | "
        "side in pixels of the random crop and of every input (paper: 448)"
    )


def test_shown_file_that_is_wrong_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="tau = 2: must be at least 0"):
        lines_of(tmp_path, "name: s\ntau: 2\n")
