from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lchp.errors import Refusal
from lchp.shipped import SCHEMA, STUDIES
from lchp.study.spec.json_schema import study_schema, trial_schema
from lchp.study.spec.source import merge, options, read
from tests.study.spec.test_load import MISTAKES
from tests.test_command_lines import SETS, STUDY, STUDY_SETS

BEYOND_SHAPE = (
    # What several keys say together, or the whole study.
    "view.crop 300",
    "view.crop 48 is larger",
    "make it smaller",
    "make regressor_start smaller",
    "make val_per_class smaller",
    "is there twice: name each once",
    "compares something with itself",
    "is there 2 times",
    "two have one name",
    "does not vary",
    "what varies is",
    "makes the rows",
    "has rows by",
    "no trial has",
    "so this has no effect",
    # Names that a table may not take, and a number's value.
    "is the name of another file",
    "must be a share of one GPU",
    "must be a finite number",
)


@cache
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(study_schema())


def test_study_schema_is_itself_valid_and_the_shipped_file() -> None:
    jsonschema.Draft202012Validator.check_schema(study_schema())
    jsonschema.Draft202012Validator.check_schema(trial_schema())
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == study_schema(), (
        f"`lchp config schema > studies/{SCHEMA.name}` writes it anew"
    )


@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.yaml")), ids=lambda file: file.stem)
def test_study_schema_accepts_every_shipped_study(file: Path) -> None:
    assert [error.message for error in validator().iter_errors(read(file).values)] == []


def mistaken() -> list[tuple[str, dict[str, Any]]]:
    """Studies of wrong shape with what the loader says of them."""
    found: list[tuple[str, dict[str, Any]]] = []
    for text, words in MISTAKES:
        found.append((words, yaml.safe_load(text)))
    for option, words in (SETS | STUDY_SETS).items():
        try:
            given = options([option]).values
        except Refusal:
            continue
        # What the file says of its dataset is beneath that of an option of one key.
        found.append((words, merge({"dataset": {"kind": "synthetic"}} | yaml.safe_load(STUDY), given)))
    return [(words, values) for words, values in found if not any(beyond in words for beyond in BEYOND_SHAPE)]


def test_study_schema_refuses_what_the_loader_refuses_for_its_shape() -> None:
    bad = mistaken()
    assert len(bad) > 120
    assert [(words, values) for words, values in bad if validator().is_valid(values)] == []


@pytest.mark.parametrize(
    "text",
    [
        "name: s\ndataset: {path: birds}\n",
        "name: s\npreset: cub\nvary: {view: [{crop: 64}], augmentation: [[flip], scale + flip, none], delta: 0.5}\n",
        "name: s\nvary: [{pseudo_boxes.further_sizes: [[320], []]}, {weights.classifier.file: [a.pth]}]\n",
        "name: s\naugmentation: [scale, flip]\nweights: {classifier: {file: a.pth}}\nsearch: null\n",
        "name: s\nsearch: {trials: 3, space: {tau: {low: 0, high: 1}, backbone: [resnet50]}, first: [{tau: 0.5}]}\n",
    ],
)
def test_study_schema_accepts_the_ways_in_which_keys_are_written(text: str) -> None:
    assert [error.message for error in validator().iter_errors(yaml.safe_load(text))] == []


def test_trial_schema_takes_a_seed_and_no_seeds() -> None:
    trial = jsonschema.Draft202012Validator(trial_schema())
    assert trial.is_valid({"preset": "quickstart", "seed": 3})
    assert not trial.is_valid({"seeds": [3]})
    assert not trial.is_valid({"name": "s"})


def test_study_schema_describes_every_key() -> None:
    schema = study_schema()
    holders = {"": schema, **schema["$defs"]}
    without = [
        f"{name}.{key}"
        for name, holder in holders.items()
        for key, node in holder["properties"].items()
        if "description" not in node and "$ref" not in node
    ]
    assert [key for key in without if not key.startswith("Grid.")] == []
