"""What a result was made with: commit, versions and hardware."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

import lchp

LIBRARIES = ("torch", "torchvision", "ray", "optuna", "mlflow", "imgaug", "numpy", "pandas")


def describe(device: str) -> dict[str, object]:
    """Commit (None outside a repository), versions, CPU model and, on CUDA, the name of the device."""
    return {
        "commit": _commit(),
        "versions": {"python": platform.python_version(), "lchp": lchp.__version__, **_versions()},
        "cpu": _cpu_model(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--", "lchp"], cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
