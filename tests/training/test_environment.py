from __future__ import annotations

import json
import platform
import re

import pytest
import torch

import lchp
from lchp.training import environment


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


def test_describe_leaves_out_libraries_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "LIBRARIES", ("torch", "no-such-library"))
    versions = environment.describe("cpu")["versions"]
    assert isinstance(versions, dict)
    assert set(versions) == {"python", "lchp", "torch"}
