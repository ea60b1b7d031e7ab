"""What a worker makes of a study's material on its own machine, whose folders and images may lie elsewhere."""

from __future__ import annotations

import os
import socket
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path

from lchp.training.config import TrialConfig
from lchp.training.material import Material, Runtime

FOLDER = "LCHP_NODE_FOLDER"
"""The variable that says, where it was set before `ray start`, in which folder of the machine its copies of stages and
its cache lie. Without it they lie under the paths that they have where the study was started.
"""


def runtime_here(runtime: Runtime) -> Runtime:
    """The runtime on this machine."""
    folder = os.environ.get(FOLDER)
    if not folder or runtime.shared is None:
        return runtime
    return replace(runtime, store=Path(folder).absolute() / "store", cache=Path(folder).absolute() / "cache")


def limit_memory(device: str, gpus: float) -> None:
    """Keep this process, on CUDA, within the memory of its share of a GPU: Ray shares out places, not memory. Torch
    then raises OutOfMemoryError, which names what was allowed, and the trials beside it go on.
    """
    if device.startswith("cuda") and 0 < gpus < 1:
        import torch

        torch.cuda.set_per_process_memory_fraction(gpus)


def material_here(material: Material, config: TrialConfig, runtime: Runtime) -> Material:
    """The material on this machine. Images that the driver has drawn or extracted into a cache of its own are drawn or
    extracted here, too.

    Raises:
        ValueError: they cannot be had, or are others than the driver's.
    """
    here, served = runtime_here(runtime), material.serving(config, runtime)
    if not served.dataset.root.exists():
        return _prepared(served, config, here)
    return served if here == runtime else replace(served, runtime=here)


_materials: dict[Hashable, Material] = {}
"""What was prepared in this process."""


def _prepared(there: Material, config: TrialConfig, runtime: Runtime) -> Material:
    key = (Material.key(config), runtime)
    if key not in _materials:
        here = Material.prepare(config, runtime)
        for what, old, new in (
            ("images", there.digest.total, here.digest.total),
            ("true boxes", there.data.opened.boxes_digest, here.data.opened.boxes_digest),
            ("weights", there.given_digests, here.given_digests),
        ):
            if old != new:
                raise ValueError(
                    f"the machine {socket.gethostname()} has other {what} than the one on which the study was started: "
                    "put the same data and weight files there, at the same paths"
                )
        _materials[key] = here
    return _materials[key].serving(config, runtime)
