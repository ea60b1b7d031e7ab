"""What every test starts from: one thread, no telemetry, none of the user's own stores and clusters."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Before torch, MLflow or Ray is imported; child processes inherit it.
os.environ.update(OMP_NUM_THREADS="1", MLFLOW_DISABLE_TELEMETRY="true")
for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "RAY_ADDRESS"):
    os.environ.pop(name, None)

# A busy machine is no failure, and a failure must come again.
settings.register_profile("lchp", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lchp")
