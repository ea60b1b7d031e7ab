"""What the benchmarks of training measure on: the cases, their images on disk, and the two contenders."""

from __future__ import annotations

import copy
import csv
import itertools
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import reference
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from lchp.training.config import TrialConfig
from lchp.training.evaluation import Evaluator
from lchp.training.initialization import (
    Initialization,
    Networks,
    stored_classifier,
    stored_weights,
    trained_networks,
)
from lchp.training.material import Material, Runtime
from lchp.training.presets import PRESETS
from lchp.training.refinement import Refinement
from lchp.vocabulary import REFINEMENT

SLOW = 1e-6
"""Learning rates of what is timed: they cost what others cost, and noise does not diverge by them."""


@dataclass(frozen=True)
class Case:
    """Networks, views and batches of one comparison."""

    network: str
    crop: int
    resize: int
    batch: int
    classes: int
    """Of the networks; the images have eight, or the preset's."""
    steps: int
    """Training steps an epoch that is timed."""
    test: int
    """Test images."""
    preset: dict[str, Any] = field(default_factory=dict)


SHIPPED = {"compute": {"channels_last": True}}
"""As the studies that are shipped train MobileNetV2."""

CASES = {
    "quickstart": Case("small_cnn", 64, 72, 32, 8, 6, 128, PRESETS["quickstart"]),
    "mobilenet_160": Case("mobilenet_v2", 160, 184, 8, 200, 4, 32, SHIPPED),
    "mobilenet_224": Case("mobilenet_v2", 224, 256, 8, 200, 3, 24, SHIPPED),
    "paper": Case("inception_v3", 448, 512, 32, 200, 20, 512),
    "tiny": Case("small_cnn", 32, 36, 8, 8, 2, 16, {"view": {"evaluation": "centre_crop"}}),
}
"""``paper`` on CUDA; the others on a CPU, where a batch of eight of MobileNetV2 takes seconds. ``tiny`` for tests."""


def configured(case: Case, folder: Path, compute: dict[str, Any], rate: float = SLOW, tau: float = 0.9) -> TrialConfig:
    """The configuration of a case: every step trains everything, with random weights."""
    stage = {**case.preset.get("initialization", {}), "epochs": 100_000, "regressor_start": 0, "batch_size": case.batch}
    stage |= {"classifier_rate": rate, "regressor_rate": rate, "classifier_decay": 1.0}
    return TrialConfig.model_validate(
        {
            "dataset": {"kind": "table", "path": str(folder / "dataset.csv")},
            "delta": case.preset.get("delta", 0.7),
            "tau": tau,
            "backbone": case.network,
            "classifier": case.network,
            "weights": {"classifier": "none", "regressor": "none"},
            "split": {"val_per_class": 0},
            "view": {**case.preset.get("view", {}), "resize": case.resize, "crop": case.crop},
            "initialization": stage,
            "refinement": {"epochs": 100_000, "batch_size": case.batch, "rate": rate},
            "compute": {**case.preset.get("compute", {}), **compute},
        }
    )


def draw_image(file: Path, width: int, height: int, seed: int) -> None:
    """Gradients, a disc and noise, as a JPEG of about the bytes that ImageNet's have."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    slopes = random.uniform(-1, 1, (3, 2))
    image = 128 + 60 * (slopes[:, :1, None] * x / width + slopes[:, 1:, None] * y / height)
    image[:, (x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2] += random.uniform(-60, 60, (3, 1))
    image += random.normal(0, 24, image.shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(file, quality=85)


def draw_images(case: Case, folder: Path, workers: int, train: int | None = None) -> None:
    """The images of a case and their list, in the layout of ``lchp.data.table``; what is there is not drawn again."""
    list_of = folder / "dataset.csv"
    if list_of.exists():
        return
    width, height = (500, 400) if case.crop > 64 else (case.resize, case.resize)
    rows = []
    for split, count in (("train", train or case.steps * case.batch), ("test", case.test)):
        for index in range(count):
            box = (width / 2 - height / 4, height / 4, width / 2 + height / 4, 3 * height / 4)
            rows.append((f"{split}/{index % 8}/{index:05d}.jpg", f"class {index % 8}", split, *box))
    files = [folder / str(row[0]) for row in rows]
    arguments = files, itertools.repeat(width), itertools.repeat(height), range(len(files))
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(draw_image, *arguments, chunksize=16))
    else:
        list(map(draw_image, *arguments))
    with list_of.open("w", newline="", encoding="utf-8") as text:
        csv.writer(text).writerows([("path", "label", "split", "x1", "y1", "x2", "y2"), *rows])


class Held:
    """The first images of a source, read once: they lie in memory, and on CUDA the engine puts them on the device. What
    is left of an epoch is its steps.
    """

    is_cached = True

    def __init__(self, source: Any, count: int) -> None:
        self.labels, self.size, self.records = source.labels[:count], source.size, source.records[:count]
        self._images = source.batch(torch.arange(count))
        self.nbytes = self._images.nbytes

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, places: Tensor) -> Tensor:
        """As ``ImageSource.batch``."""
        return self._images[places]

    def batches(self, order: Tensor, batch_size: int, **_: Any) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """As ``ImageSource.batches`` where the last batch is dropped unless it is whole."""
        for places in order[: len(order) // batch_size * batch_size].split(batch_size):
            yield self.batch(places), self.labels[places], places


class Engine:
    """The engine's two stages, each ready to train epochs and to be measured."""

    def __init__(self, case: Case, config: TrialConfig, material: Material, workers: int) -> None:
        self.case, self.config, self.material, self.workers = case, config, material, workers
        self.device = material.runtime.device
        self.evaluator = Evaluator(config, self.device, workers)

    @cached_property
    def initialization(self) -> Initialization:
        """The first stage, with random networks."""
        return Initialization(self.config, self.case.classes, self.device)

    @cached_property
    def refinement(self) -> Refinement:
        """The second stage, with random networks of its own."""
        return Refinement(self.config, self.networks, self.device)

    @property
    def networks(self) -> Networks:
        """A copy of the networks of the first stage as they are, and of its judge none that learns."""
        networks: Networks = copy.deepcopy(self.initialization.networks)
        networks.judge.requires_grad_(False)
        return networks

    def stage(self, name: str) -> Any:
        """The stage of that name, made when it is first asked for."""
        return getattr(self, name)

    @cached_property
    def held(self) -> Held:
        """Its training images, in memory."""
        return Held(self.material.train, self.case.steps * self.case.batch)

    @cached_property
    def undecoded(self) -> Any:
        """Its training images, decoded when they are asked for."""
        runtime = replace(self.material.runtime, cache_bytes=0)
        return replace(self.material, runtime=runtime).train


class Author:
    """The reference's two stages, with copies of the engine's networks as they are."""

    def __init__(self, engine: Engine, bf16: bool, workers: int) -> None:
        self.engine, self.bf16, self.workers = engine, bf16, workers
        self.case, self.config, self.device = engine.case, engine.config, engine.device

    @property
    def networks(self) -> Networks:
        """Copies of the networks of the engine's first stage as they are, made anew: what the engine's ``compute`` does
        to their layers when it places them is not in these.
        """
        ours, classes = self.engine.initialization.networks, self.case.classes
        made = trained_networks(self.config, classes, stored_weights(self.config, ours, ours.regressor))
        return replace(made, classifier=stored_classifier(self.config, classes, ours.classifier.state_dict()))

    def _plain(self, network: torch.nn.Module) -> Any:
        return reference.as_published(network).requires_grad_(True).train()

    @cached_property
    def initialization(self) -> reference.Initialization:
        """The first stage."""
        networks = self.networks
        return reference.Initialization(
            self._plain(networks.classifier), self._plain(networks.regressor), self.config, self.device, self.bf16
        )

    @cached_property
    def refinement(self) -> reference.Refinement:
        """The second stage."""
        networks = self.networks
        judge = self._plain(networks.judge).requires_grad_(False)
        return reference.Refinement(judge, self._plain(networks.regressor), self.config, self.device, self.bf16)

    def stage(self, name: str) -> Any:
        """The stage of that name, made when it is first asked for."""
        return getattr(self, name)

    def _loader(self, dataset: Any, batch: int, shuffle: bool) -> Any:
        # Each worker has up to three batches of two float views an image in shared memory, which may be small.
        bytes_ = 3 * batch * 2 * 12 * self.case.crop**2
        workers = min(self.workers, int(0.8 * shutil.disk_usage("/dev/shm").free / bytes_))
        return DataLoader(
            dataset,
            batch,
            shuffle,
            num_workers=workers,
            drop_last=shuffle,
            pin_memory=self.device == "cuda",
            persistent_workers=workers > 0,
            worker_init_fn=one_thread,
        )

    def loader(self, stage: str) -> Any:
        """The training images for a stage."""
        source, view = self.engine.material.train, self.config.view
        files = [source.root / record.path for record in source.records]
        labels = source.labels.tolist()
        dataset = reference.TrainFiles(files, labels, view.resize, view.crop, stage == REFINEMENT)
        return self._loader(dataset, self.case.batch, shuffle=True)

    @cached_property
    def test(self) -> Any:
        """The test images."""
        split, view = self.engine.material.test, self.config.view
        records, truth = split.source.records, split.true_boxes
        dataset = reference.TestFiles(
            [split.source.root / record.path for record in records],
            split.source.labels.tolist(),
            np.stack([truth[place][0] for place in range(len(records))]).astype(np.float32),
            view.resize,
            view.crop,
            view.evaluation == "whole",
        )
        return self._loader(dataset, self.config.evaluation.batch_size, shuffle=False)


class Repeated:
    """Batches that lie in memory, in turn, so many an epoch."""

    def __init__(self, batches: Sequence[Sequence[Tensor]], epoch: int) -> None:
        self.kept, self.epoch = batches, epoch

    def __iter__(self) -> Iterator[Sequence[Tensor]]:
        return itertools.islice(itertools.cycle(self.kept), self.epoch)


def one_thread(_: int) -> None:
    """Keeps OpenCV in a loader's process to one thread; torch does so itself."""
    cv2.setNumThreads(0)


def prepared(config: TrialConfig, folder: Path, device: str, workers: int) -> Material:
    """The material of the images in ``folder``."""
    runtime = Runtime(folder / "store", folder / "cache", device=device, loader_workers=workers)
    return Material.prepare(config, runtime)
