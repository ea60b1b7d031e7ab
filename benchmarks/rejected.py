"""Refinement's step where the strong views that Eq. 6 rejects pass the regressor, and where they do not.

    python benchmarks/rejected.py --case mobilenet_160 --keep 0.3
    python benchmarks/rejected.py --device cuda --case paper --compute precision=bf16 compile=graphs

Networks have random weights and images are noise; `confidence.keep` says how many views are selected.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
import yaml
from cases import CASES, Case, configured
from parts import seconds_of
from rooflines import Ceilings, Counting
from torch import Tensor

from lchp.training.config import TrialConfig
from lchp.training.environment import describe
from lchp.training.initialization import make_networks
from lchp.training.refinement import Refinement
from lchp.training.stages import set_up_torch

REJECTED = ("mask", "drop")


def stage_of(case: Case, compute: dict[str, Any], rejected: str, keep: float, device: str) -> Refinement:
    """A refinement that is ready for steps."""
    plain = configured(case, Path(), compute).model_dump()
    plain["confidence"]["keep"], plain["refinement"]["rejected"] = keep, rejected
    config = TrialConfig.model_validate(plain)
    set_up_torch(config.compute, device)
    networks = make_networks(config, case.classes)
    networks.judge.requires_grad_(False)
    stage = Refinement(config, networks, device)
    stage.classifier.eval()
    stage.regressor.train()
    return stage


def batch_of(case: Case, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Images (uint8), labels and places of one batch."""
    images = torch.randint(0, 256, (case.batch, 3, case.resize, case.resize), dtype=torch.uint8)
    places = torch.arange(case.batch)
    return images.to(device), (places % case.classes).to(device), places.to(device)


def gflop(stage: Refinement, batch: tuple[Tensor, Tensor, Tensor]) -> float:
    """Of one step, an image."""
    with Counting(Ceilings(1.0, 1.0)) as counted:
        stage._step(*batch)
    return counted.flop / len(batch[0]) / 1e9


def main() -> None:
    """Print GFLOP and milliseconds an image of both, whose steps are timed in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--case", choices=tuple(CASES), default="quickstart")
    parser.add_argument("--keep", type=float, default=0.3, help="share of selected views (the paper's tau: about 0.3)")
    parser.add_argument("--steps", type=int, default=9, help="timed steps, after four that are not")
    parser.add_argument("--compute", nargs="*", default=[], metavar="KEY=VALUE", help="of the engine's `compute`")
    chosen = parser.parse_args()
    case, compute = CASES[chosen.case], dict(item.split("=", 1) for item in chosen.compute)
    compute = {"channels_last": True, **{key: yaml.safe_load(value) for key, value in compute.items()}}
    stages = {name: stage_of(case, compute, name, chosen.keep, chosen.device) for name in REJECTED}
    batch = batch_of(case, chosen.device)
    counts = {name: gflop(stage, batch) for name, stage in stages.items()}
    times: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(chosen.steps + 4):
        for name, stage in stages.items():
            times[name].append(seconds_of(lambda stage=stage: stage._step(*batch), chosen.device))
    made = describe(chosen.device)
    print(f"{made['device']}, {made['cpu']}; torch {torch.__version__}; commit {made['commit']}; {compute}")
    print(f"{chosen.case}, keep {chosen.keep}, batches of {case.batch}, {chosen.steps} steps; CPU seconds on a CPU")
    for name, taken in times.items():
        least, median = (1e3 * pick(taken[4:]) / case.batch for pick in (min, statistics.median))
        print(f"{name}: {counts[name]:.3f} GFLOP, {least:.2f} ms at least, {median:.2f} in the median, an image")


if __name__ == "__main__":
    main()
