"""How Ray is started, with a ``ray.init`` that starts nothing; test_ray_tune.py starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private import ray_constants

import tests.study.small as small
from lchp.errors import Refusal
from lchp.study.run import cluster as module
from lchp.study.run.cluster import ATTEMPTS, QUIET, cluster
from lchp.study.spec.load import Study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return small.load(tmp_path, small.GRID)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of every ``ray.init``, which starts nothing."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(ray, "init", lambda **options: calls.append(options))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    monkeypatch.setattr(os, "environ", environment)
    return calls


def failing(times: int, calls: list[dict[str, Any]]) -> Callable[..., None]:
    """A ``ray.init`` that fails so often."""

    def init(**options: Any) -> None:
        calls.append(options)
        if len(calls) <= times:
            raise Exception("\nThe current node timed out during startup.\nmore")

    return init


def test_cluster_of_its_own_is_local_whatever_runs_on_the_machine(study: Study, started: list[dict[str, Any]]) -> None:
    with cluster(study, "cpu") as resources:
        assert resources["gpu"] == 0
        folder = Path(started[0]["_temp_dir"])
        assert folder.is_dir()
    assert started[0]["address"] == "local"
    assert started[0]["_node_ip_address"] == "127.0.0.1"
    assert not folder.exists()


def test_cluster_of_its_own_is_guarded_by_a_token_on_loopback(study: Study, started: list[dict[str, Any]]) -> None:
    os.environ.update(RAY_AUTH_MODE="disabled", http_proxy="http://proxy:3128")
    os.environ.pop("RAY_AUTH_TOKEN", None)
    with cluster(study, "cpu"):
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
        assert "RAY_AUTH_MODE" not in os.environ, "Ray then asks for the token"
        assert ray._private.services.resolve_ip_for_localhost("127.0.0.1") == "127.0.0.1"
        assert "127.0.0.1" in os.environ["no_proxy"]
        assert QUIET.items() <= os.environ.items()


def test_cluster_token_of_the_user_is_kept(study: Study, started: list[dict[str, Any]]) -> None:
    os.environ["RAY_AUTH_TOKEN_PATH"] = "mine"
    os.environ.pop("RAY_AUTH_TOKEN", None)
    with cluster(study, "cpu"):
        assert "RAY_AUTH_TOKEN" not in os.environ


def test_cluster_at_an_address_is_joined_as_it_is(study: Study, started: list[dict[str, Any]]) -> None:
    os.environ.update(RAY_ADDRESS="head:6379", RAY_AUTH_MODE="disabled")
    with cluster(study, "cpu"):
        assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert started[0]["address"] == "head:6379"
    assert {"num_cpus", "_temp_dir", "_node_ip_address"}.isdisjoint(started[0])


def test_cluster_quota_of_the_control_group_counts(
    study: Study, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cores", lambda: 3)
    with cluster(study, "cpu"):
        assert started[0]["num_cpus"] == 3


def test_cluster_that_starts_late_is_tried_again(
    study: Study, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "init", failing(ATTEMPTS - 1, started))
    with cluster(study, "cpu") as resources:
        assert resources["cpu"] == 1
    assert len(started) == ATTEMPTS


def test_cluster_that_never_starts_is_refused_with_remedy(
    study: Study, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "init", failing(9, started))
    told = r"Ray does not start, 3 times in a row \(The current node timed out during startup\.\): see .* --address"
    with pytest.raises(Refusal, match=told), cluster(study, "cpu"):
        raise AssertionError("nothing has started")
    assert len(started) == ATTEMPTS
    assert not Path(started[0]["_temp_dir"]).exists()


def test_cluster_that_cannot_be_joined_is_refused_with_remedy(
    study: Study, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.environ["RAY_ADDRESS"] = "head:6379"
    monkeypatch.setattr(ray, "init", failing(9, started))
    told = r"head:6379 cannot be joined \(The current.*RAY_AUTH_MODE=token"
    with pytest.raises(Refusal, match=told), cluster(study, "cpu"):
        raise AssertionError("nothing has started")
    assert len(started) == 1


def test_cluster_with_too_few_gpus_is_refused(study: Study, started: list[dict[str, Any]]) -> None:
    with pytest.raises(Refusal, match=r"resources\.gpus = 1: .* or --device cpu"), cluster(study, "cuda"):
        raise AssertionError("no trial fits")


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_cluster_that_failed_leaves_no_process(
    study: Study, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[subprocess.Popen[bytes]] = []

    def init(**options: Any) -> None:
        left.append(subprocess.Popen([sys.executable, "-c", "input()", options["_temp_dir"]], stdin=subprocess.PIPE))
        raise RuntimeError("Failed to start GCS.")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(Refusal, match=r"Failed to start GCS\."), cluster(study, "cpu"):
        raise AssertionError("nothing has started")
    codes = []
    for process in left:
        with process:
            assert process.stdin is not None
            codes.append(process.wait(30))
    assert codes == [-signal.SIGKILL] * ATTEMPTS
