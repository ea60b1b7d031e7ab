"""How cost grows with the images of a dataset: finding them unchanged, memory, and an epoch of each stage's steps.

    python benchmarks/growth.py --images 1000 10000 100000 --epochs

Makes a tree in ImageNet's layout of tiny JPEGs, one class for each 1,000 images, four in ten of them with an
annotation; each measurement is a process of its own. CPU seconds, because cores may be shared.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

A_CLASS = 1_000
ANNOTATED = 400
SIZE = 32
"""Pixels of the views of the timed epochs: a small network, so that what grows beside it is seen."""


def draw(root: Path, images: int) -> None:
    """The tree: distinct files of one picture, a number in each; one annotation a class, linked."""
    text = io.BytesIO()
    Image.new("RGB", (50, 38), (90, 120, 60)).save(text, "JPEG")
    data = text.getvalue()
    for number in range(max(images // A_CLASS, 1)):
        wnid = f"n{number:08d}"
        for part, count in (("train", min(images, A_CLASS)), ("val", 5)):
            folder, boxes = (root / f"{kind}/CLS-LOC/{part}/{wnid}" for kind in ("Data", "Annotations"))
            folder.mkdir(parents=True)
            boxes.mkdir(parents=True)
            for place in range(count):
                comment = b"%08d %05d" % (number, place + (part == "val") * A_CLASS)
                marked = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
                (folder / f"{place:05d}.JPEG").write_bytes(data[:2] + marked + data[2:])
                if place == 0:
                    (boxes / "00000.xml").write_text(_annotation(wnid), encoding="utf-8")
                elif place < ANNOTATED:
                    os.link(boxes / "00000.xml", boxes / f"{place:05d}.xml")


def _annotation(wnid: str) -> str:
    corners = "<xmin>5</xmin><ymin>6</ymin><xmax>40</xmax><ymax>30</ymax>"
    return f"<annotation><object><name>{wnid}</name><bndbox>{corners}</bndbox></object></annotation>"


def measured(root: Path, work: Path, epochs: bool) -> dict[str, float]:
    """One process's preparation, and an epoch of each stage."""
    from lchp.training.config import TrialConfig
    from lchp.training.material import Material, Runtime

    config = TrialConfig.model_validate(
        {
            "dataset": {"kind": "imagenet", "path": str(root)},
            "split": {"val_per_class": 5},
            "view": {"resize": SIZE, "crop": SIZE},
            **dict.fromkeys(("classifier", "backbone"), "small_cnn"),
            "weights": {"classifier": "none", "regressor": "none"},
        }
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.process_time()
    material = Material.prepare(config, Runtime(work / "store", work / "cache"))
    found = {"prepare_cpu_s": time.process_time() - started}
    found["prepare_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    found["prepare_own_mb"] = _own_megabytes()
    if epochs:
        found |= _epochs(config, material)
    return found


def _own_megabytes() -> float:
    """Memory of this process that it shares with none: what is mapped from files is not."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return float(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def _epochs(config: object, material: object) -> dict[str, float]:
    import torch

    from lchp.training.config import TrialConfig
    from lchp.training.initialization import Initialization
    from lchp.training.material import Material
    from lchp.training.stages import set_up_torch

    assert isinstance(config, TrialConfig)
    assert isinstance(material, Material)
    set_up_torch(config.compute, "cpu")
    material.train.open()
    stage = Initialization(config, len(material.dataset.classes), "cpu")
    stage._step(*next(material.train.batches(torch.arange(32), 32, True, 0)))
    before = _own_megabytes()
    started = time.process_time()
    stage.train_epoch(material.train, 0)
    images = len(material.train)
    return {
        "epoch_ms_an_image": 1000 * (time.process_time() - started) / images,
        "epoch_grows_mb": _own_megabytes() - before,
    }


def main() -> None:
    """Prints one line a process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--epochs", action="store_true", help="also time an epoch of the initialization")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        root, work, epochs = arguments.child
        print(json.dumps(measured(Path(root), Path(work), epochs == "True")))
        return
    for images in arguments.images:
        with tempfile.TemporaryDirectory() as folder:
            draw(Path(folder) / "ILSVRC", images)
            for name, epochs in (("first", False), ("again", arguments.epochs)):
                child = [sys.executable, __file__, "--child", f"{folder}/ILSVRC", folder, str(epochs)]
                done = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True, stderr=subprocess.DEVNULL)
                values = json.loads(done.stdout)
                print(f"| {images} | {name} | " + " | ".join(f"{key} {value:.3g}" for key, value in values.items()))


if __name__ == "__main__":
    main()
