"""What becomes of Ray's errors before they are handed on; test_ray_tune.py starts Ray."""

from __future__ import annotations

from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

from lchp.errors import Refusal
from lchp.study.run import ray_process
from lchp.study.run.cluster import Setup, Unstarted
from lchp.study.run.faults import fault_of
from lchp.study.run.ray_process import Parent, names_of
from lchp.training.material import Runtime


def raised(cause: Exception) -> RayTaskError:
    return RayTaskError("step", f"Traceback\n{type(cause).__name__}: {cause}", cause, "title", 1, "127.0.0.1")


def in_setup() -> Exception:
    """The worker raised while it was made."""
    return ActorDiedError.from_task_error(raised(ValueError("no such file")))


@pytest.mark.parametrize(
    ("error", "of_machine"),
    [
        (raised(FloatingPointError("nan")), False),
        (raised(Refusal("no")), False),
        (raised(ValueError(lambda: "cannot be pickled")), False),
        (in_setup(), False),
        (raised(MemoryError()), True),
        (ActorDiedError(), True),
        (ActorUnavailableError("gone", None), True),
        (None, True),  # of a node, of memory: Tune keeps no other
    ],
)
def test_names_of_an_error_tell_whose_fault_it_is(error: Exception | None, of_machine: bool) -> None:
    assert fault_of(names_of(error), str(error)).of_machine == of_machine


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """Of trials of three cores and a GPU, on a machine of two, where Ray starts."""
    monkeypatch.setattr(ray, "init", lambda **options: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 3.0})
    monkeypatch.setattr(ray_process, "cores", lambda: 2)
    return Setup(tmp_path, {"cpu": 3.0, "gpu": 1.0}, None, Runtime(tmp_path, tmp_path), {}, None)


def test_cluster_of_its_own_is_local_whatever_runs_on_the_machine(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {}
    monkeypatch.setattr(ray, "init", lambda **given: options.update(given))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 3.0, "GPU": 1.0})
    with ray_process._cluster(setup):
        assert options["address"] == "local"
    assert options["_node_ip_address"] == "127.0.0.1"
    assert options["_temp_dir"] == str(setup.folder)
    assert options["num_cpus"] == 3, "what a trial takes, though the machine has two"


def test_cluster_at_an_address_is_joined_as_it_is(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {}
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setattr(ray, "init", lambda **given: options.update(given))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 30.0, "GPU": 10.0})
    with ray_process._cluster(setup):
        assert ray_process._slots(setup) == 10
    assert options["address"] == "head:6379"
    assert {"num_cpus", "_temp_dir", "_node_ip_address"}.isdisjoint(options)


def test_cluster_with_too_few_gpus_is_refused(setup: Setup) -> None:
    with pytest.raises(Refusal, match=r"resources\.gpus = 1: .* or --device cpu"), ray_process._cluster(setup):
        raise AssertionError("no trial fits")


def test_cluster_that_does_not_start_says_why_in_a_line(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise Exception("\nThe current node timed out during startup.\nmore")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(Unstarted, match=r"^The current node timed out during startup\.$"), ray_process._cluster(setup):
        raise AssertionError("nothing has started")


@pytest.mark.parametrize("goes_on", [True, False])
def test_parent_is_told_of_a_step_what_a_driver_reads(goes_on: bool) -> None:
    here, there = Pipe()
    there.send(goes_on)
    result = {"global_epoch": 3, "done": False, "reports": [{"step": 3}], "notes": ["n"], "seconds": 1.5}
    assert Parent(here).stops("p", {**result, "objective": 0.5, "pid": 17}) is not goes_on
    assert there.recv() == ("epochs", "p", result)
