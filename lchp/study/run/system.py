"""What a worker used of its machine while it trained an epoch, where MLflow's own variable asks for system metrics."""

from __future__ import annotations

import os
import resource
import time

VARIABLE = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
_MEGABYTE = 1 << 20


def is_wanted() -> bool:
    """Whether the user asks for them, as of any program that MLflow follows."""
    return os.environ.get(VARIABLE, "").strip().lower() in ("true", "1")


class Meter:
    """Measures this process, from its making on and then from reading to reading."""

    def __init__(self) -> None:
        self._since = time.monotonic(), _cpu_seconds()

    def read(self) -> dict[str, float]:
        """By MLflow's names without ``system/``: CPU in percent of one core, the most memory until now in MB, and of
        the GPU the most since the last reading.
        """
        import torch  # which Ray's own process does without

        now = time.monotonic(), _cpu_seconds()
        passed, computed = now[0] - self._since[0], now[1] - self._since[1]
        self._since = now
        # Linux counts in kilobytes.
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found = {"cpu_utilization_percentage": 100 * computed / max(passed, 1e-9), "process_memory_megabytes": most}
        if torch.cuda.is_available():
            found["gpu_memory_usage_megabytes"] = torch.cuda.max_memory_reserved() / _MEGABYTE
            torch.cuda.reset_peak_memory_stats()
        return found


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
