from __future__ import annotations

import json
import platform
import re
from pathlib import Path

import pytest
import torch

import lchp
from lchp.training import environment
from lchp.training.config import ComputeConfig


def test_describe_names_commit_versions_and_hardware() -> None:
    found = environment.describe("cpu")
    assert json.loads(json.dumps(found)) == found
    assert found["device"] == "cpu"
    assert found["cpu"]
    versions = found["versions"]
    assert isinstance(versions, dict)
    assert versions["python"] == platform.python_version()
    assert versions["lchp"] == lchp.__version__
    assert versions["torch"] == torch.__version__.partition("+")[0]
    commit = found["commit"]
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}(\+changes)?", str(commit))


def test_describe_in_a_hook_of_another_repository_names_its_own_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = environment.describe("cpu")["commit"]
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "other"))
    assert environment.describe("cpu")["commit"] == before


def test_describe_of_a_checkout_that_variables_call_safe_names_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment.describe("cpu")["commit"]
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    for name, value in (("COUNT", "1"), ("KEY_0", "safe.directory"), ("VALUE_0", "*")):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    assert environment.describe("cpu")["commit"] == before


def test_describe_leaves_out_libraries_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "LIBRARIES", ("torch", "no-such-library"))
    versions = environment.describe("cpu")["versions"]
    assert isinstance(versions, dict)
    assert set(versions) == {"python", "lchp", "torch"}


def test_processor_says_what_torch_uses_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    plain = environment.processor()
    assert {"family", "model", "stepping", "instructions", "torch"} <= set(plain)
    assert plain["torch"] == torch.backends.cpu.get_cpu_capability()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert environment.processor() == {**plain, "ONEDNN_MAX_CPU_ISA": "SSE41"}


def test_processor_of_two_that_share_a_name_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    info = {"model name": "AMD EPYC", "cpu family": "25", "model": "1", "stepping": "1", "flags": "avx2 fma"}
    monkeypatch.setattr(environment, "_cpu_info", lambda: info)
    one = environment.describe("cpu")
    monkeypatch.setattr(environment, "_cpu_info", lambda: {**info, "model": "17", "flags": "avx2 fma avx512f"})
    other = environment.describe("cpu")
    assert one["cpu"] == other["cpu"] == "AMD EPYC"
    assert one["processor"] != other["processor"]


@pytest.mark.parametrize(
    ("precision", "device", "flags", "told"),
    [
        ("bf16", "cpu", "avx2 fma", True),
        ("fp32", "cpu", "avx2 fma", False),
        ("bf16", "cuda", "avx2 fma", False),
        ("bf16", "cpu", "avx2 avx512_bf16", False),
        ("bf16", "cpu", "avx2 amx_bf16 amx_tile", False),
        ("bf16", "cpu", "", False),
    ],
)
def test_slow_precision_is_told_by_name_where_the_processor_has_no_units_for_it(
    precision: str, device: str, flags: str, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "_cpu_info", lambda: {"model name": "AMD EPYC", "flags": flags})
    found = environment.slow_precision(ComputeConfig.model_validate({"precision": precision}), device)
    if told:
        assert found is not None
        assert "compute.precision is bf16" in found
        assert "AMD EPYC" in found
        assert "set compute.precision to fp32" in found
    else:
        assert found is None


@pytest.mark.parametrize(
    ("device", "has_cuda", "flags", "expected"),
    [
        ("cpu", True, "avx2", "fp32"),
        ("cpu", False, "avx2 avx512_bf16", "bf16"),
        ("cpu", False, "amx_bf16", "bf16"),
        ("auto", False, "avx2", "fp32"),
        ("auto", True, "avx2", "bf16"),
        ("cuda", False, "avx2", "bf16"),
        ("auto", False, "", "fp32"),
    ],
)
def test_automatic_precision_is_bf16_where_there_are_units_for_it(
    device: str, has_cuda: bool, flags: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "_cpu_info", lambda: {"flags": flags})
    monkeypatch.setattr(environment, "has_cuda", lambda: has_cuda)
    assert environment.automatic_precision(device) == expected
