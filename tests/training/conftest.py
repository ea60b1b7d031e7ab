from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lchp.method.backbones import NETWORKS, _plain_cnn
from lchp.training.config import TrialConfig
from lchp.training.material import Runtime

from .tiny import tiny, train


@pytest.fixture(autouse=True)
def _machine_as_before() -> Iterator[None]:
    """One thread wherever a test computes without a trial, and the machine's own settings afterwards."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn and resized images for every test."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Runtime:
    """A store for tests that only add trials to it, so that they share their initialization."""
    return Runtime(tmp_path_factory.mktemp("store"), cache)


@pytest.fixture(scope="session")
def finished(shared: Runtime) -> TrialConfig:
    """The tiny trial, finished in the shared store."""
    config = tiny()
    train(config, shared)
    return config


@pytest.fixture
def runtime(tmp_path: Path, cache: Path) -> Runtime:
    """A store of the test's own."""
    return Runtime(tmp_path / "store", cache)


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """small_cnn of one block, its maps as large: a stage that is traced is traced through every layer of each of its
    networks, each time it asks one. tests/method/test_networks.py traces the networks themselves.
    """
    known = NETWORKS["small_cnn"]
    trunks = {
        role: replace(trunk, build=lambda trunk=trunk: _plain_cnn([(trunk.channels, trunk.stride)]))
        for role, trunk in (("classifier", known.classifier), ("regressor", known.regressor))
    }
    monkeypatch.setitem(NETWORKS, "small_cnn", replace(known, **trunks))
