"""A study to begin with, for pictures of one's own: what is proposed for so many of such a size, and why."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from lchp.errors import counted as number_of
from lchp.shipped import SCHEMA, SCHEMA_LINE
from lchp.study.spec.schema import RESERVED
from lchp.study.spec.source import flow, merge, nested
from lchp.training.presets import PRESETS
from lchp.vocabulary import LCHP_I, LCHP_R, METHODS, PSEUDO_LABEL, TOP1_CLS

_PRESET = "small"
_STEPS = 660
"""Steps of the initialization in the study that chose the preset: 12 epochs of 440 images in batches of 8."""
_MANY = 3_000
"""Training images from which on the paper's recipe, on a GPU, has enough of them."""
_SIDES = (224, 160, 96)
"""Sides of the view in pixels, of which the one is taken that enlarges or shrinks the pictures least."""


@dataclass(frozen=True)
class Counted:
    """What is known of some pictures.

    Attributes:
        train: training images, those of a val split of their own apart.
        smallest: those of the smallest class.
        own_val: whether the table has a val split.
        side: the median of the pictures' shorter sides in pixels.
        boxes: images with true boxes.
    """

    train: int
    test: int
    classes: int
    smallest: int
    own_val: bool
    side: int
    boxes: int


@dataclass(frozen=True)
class Choice:
    """Values of some keys, and a sentence that says why."""

    values: dict[str, Any]
    why: str


def proposed(counted: Counted, weights: Path | None) -> tuple[str, list[Choice]]:
    """The preset, and what is set beside it."""
    val = _val(counted)
    left = counted.train - int(val.values["split.val_per_class"]) * counted.classes
    if counted.train >= _MANY:
        preset, choices = "cub", [_large_view(counted), val]
    else:
        preset, choices = _PRESET, [_network(), _view(counted), val, _epochs(left)]
    return preset, [*choices, *_weights(weights, preset), *_tables(counted)]


def _network() -> Choice:
    return Choice(
        {"backbone": "mobilenet_v2", "classifier": "mobilenet_v2"},
        "the lightest pretrained network, and in the regressor a frozen one, whose head alone learns from few images; "
        "pseudo boxes are those of Deep Descriptor Transforming, over all classes together: where classes are "
        "different things, and no kinds of one, try pseudo_boxes.axis: class",
    )


def _view(counted: Counted) -> Choice:
    side = min(_SIDES, key=lambda side: abs(math.log(side / counted.side)))
    if side == _SIDES[0]:
        why = (
            f"pictures are some {counted.side} px on the shorter side, and {side} px is what the network was trained on"
        )
        return Choice({"view.resize": side, "view.crop": side}, why)
    sizes = {"pseudo_boxes.size": max(side, 160), "pseudo_boxes.further_sizes": [max(side, 160) * 3 // 2 // 32 * 32]}
    why = (
        f"pictures are some {counted.side} px on the shorter side, to which {side} px comes nearest of "
        f"{', '.join(map(str, reversed(_SIDES)))}; pseudo boxes need more cells, and are found on enlarged pictures"
    )
    return Choice({"view.resize": side, "view.crop": side, **sizes}, why)


def _large_view(counted: Counted) -> Choice:
    return Choice(
        {"view.resize": 256, "view.crop": 224},
        f"{counted.train} training images are enough for the paper's recipe, which wants a GPU; its own view of 448 px "
        "costs four times as much",
    )


def _val(counted: Counted) -> Choice:
    key = "split.val_per_class"
    if counted.own_val:
        return Choice({key: 0}, "the table has a val split of its own, so that none is drawn")
    if not counted.boxes:
        return Choice({key: 0}, "without true boxes there is nothing to choose by, so that every image is trained on")
    if counted.smallest < 5:
        few = f"the smallest class has {counted.smallest} training images"
        return Choice({key: 0}, f"{few}: none can be spared for choices; choose nothing by the test split instead")
    drawn = min(max(counted.smallest // 5, 1), 8)
    return Choice(
        {key: drawn},
        f"so many of the {counted.smallest} training images of the smallest class are held out, for choices alone",
    )


def _epochs(images: int) -> Choice:
    """As many steps as the study had that chose the preset, as far as some dozens of epochs go."""
    stage = PRESETS[_PRESET]["initialization"]
    batch = max(min(int(stage["batch_size"]), images), 2)
    steps = max(images // batch, 1)
    epochs = min(max(math.ceil(_STEPS / steps), 4), 60)
    quarter = max(epochs // 4, 1)
    values: dict[str, Any] = {
        "initialization.epochs": epochs,
        "initialization.classifier_epochs": quarter,
        "initialization.warmup": min(int(stage["warmup"]), max(steps * epochs // 12, 1)),
        "refinement.epochs": quarter,
    }
    if batch != stage["batch_size"]:
        values |= {"initialization.batch_size": batch, "refinement.batch_size": batch}
    return Choice(
        values,
        f"{number_of(images, 'image')} make {number_of(steps, 'step')} an epoch; the preset was chosen "
        f"with {_STEPS} steps, for which more than 60 epochs are not taken",
    )


def _weights(file: Path | None, preset: str) -> list[Choice]:
    if file is None:
        why = "torchvision downloads them once; without a network begin with `lchp init --weights FILE`"
        return [Choice({"weights.classifier": "imagenet", "weights.regressor": "imagenet"}, why)]
    keys = ["weights.classifier.file", "weights.regressor.file"]
    keys += ["pseudo_boxes.weights.file"] if preset == _PRESET else []
    return [Choice(dict.fromkeys(keys, str(file)), "the pretrained network, from this file wherever one is asked for")]


def _tables(counted: Counted) -> list[Choice]:
    if counted.boxes:
        return []
    why = "without true boxes only classification can be measured; the boxes are in the report's pictures"
    return [Choice({"tables": [{"metrics": [TOP1_CLS]}]}, why)]


def study_text(name: str, table: Path, counted: Counted, preset: str, choices: list[Choice]) -> str:
    """The study's file."""
    titles = [METHODS[method].title for method in (PSEUDO_LABEL, LCHP_I, LCHP_R)]
    lines = [
        f"{SCHEMA_LINE}{SCHEMA}",
        f"# Question: what do {', '.join(titles[:-1])} and {titles[-1]} make of these pictures?",
        f"# Data:     {counted.train} training and {counted.test} test images of {counted.classes} classes; "
        f"{counted.boxes or 'none'} with true boxes.",
        "# Cost:     `lchp study plan` says it. Every key: `lchp config show`; what it may be: `lchp config keys`.",
        "# What is set beside the preset, and why:",
    ]
    values: dict[str, Any] = {}
    for choice in choices:
        lines += _wrapped(f"{', '.join(choice.values)}: {choice.why}.")
        for key, value in choice.values.items():
            values = merge(values, nested(key.split("."), value))
    lines += [f"name: {name}", f"preset: {preset}", f"dataset: {{kind: table, path: {flow(str(table))}}}"]
    lines += [f"{key}: {flow(value)}" for key, value in values.items()]
    return "\n".join([*lines, "# More seeds tell whether a difference is one: [0, 1, 2].", "seeds: [0]", ""])


def _wrapped(sentence: str) -> list[str]:
    return wrap(sentence, 118, initial_indent="# - ", subsequent_indent="#   ", break_long_words=False)


def name_of(folder: Path) -> str:
    """A study's name, made of that of a folder."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")[:80]
    return name if name and name.lower() not in RESERVED else f"my-{name or 'pictures'}"
