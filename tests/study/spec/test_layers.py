"""What is laid over what, where that is more than one value over another."""

from __future__ import annotations

from pathlib import Path

import pytest

from lchp.errors import Refusal
from lchp.study.spec import layers
from lchp.study.spec.load import load_study, load_trial
from lchp.study.spec.shown import shown

STUDY = "name: own\npreset: quickstart\nvary: {delta: [0.3, 0.4]}\ncompute: {precision: PRECISION}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY.replace("PRECISION", "auto"), encoding="utf-8")
    return file


@pytest.mark.parametrize(("device", "expected"), [("cuda", "bf16"), ("cpu", "fp32")])
def test_precision_auto_is_that_of_the_device_and_identifies_trials_as_if_it_were_written(
    device: str, expected: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "automatic_precision", lambda device: {"cuda": "bf16", "cpu": "fp32"}[device])
    found = load_study(file, device=device)
    assert {trial.config.compute.precision for trial in found.trials} == {expected}
    file.write_text(STUDY.replace("PRECISION", expected), encoding="utf-8")
    assert load_study(file, device=device).identity() == found.identity()


def test_precision_auto_as_an_option_and_of_a_trial(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "automatic_precision", lambda device: "bf16")
    file.write_text("preset: quickstart\n", encoding="utf-8")
    assert load_trial(file, ["compute.precision=auto"]).compute.precision == "bf16"
    assert load_trial(file).compute.precision == "fp32"


def test_precision_auto_is_shown_as_what_it_is_here(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "automatic_precision", lambda device: "bf16")
    (line,) = (line for line in shown(file) if line.name == "compute.precision")
    assert line.value == "bf16"
    assert str(line.origin).endswith("study.yaml:4, auto on this machine")


def test_precision_auto_among_what_varies_is_refused(file: Path) -> None:
    with pytest.raises(Refusal, match=r"compute\.precision.*auto"):
        load_study(file, ["vary={compute.precision: [auto, fp32]}", "compute.precision=fp32"])


def test_precision_auto_stays_what_it_was_when_the_study_was_begun(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "automatic_precision", lambda device: "bf16")
    begun = tmp_path / "out" / load_study(file).name
    begun.mkdir(parents=True)
    for held, expected in (
        ('{"base": {"compute": {"precision": "fp32"}}}', "fp32"),
        ('{"base": {', "bf16"),
        ("[]", "bf16"),
    ):
        (begun / "study.json").write_text(held, encoding="utf-8")
        assert load_study(file, output=tmp_path / "out").base.compute.precision == expected
    assert load_study(file, output=tmp_path / "elsewhere").base.compute.precision == "bf16"
    assert load_study(file, ["compute.precision=bf16"], output=tmp_path / "out").base.compute.precision == "bf16"
