"""What every test starts from: one thread, no telemetry, none of the user's own stores and clusters."""

from __future__ import annotations

import os

# Before torch, MLflow or Ray is imported; child processes inherit it.
os.environ.update(OMP_NUM_THREADS="1", MLFLOW_DISABLE_TELEMETRY="true")
for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "RAY_ADDRESS"):
    os.environ.pop(name, None)
