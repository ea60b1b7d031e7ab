"""Predictions for image files, as `lchp predict` makes them: images a second, and how far a device's boxes lie from the
CPU's.

    python benchmarks/predicting.py --case mobilenet_224
    python benchmarks/predicting.py --device cuda --case paper --compute precision=bf16

Networks have random weights; the regressor's last layer tells images apart.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

import torch
import yaml
from cases import CASES, configured, draw_images
from timing import compare, report

from lchp.data.loader import decode
from lchp.store.localizer import Localizer
from lchp.store.model import Design, Model
from lchp.study.use.predict import Prediction, Unread, predictions
from lchp.training.config import TrialConfig
from lchp.training.initialization import make_networks

COMPARED = 4
"""Images whose boxes are compared with the CPU's, which takes seconds for one of InceptionV3 at 448 px."""


def model_of(config: TrialConfig, classes: int) -> Model:
    """A model whose boxes differ between images."""
    networks = make_networks(config, classes)
    weight = networks.regressor.head.weight
    with torch.no_grad():
        weight.copy_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    states = networks.regressor.state_dict(), networks.judge.state_dict()
    return Model(Design.of(config.model_dump(mode="json")), None, *states)


def predicted(localizer: Localizer, files: list[str]) -> list[Prediction]:
    """What it says of all files; none is left out."""
    unread = Unread([])
    found = list(predictions(localizer, files, False, unread, print))
    assert not unread.lines
    return found


def main() -> None:
    """Time reading alone and predictions, and compare boxes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--case", choices=tuple(CASES), default="quickstart")
    parser.add_argument("--repeats", type=int, default=3, help="timed passes over the images, after one that is not")
    parser.add_argument("--compute", nargs="*", default=[], metavar="KEY=VALUE", help="of the model's `compute`")
    parser.add_argument("--images", type=Path, default=Path("/tmp/lchp-benchmark"), help="folder for drawn images")
    chosen = parser.parse_args()
    case, folder = CASES[chosen.case], chosen.images / chosen.case
    draw_images(case, folder, os.cpu_count() or 1)
    compute = dict(item.split("=", 1) for item in chosen.compute)
    config = configured(case, folder, {key: yaml.safe_load(value) for key, value in compute.items()})
    model = model_of(config, case.classes)
    localizer = Localizer(model, chosen.device)
    files = [str(file) for file in sorted((folder / "test").rglob("*.jpg"))]
    variants = {
        "decoding and resizing, one thread": lambda: [localizer.resized(decode(Path(file))) for file in files],
        "predictions": partial(predicted, localizer, files),
    }
    times = compare(variants, chosen.device, chosen.repeats)
    report(f"{len(files)} files, {chosen.case}, {config.compute.precision}", times, len(files), chosen.device)
    here, there = predicted(localizer, files[:COMPARED]), predicted(Localizer(model), files[:COMPARED])
    pairs = [(one.found, other.found) for one, other in zip(here, there, strict=True)]
    apart = max(abs(a - b) for one, other in pairs for a, b in zip(one.box, other.box, strict=True))
    same = sum(one.label == other.label for one, other in pairs)
    print(f"against the CPU, {len(pairs)} images: ends at most {apart:.2f} px apart, {same} classes the same")


if __name__ == "__main__":
    main()
