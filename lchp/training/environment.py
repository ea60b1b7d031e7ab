"""What a result was made with: commit, versions and hardware."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import lchp

if TYPE_CHECKING:
    from lchp.training.config import ComputeConfig

_NUMBERS = {"family": "cpu family", "model": "model", "stepping": "stepping"}
_INSTRUCTIONS = (
    *("avx", "fma", "avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("avx_vnni", "amx_tile", "amx_bf16", "amx_int8"),
)
"""The instruction sets by which torch, oneDNN and MKL choose their kernels."""
BF16_UNITS = {"avx512_bf16", "amx_bf16"}
"""The instruction sets that compute in bf16."""
_VARIABLES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")
"""What tells them to use less than there is; each changes the bits of a trial."""

LIBRARIES = ("torch", "torchvision", "ray", "optuna", "mlflow", "imgaug", "numpy", "pandas")


def describe(device: str) -> dict[str, object]:
    """Commit (None outside a repository), versions, the processor and, on CUDA, the name of the device.

    ``cpu`` is the processor's name for people, ``processor`` what identifies it: equal bits are promised where it is
    the same (:func:`processor`).
    """
    return {
        "commit": _commit(),
        "versions": {"python": platform.python_version(), "lchp": lchp.__version__, **_versions()},
        "cpu": _cpu_info().get("model name") or platform.processor() or platform.machine(),
        "processor": processor(),
        "device": _device_name(device),
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
        variables = _variables(root)
        head = _git(root, variables, "rev-parse", "HEAD")
        changes = _git(root, variables, "status", "--porcelain", "--", "lchp")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+changes" if changes else "")


def _variables(root: Path) -> dict[str, str]:
    """The environment in which git speaks of the repository at ``root``, whatever other one a hook of git's that runs
    this command is of, and without its index, which somebody may be about to write. What is configured by variables
    (``GIT_CONFIG_COUNT``) holds: in containers ``safe.directory`` is.
    """
    of_another = _git(root, os.environ, "rev-parse", "--local-env-vars").split()
    kept = {
        name: value for name, value in os.environ.items() if name.startswith("GIT_CONFIG") or name not in of_another
    }
    return {**kept, "GIT_OPTIONAL_LOCKS": "0"}


def _git(root: Path, variables: Mapping[str, str], *arguments: str) -> str:
    """What git says in the folder ``root``."""
    done = subprocess.run(["git", *arguments], cwd=root, env=variables, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def processor() -> dict[str, str]:
    """What decides in which order and width the CPU's sums are taken, and so their last bits.

    Two processors may share a name ("AMD EPYC") and differ in all of this; on one of them torch and oneDNN may be told
    to use less than there is.
    """
    import torch

    info = _cpu_info()
    flags = set(info.get("flags", "").split())
    return {
        **{name: info.get(key, "unknown") for name, key in _NUMBERS.items()},
        "instructions": " ".join(name for name in _INSTRUCTIONS if name in flags) or "unknown",
        "torch": torch.backends.cpu.get_cpu_capability(),
        **{name: os.environ[name] for name in _VARIABLES if os.environ.get(name)},
    }


def automatic_precision(device: str) -> Literal["fp32", "bf16"]:
    """What ``compute.precision: auto`` is on this machine: bf16 on CUDA and on a processor that has units for it.

    ``device`` is ``cpu``, ``cuda``, or ``auto``: CUDA where this machine has it.
    """
    if device != "cpu" and (device != "auto" or has_cuda()):
        return "bf16"
    return "bf16" if set(_cpu_info().get("flags", "").split()) & BF16_UNITS else "fp32"


def has_cuda() -> bool:
    """Whether torch can use a CUDA device of this machine."""
    if cuda_devices() == 0:
        return False
    import torch  # seconds, which a machine without a device need not wait

    return torch.cuda.is_available()


def cuda_devices() -> int | None:
    """The CUDA devices that the driver shows to this process; None where torch alone can tell."""
    if Path("/dev/kfd").exists():
        # AMD's devices are called cuda, too.
        return None
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0 if os.uname().sysname == "Linux" else None
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def slow_precision(compute: ComputeConfig, device: str) -> str | None:
    """A line for people where networks compute in a precision that this processor has no units for; else None."""
    if compute.precision != "bf16" or device.startswith("cuda"):
        return None
    info = _cpu_info()
    flags, name = set(info.get("flags", "").split()), info.get("model name", platform.machine())
    if not flags or flags & BF16_UNITS:
        return None
    return (
        f"compute.precision is bf16, but this processor ({name}) has none of {', '.join(sorted(BF16_UNITS))}: its "
        "convolutions take 10 to 28 times as long as in fp32: set compute.precision to fp32, which makes other results"
    )


def _cpu_info() -> dict[str, str]:
    """What Linux says of its first processor; empty elsewhere."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return {}
    first = info.read_text(encoding="utf-8").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _device_name(device: str) -> str:
    if not device.startswith("cuda"):
        return "cpu"
    import torch

    return torch.cuda.get_device_name(device)
