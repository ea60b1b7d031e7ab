"""The parts of a step that are not the networks', the engine's against the reference's, on the same batch."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import reference
import torch
from cases import Author, Engine
from rooflines import wait
from torch import Tensor

from lchp.method import augmentation, momentum
from lchp.method.confidence import crop
from lchp.method.pseudo_boxes import pseudo_boxes

Pair = tuple[Callable[[], object], Callable[[], object]]


@torch.no_grad()
def timed_parts(engine: Engine, device: str, repeats: int = 7) -> dict[str, dict[str, float]]:
    """Milliseconds an image of each part, CPU seconds on a CPU: the engine's, the reference's, and their ratio."""
    found = {}
    for name, pair in parts(engine).items():
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeats):
            for work, taken in zip(pair, times, strict=True):
                taken.append(seconds_of(work, device))
        ours, theirs = (1e3 * statistics.median(taken[1:]) / engine.case.batch for taken in times)
        found[name] = {"engine_ms": ours, "reference_ms": theirs, "ratio": theirs / ours}
    return found


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Of one run: what the process computed, or, with another device, what passed."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    wait(device)
    started = clock()
    work()
    wait(device)
    return clock() - started


def parts(engine: Engine) -> dict[str, Pair]:
    """By name: the engine's work and the reference's, on one batch of training images."""
    source, view, device = engine.material.train, engine.config.view, engine.device
    places = torch.arange(engine.case.batch)
    images = source.batch(places)
    generator = torch.Generator().manual_seed(0)
    drawn = augmentation.draw_view(len(images), view.resize, view.crop, view.flip, generator)
    strong = augmentation.draw_strong(len(images), view.crop, engine.config.augmentation, generator)
    fields = (drawn.left, drawn.top, drawn.flipped, strong.scale, strong.before, strong.after, strong.flipped)
    draws = [reference.Draw(*values) for values in zip(*(values.tolist() for values in fields), strict=True)]
    pixels = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in images]
    seen = [reference.weak_view(image, draw, view.crop) for image, draw in zip(pixels, draws, strict=True)]
    views = torch.stack([reference.as_tensor(one) for one in seen]).to(device)
    boxes = torch.rand(len(images), 2, 2, generator=generator).sort(1).values.flatten(1)
    return {
        "read and resize": (
            lambda: engine.undecoded.batch(places),
            lambda: [
                reference.read(source.root / record.path, view.resize) for record in source.records[: len(images)]
            ],
        ),
        "general views": (
            lambda: augmentation.normalise(augmentation.general_view(images.to(device), drawn.to(device), view.crop)),
            lambda: stacked(
                [reference.weak_view(*pair, view.crop) for pair in zip(pixels, draws, strict=True)], device
            ),
        ),
        "strong views": (
            lambda: augmentation.strong(views, boxes.to(device), strong.to(device)),
            lambda: imgaug_views(seen, boxes, draws, device),
        ),
        "Algorithm 1, networks apart": algorithm_1(engine, views),
        "crops": (
            lambda: crop(views, boxes.to(device)),
            lambda: torch.stack([reference.crop(*pair) for pair in zip(views, boxes.tolist(), strict=True)]),
        ),
        "momentum (Eq. 7)": following(engine),
    }


def stacked(views: list[reference.Floats], device: str) -> Tensor:
    """A batch of views on the device."""
    return torch.stack([reference.as_tensor(view) for view in views]).to(device)


def imgaug_views(seen: list[reference.Floats], boxes: Tensor, draws: list[reference.Draw], device: str) -> Any:
    """The strong views and boxes of the reference."""
    made = [reference.strong_view(*pair) for pair in zip(seen, draws, strict=True)]
    numbers = torch.stack([draw.numbers for draw in draws])
    return stacked(made, device), reference.moved(boxes.double().numpy(), numbers.numpy(), seen[0].shape[0])


def algorithm_1(engine: Engine, views: Tensor) -> Pair:
    """From maps to boxes and masked images; the maps are there."""
    networks, delta = engine.initialization.networks, engine.config.delta
    maps = networks.momentum.trunk(views)

    def trunk(_: Tensor) -> Tensor:
        return maps

    return lambda: pseudo_boxes(trunk, views, delta), lambda: reference.algorithm_1(trunk, views, delta)


def following(engine: Engine) -> Pair:
    """One step of the momentum network."""
    networks = engine.initialization.networks
    slow = copy.deepcopy(networks.momentum)
    author = Author(engine, bf16=False, workers=0).initialization
    return lambda: momentum.update(slow, networks.classifier, engine.config.beta), author.follow
