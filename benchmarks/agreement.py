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
from lchp.store.placement import place
from lchp.training.box_sources import live_boxes
from lchp.training.loop import epoch_order

TOLERANCE = 1e-3
"""Of a mean loss, relative: sums are taken in other orders."""
LEAST_SHARE = 0.99
"""Of equal values, and of the mean IoU of boxes read off the same maps: one value at the threshold may move one side of
one box.
"""


def again(generator: torch.Generator) -> torch.Generator:
    """A generator that gives what ``generator`` will give."""
    return torch.Generator().set_state(generator.get_state())


def same_batches(
    stage: Any, source: Held, batch: int, engine: Engine, strong: bool
) -> Iterator[tuple[list[Tensor], Tensor | None]]:
    """The batches of the stage's next epoch, as the reference makes them of the same numbers; with each, if they are
    ``strong``, the strong views that the engine makes of the reference's weak ones.
    """
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
        parts = [torch.stack(each) for each in zip(*items, strict=True)]
        nothing = torch.zeros(size, 4, device=engine.device)
        made = augmentation.strong(parts[0].to(engine.device), nothing, moved.to(engine.device)) if strong else None
        yield parts, None if made is None else made[0].cpu()


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

    One step of large networks, and the engine's strong views for both, once those are compared with imgaug's: with
    random weights MobileNetV2 at 160 px is chaotic. The reference against itself, its strong views moved by 1e-6, has
    another loss by 2e-4 in the first step, 3% in the second and 17% in the third; and OpenCV takes some rows of some
    views from one row further up, where it rounds what should be a whole number down (204 rows to 224). For the same
    reason the reference's networks lie in the engine's memory layout here.
    """
    spread(engine, author)
    source = Held(engine.material.train, steps * engine.case.batch)
    found: dict[str, list[float]] = {}
    views = boxes_agree(engine, source, found)
    with torch.no_grad():
        ours = engine.evaluator.localizing(engine.initialization.networks.regressor)(views, views, views)
        theirs = author.initialization.regressor.eval()(views).clamp(0, 1)
    found["regressed corners equal within 0.001"] = [share_equal(ours, theirs)]
    for name in ("initialization", "refinement"):
        stage, plain = engine.stage(name), author.stage(name)
        for network in plain.trained:
            place(network, engine.config.compute, engine.device)
        batches = []
        for batch, strong in same_batches(stage, source, engine.case.batch, engine, name == "refinement"):
            if strong is not None:
                found[f"strong views {len(batches)} equal within 0.001"] = [share_equal(strong, batch[1])]
                batch[1] = strong
            batches.append(batch)
        metrics = stage.train_epoch(source, 0)
        for (key, value), other in zip(metrics.items(), plain.train_epoch(batches), strict=True):
            found[key] = [value, other]
    return found


def share_equal(first: Tensor, second: Tensor) -> float:
    """The share of values that are equal within 0.001."""
    return float(((first - second).abs() < 1e-3).float().mean())


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
            apart = values[0] < LEAST_SHARE
        else:
            apart = abs(values[0] - values[1]) > TOLERANCE * max(1.0, abs(values[1]))
        if apart:
            wrong.append(f"{name}: {', '.join(f'{value:.6f}' for value in values)}")
    return wrong
