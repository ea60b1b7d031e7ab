"""Memory that is freed and used again."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, sys
import torch
from lchp.training.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    big, small = torch.ones(24, 1 << 20), [torch.ones(1 << 18) for _ in range(100)]
    del big, small
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own")
def test_memory_of_freed_tensors_is_used_again_without_asking_the_system() -> None:
    faults = {
        kind: int(subprocess.run([sys.executable, "-c", FAULTS, kind], check=True, capture_output=True).stdout)
        for kind in ("kept", "as it comes")
    }
    # 200 MB are 50,000 pages.
    assert faults["kept"] < 100
    assert faults["as it comes"] > 10_000
