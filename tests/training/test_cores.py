from __future__ import annotations

import os
from pathlib import Path

import pytest

from lchp.training.cores import cores


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)


def machine(root: Path, groups: str, **limits: str) -> Path:
    """Draws /proc/self/cgroup and files of /sys/fs/cgroup: ``__`` stands for a slash, ``_dot_`` for a dot."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups, encoding="utf-8")
    for name, text in limits.items():
        file = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root


def test_cores_without_control_groups_are_those_of_the_affinity(tmp_path: Path) -> None:
    assert cores(tmp_path) == 4


def test_cores_version_two_quota_counts(tmp_path: Path) -> None:
    assert cores(machine(tmp_path, "0::/job\n", job__cpu_dot_max="200000 100000\n")) == 2


def test_cores_version_two_without_a_limit_are_those_of_the_affinity(tmp_path: Path) -> None:
    assert cores(machine(tmp_path, "0::/job\n", job__cpu_dot_max="max 100000\n")) == 4


def test_cores_quota_of_a_parent_counts(tmp_path: Path) -> None:
    limits = {"slice__cpu_dot_max": "300000 100000\n", "slice__job__cpu_dot_max": "max 100000\n"}
    assert cores(machine(tmp_path, "0::/slice/job/step\n", **limits)) == 3


@pytest.mark.parametrize("place", ["/", "/docker/0123", "/../../elsewhere"])
def test_cores_in_a_container_are_those_of_its_mounted_group(tmp_path: Path, place: str) -> None:
    assert cores(machine(tmp_path, f"0::{place}\n", cpu_dot_max="250000 100000\n")) == 2


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
def test_cores_version_one_quota_counts(tmp_path: Path, folder: str) -> None:
    limits = {f"{folder}__job__cpu_dot_cfs_quota_us": "100000\n", f"{folder}__job__cpu_dot_cfs_period_us": "100000\n"}
    groups = f"7:memory:/other\n4:{folder}:/job\n"
    assert cores(machine(tmp_path, groups, **limits)) == 1


def test_cores_version_one_without_a_limit_are_those_of_the_affinity(tmp_path: Path) -> None:
    limits = {"cpu__cpu_dot_cfs_quota_us": "-1\n", "cpu__cpu_dot_cfs_period_us": "100000\n"}
    assert cores(machine(tmp_path, "4:cpu:/\n", **limits)) == 4


def test_cores_quota_below_one_core_is_one(tmp_path: Path) -> None:
    assert cores(machine(tmp_path, "0::/\n", cpu_dot_max="20000 100000\n")) == 1


def test_cores_quota_above_the_machine_changes_nothing(tmp_path: Path) -> None:
    assert cores(machine(tmp_path, "0::/\n", cpu_dot_max="6400000 100000\n")) == 4
