"""Whether engine and reference compute the same: losses of an epoch of either stage, and boxes, in full precision."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import reference
import torch
from cases import Author, Engine, Held
from torch import Tensor

from lchp.method import augmentation
from lchp.method.boxes import iou
from lchp.training.box_sources import live_boxes
from lchp.training.loop import epoch_order

TOLERANCE = 1e-3
"""Of a mean loss, relative: sums are taken in other orders."""
LEAST_IOU = 0.99
"""In the mean, of boxes read off the same maps; one value at the threshold may move one side of one box."""


def again(generator: torch.Generator) -> torch.Generator:
    """A generator that gives what ``generator`` will give."""
    return torch.Generator().set_state(generator.get_state())


def same_batches(stage: Any, source: Held, batch: int, engine: Engine, strong: bool) -> Iterator[list[Tensor]]:
    """The batches of the stage's next epoch, as the reference makes them of the same numbers."""
    config = engine.config
    view, generators = config.view, {name: again(value) for name, value in stage.generators.items()}
    order, size = epoch_order(len(source), batch, generators["order"])
    for places in order.split(size):
        drawn = augmentation.draw_view(size, view.resize, view.crop, view.flip, generators["view"])
        fields = [drawn.left, drawn.top, drawn.flipped]
        if strong:
            moved = augmentation.draw_strong(size, view.crop, config.augmentation, generators["strong"])
            fields += [moved.scale, moved.before, moved.after, moved.flipped]
        draws = [reference.Draw(*values) for values in zip(*(values.tolist() for values in fields), strict=True)]
        dataset = reference.TrainFiles((), (), view.resize, view.crop, strong)
        items = []
        for pixels, label, draw in zip(source.batch(places), source.labels[places].tolist(), draws, strict=True):
            seen = reference.weak_view(pixels.permute(1, 2, 0).numpy(), draw, view.crop)
            items.append(dataset.made(seen, draw, label))
        yield [torch.stack(parts) for parts in zip(*items, strict=True)]


def spread(engine: Engine, author: Author) -> None:
    """Regressors that answer every view otherwise, which untrained ones do not."""
    for owner in (engine.initialization.networks, author.initialization):
        generator = torch.Generator().manual_seed(1)
        weight = owner.regressor.head.weight
        with torch.no_grad():
            weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))


def compared(engine: Engine, author: Author, steps: int = 1) -> dict[str, list[float]]:
    """Both contenders' values, the engine's first, over ``steps`` steps of either stage, from the same weights and
    numbers; of boxes their mean IoU with each other and the share of equal ones.

    One step of large networks: with random weights MobileNetV2 at 160 px is chaotic. The reference against itself, its
    strong views moved by 1e-6, has another loss by 2e-4 in the first step, 3% in the second and 17% in the third.
    """
    spread(engine, author)
    source = Held(engine.material.train, steps * engine.case.batch)
    found: dict[str, list[float]] = {}
    views = boxes_agree(engine, source, found)
    with torch.no_grad():
        ours = engine.evaluator.localizing(engine.initialization.networks.regressor)(views, views, views)
        theirs = author.initialization.regressor.eval()(views).clamp(0, 1)
    found["regressed corners equal within 0.001"] = [float(((ours - theirs).abs() < 1e-3).float().mean())]
    for name in ("initialization", "refinement"):
        stage, plain = engine.stage(name), author.stage(name)
        batches = list(same_batches(stage, source, engine.case.batch, engine, name == "refinement"))
        metrics = stage.train_epoch(source, 0)
        for (key, value), other in zip(metrics.items(), plain.train_epoch(batches), strict=True):
            found[key] = [value, other]
    return found


@torch.no_grad()
def boxes_agree(engine: Engine, source: Held, found: dict[str, list[float]]) -> Tensor:
    """Adds how pseudo boxes of the untrained networks agree; gives the views."""
    places = torch.arange(engine.case.batch)
    images, labels = source.batch(places).to(engine.device), source.labels[places].to(engine.device)
    crop = engine.config.view.crop
    views = augmentation.normalise(images[:, :, :crop, :crop])
    momentum = copy.deepcopy(engine.initialization.networks.momentum).eval()
    ours = live_boxes(engine.config, momentum, views, labels)
    theirs, masked = reference.algorithm_1(momentum.trunk, views, engine.config.delta)
    found["pseudo boxes IoU"] = [float(iou(ours.boxes, theirs).mean())]
    found["masked images equal"] = [float((ours.masked == masked).float().mean())]
    return views


def faults(found: dict[str, list[float]]) -> list[str]:
    """What of :func:`compared` lies further apart than it may."""
    wrong = []
    for name, values in found.items():
        if len(values) == 1:
            apart = values[0] < LEAST_IOU
        else:
            apart = abs(values[0] - values[1]) > TOLERANCE * max(1.0, abs(values[1]))
        if apart:
            wrong.append(f"{name}: {', '.join(f'{value:.6f}' for value in values)}")
    return wrong
