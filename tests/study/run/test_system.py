from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from lchp.study.run.system import VARIABLE, Meter, is_wanted
from lchp.study.run.trainable import TrialTrainable
from lchp.training.stages import EpochReport


@pytest.mark.parametrize(
    ("value", "wanted"), [("true", True), (" TRUE", True), ("1", True), ("false", False), ("", False)]
)
def test_is_wanted_follows_mlflows_own_variable(value: str, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, value)
    assert is_wanted() is wanted
    monkeypatch.delenv(VARIABLE)
    assert not is_wanted()


def test_meter_reads_what_this_process_used() -> None:
    meter = Meter()
    before = os.times()
    while os.times().user - before.user < 0.05:
        pass
    found = meter.read()
    assert found["cpu_utilization_percentage"] > 1
    assert 10 < found["process_memory_megabytes"] < 1e6


def test_trainable_tells_it_of_epochs_that_were_trained_now() -> None:
    trained, reused = (EpochReport("initialization", 1, 1, {}, 0.5, reused) for reused in (False, True))
    asked, other = SimpleNamespace(meter=Meter()), SimpleNamespace(meter=None)
    assert TrialTrainable._told(asked, trained)["system"].keys() >= {"cpu_utilization_percentage"}  # type: ignore[arg-type]
    for meter, report in ((asked, reused), (other, trained)):
        assert "system" not in TrialTrainable._told(meter, report)  # type: ignore[arg-type]
