"""What a trial sets of torch before it trains."""

from __future__ import annotations

import pytest
import torch

from lchp.training.config import ComputeConfig
from lchp.training.stages import set_up_torch


@pytest.mark.parametrize(("device", "deterministic"), [("cpu", False), ("cuda:1", True)])
def test_set_up_torch_tries_no_algorithms_and_is_deterministic_where_that_is_said(
    device: str, deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    set_up_torch(ComputeConfig(deterministic=deterministic), device)
    assert not torch.backends.cudnn.benchmark
    assert torch.are_deterministic_algorithms_enabled() is deterministic
