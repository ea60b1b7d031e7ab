"""A study's file as a JSON Schema (draft 2020-12), by which editors complete and check it while it is written.

It is made from the models by which files are read, and says what those say of shapes: keys, types, ranges and choices.
What several keys say together (``view.crop`` beside ``view.resize``) it does not say. A key's unit and the source of
its default stand in the keywords ``unit`` and ``source``, which validators pass over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from lchp.data.kinds import KINDS
from lchp.reporting.paper import PARAMETERS
from lchp.study.spec.origins import ORIGINS, unit_and_source
from lchp.study.spec.schema import RESERVED, StudyKeys, TrialKeys
from lchp.training.config import TrialConfig
from lchp.training.presets import PRESETS
from lchp.training.stage_config import AUGMENTATIONS
from lchp.vocabulary import STRONG_AUGMENTATIONS

Schema = dict[str, Any]

DIALECT = GenerateJsonSchema.schema_dialect
_DEFS = "#/$defs/"


def study_schema() -> Schema:
    """The schema of a study's file."""
    return _whole("A study of lchp", StudyKeys, without=("seed",), required=["name"])


def trial_schema() -> Schema:
    """The schema of a trial's file."""
    return _whole("A trial of lchp", TrialKeys, without=(), required=[])


def _whole(title: str, own: type[BaseModel], without: tuple[str, ...], required: list[str]) -> Schema:
    """The keys of ``own`` and of a trial, as one mapping."""
    defs = models_json_schema([(TrialConfig, "validation"), (own, "validation")])[1]["$defs"]
    trial = {name: node for name, node in defs.pop("TrialConfig")["properties"].items() if name not in without}
    keys = defs.pop(own.__name__)["properties"]
    for name, node in defs.items():
        node.pop("title", None)
        _tell_units(name, node["properties"])
    _tell_units("TrialConfig", trial)
    _tell_units(own.__name__, keys)
    _tell_more_of_a_trial(trial, defs)
    _tell_more_of_a_study(keys, defs, trial)
    return {
        "$schema": DIALECT,
        "title": title,
        "type": "object",
        "required": required,
        "additionalProperties": False,
        "properties": {**keys, **trial},
        "$defs": defs,
    }


def _tell_units(model: str, properties: Schema) -> None:
    """Add units and sources, and leave out titles, which repeat the keys."""
    of_model = next((one for one in ORIGINS if one.__name__ == model), None)
    for name, node in properties.items():
        node.pop("title", None)
        unit, source = unit_and_source(of_model, name) if of_model else ("", "")
        node.update({word: text for word, text in (("unit", unit), ("source", source)) if text})


def _tell_more_of_a_trial(trial: Schema, defs: Schema) -> None:
    """What validators of the models say, and files may leave to what they are laid over."""
    # A preset may have named the kind already.
    for model in ("SyntheticDataset", "FilesDataset"):
        defs[model].pop("required", None)
    trial["dataset"] = {
        "description": "what is trained on: a kind, or a mapping with `kind` and what belongs to it",
        "anyOf": [{"enum": list(KINDS)}, {"$ref": f"{_DEFS}SyntheticDataset"}, {"$ref": f"{_DEFS}FilesDataset"}],
        "default": trial["dataset"]["default"],
    }
    for properties in (trial, defs["InitializationConfig"]["properties"]):
        node = properties["augmentation"]
        del node["type"], node["enum"]
        node["title"] = f"a subset of {', '.join(STRONG_AUGMENTATIONS)} joined by + or as a list, or none"
        node["anyOf"] = _augmentations()
    for node in _nodes(defs):
        if node.get("format") == "path":
            node["minLength"] = 1


def _augmentations() -> list[Schema]:
    """A subset as one word in any order, or as a list; null for none."""
    words = [r"\s*\+\s*".join(some) for size in (1, 2, 3) for some in permutations(STRONG_AUGMENTATIONS, size)]
    return [
        {"enum": list(AUGMENTATIONS)},
        {"type": "string", "pattern": rf"^\s*(?:none|{'|'.join(words)})\s*$"},
        {"type": "array", "items": {"enum": list(STRONG_AUGMENTATIONS)}, "uniqueItems": True},
        {"type": "array", "items": {"const": "none"}, "minItems": 1, "maxItems": 1},
        {"type": "null"},
    ]


def _tell_more_of_a_study(keys: Schema, defs: Schema, trial: Schema) -> None:
    """What is checked beside the models."""
    keys["preset"] = {**keys["preset"], "anyOf": [{"enum": list(PRESETS)}, {"type": "null"}]}
    if "name" not in keys:
        return
    reserved = "|".join("".join(f"[{letter.upper()}{letter}]" for letter in word) for word in RESERVED)
    keys["name"]["not"] = {"pattern": f"^(?:{reserved})$"}
    for name in ("seeds", "references", "claims"):
        keys[name]["uniqueItems"] = True
    table = defs["Table"]["properties"]["paper"]
    table["anyOf"] = [{"enum": list(PARAMETERS)}, {"type": "null"}]
    varied = {name: node for name, node in _dotted(trial, defs) if name != "seed"}
    # A list is several values of the key, each of which may be a list itself.
    defs["Grid"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {
                "description": description,
                "if": {"type": "array"},
                "then": {"minItems": 1, "items": _any_of(places)},
                "else": _any_of(places),
            }
            for name, (description, places) in varied.items()
        },
    }
    grid = {"$ref": f"{_DEFS}Grid"}
    keys["vary"]["title"] = "a mapping of dotted keys to lists of values, or a list of such mappings"
    keys["vary"]["anyOf"] = [grid, {"type": "array", "minItems": 1, "items": grid}, {"type": "null"}]
    fixed = ("dataset", "split")
    searched = [name for name in varied if name.split(".")[0] not in fixed]
    search = defs["Search"]["properties"]
    search["space"] |= {"propertyNames": {"enum": searched}, "title": "a mapping of dotted keys to ranges or choices"}
    search["first"]["title"] = "a list of mappings of dotted keys to values"


def _any_of(places: list[str]) -> Schema:
    return {"$ref": places[0]} if len(places) == 1 else {"anyOf": [{"$ref": place} for place in places]}


def _dotted(trial: Schema, defs: Schema) -> Iterator[tuple[str, tuple[str, list[str]]]]:
    """Every dotted key of a trial, sections included: its description, and where its schema stands."""
    found: dict[str, tuple[str, list[str]]] = {}
    for name, node in trial.items():
        _find(name, node, f"#/properties/{name}", defs, found)
    yield from found.items()


def _find(key: str, node: Schema, place: str, defs: Schema, found: dict[str, tuple[str, list[str]]]) -> None:
    _, places = found.setdefault(key, (description_of(node, defs), []))
    places.append(place)
    for model in models_of(node):
        for name, inner in defs[model]["properties"].items():
            _find(f"{key}.{name}", inner, f"{_DEFS}{model}/properties/{name}", defs, found)


def description_of(node: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """What a key is; of a section, what its model says of itself, in its first sentence."""
    models = [] if "description" in node else models_of(node)
    text = str(defs[models[0]].get("description", "") if models else node.get("description", ""))
    return " ".join((text.split("\n\n")[0] if models else text).split())


def models_of(node: Mapping[str, Any]) -> list[str]:
    """The names in ``$defs`` of what the value of a key may be, where that is a mapping with keys of its own."""
    branches = [node, *node.get("anyOf", ())]
    return [branch["$ref"].removeprefix(_DEFS) for branch in branches if "$ref" in branch]


def _nodes(node: Any) -> Iterator[Schema]:
    """Every mapping in a schema."""
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _nodes(inner)
