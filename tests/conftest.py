"""What every test starts from: one thread, no telemetry, none of the user's own stores and clusters."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# Before torch, MLflow or Ray is imported; child processes inherit it.
os.environ.update(OMP_NUM_THREADS="1", MLFLOW_DISABLE_TELEMETRY="true")
for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "RAY_ADDRESS", "LCHP_SEARCH_STORAGE"):
    os.environ.pop(name, None)

# A busy machine is no failure, and a failure must come again.
settings.register_profile("lchp", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lchp")

LONGEST = (
    "tests/test_studies.py",
    "tests/faults/test_faults.py",
    "tests/study/run/test_ray_tune.py",
    "tests/test_wheel.py",
    "tests/test_quickstart.py",
    "tests/training/test_trial.py",
    "tests/study/run/test_study.py",
    "tests/method/test_backbones.py",
    "tests/method/test_networks.py",
    "tests/study/run/test_sync.py",
)
"""Files of half a minute and more. Each runs on one worker: begun first, none is left over for one alone at the end."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; everything else in its order."""
    rank = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(LONGEST)))
