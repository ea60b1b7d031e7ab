"""YAML that remembers where it was written, and refusals that say so: file and line (or option), key, value, remedy."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

Location = tuple[str | int, ...]
"""The keys and list indices that lead to a value."""

Model = TypeVar("Model", bound=BaseModel)

_MOST_VALUES = 100_000


class Refusal(ValueError):
    """What the user asked for cannot be done, and nothing was started: exit code 2."""


class _Loader(yaml.SafeLoader):
    """YAML's safe values, with ``2e-3`` read as the number it is (YAML 1.1 wants ``2.0e-3``)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\.\d+|\d+(?:\.\d*)?)[eE][-+]?\d+$"), list("-+.0123456789")
)


@dataclass(frozen=True)
class Source:
    """Plain values, and for each location the place where a person wrote it (``file:line``, or the option).

    ``whole`` is the place of what has none of its own.
    """

    values: dict[str, Any]
    places: dict[Location, str]
    whole: str

    def place(self, location: Location) -> str:
        """The place of the value at ``location``, or of the nearest thing around it."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.places:
                return self.places[location[:length]]
        return self.whole

    def pick(self, keys: Callable[[str], bool]) -> Source:
        """The same source with only the top-level keys for which ``keys`` holds."""
        return Source({key: value for key, value in self.values.items() if keys(key)}, self.places, self.whole)

    def over(self, below: Source) -> Source:
        """This source's values over those of ``below``, mappings merged key by key."""
        return Source(merge(below.values, self.values), _laid(below.places, self.places), self.whole)

    def put(self, parts: tuple[str, ...], value: Any, place: str) -> Source:
        """This source with one value laid over it."""
        return Source(merge(self.values, nested(parts, value)), _laid(self.places, {parts: place}), self.whole)


def _laid(below: Mapping[Location, str], above: Mapping[Location, str]) -> dict[Location, str]:
    """Both, those of the upper layer last."""
    return {**{at: place for at, place in below.items() if at not in above}, **above}


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``: mappings are merged key by key, anything else is replaced.

    A ``dataset`` may be one word, its kind; a dataset of another kind replaces the one below as a whole.
    """
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if key == "dataset":
            value, old = (({"kind": side} if isinstance(side, str) else side) for side in (value, old))
            if (
                isinstance(value, Mapping)
                and isinstance(old, Mapping)
                and value.get("kind", old.get("kind")) != old.get("kind")
            ):
                old = None
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


class _Walk:
    """One pass over a YAML tree: its values, and the line of each."""

    def __init__(self, loader: _Loader, name: str) -> None:
        self.loader, self.name, self.count = loader, name, 0
        self.places: dict[Location, str] = {}

    def line(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"

    def value(self, node: yaml.Node, location: Location, around: tuple[int, ...]) -> Any:
        self.count += 1
        if id(node) in around or self.count > _MOST_VALUES:
            raise Refusal(f"{self.line(node)}: an anchor repeats itself without end: write the values out")
        if not isinstance(node, yaml.ScalarNode) and node.tag not in {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}:
            raise Refusal(f"{self.line(node)}: no readable YAML: the tag {node.tag} is unknown: write plain values")
        around = (*around, id(node))
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                self.places[(*location, index)] = self.line(item)
                items.append(self.value(item, (*location, index), around))
            return items
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, location, around)
        return self.loader.construct_object(node)

    def mapping(self, node: yaml.MappingNode, location: Location, around: tuple[int, ...]) -> dict[str, Any]:
        written: set[str] = set()
        for key, _ in node.value:
            if key.value in written and key.tag != "tag:yaml.org,2002:merge":
                raise Refusal(f"{self.line(key)}: the key `{key.value}` is written twice: keep one")
            written.add(key.value)
        self.loader.flatten_mapping(node)
        values: dict[str, Any] = {}
        for key, item in node.value:
            name = self.loader.construct_object(key)
            if not isinstance(name, str):
                raise Refusal(f"{self.line(key)}: the key {name!r} is no text: keys are words")
            self.places[(*location, name)] = self.line(key)
            values[name] = self.value(item, (*location, name), around)
        return values


def _parse(text: str, name: str, option: bool = False) -> tuple[Any, dict[Location, str]]:
    """The value that ``text`` writes, and its places; ``name`` is the file's, or ``--set key`` of an ``option``."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            walk = _Walk(loader, name)
            return (None if node is None else walk.value(node, (), ())), walk.places
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, Refusal):
            raise
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        if option:
            remedy = "close its brackets, or put text into quotes"
            raise Refusal(f"{name}: the value `{text}` is no readable YAML ({problem}): {remedy}") from error
        place = f"{name}:{mark.line + 1}" if mark else name
        raise Refusal(f"{place}: no readable YAML: {problem}") from error


def read(path: Path) -> Source:
    """The values of a YAML file with their lines.

    Raises:
        Refusal: a file that cannot be read, that is no YAML mapping, or that writes a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{path}: cannot be read as a text file ({error}): give the path of a YAML file") from error
    values, places = _parse(text, str(path))
    if not isinstance(values, dict):
        raise Refusal(f"{path}:1: holds no keys: write `key: value` lines")
    return Source(values, places, str(path))


def options(sets: Sequence[str]) -> Source:
    """The values of ``--set dotted.key=value`` options, each value read as YAML; a later one wins.

    Raises:
        Refusal: an option without a key and an equals sign, or whose value is no YAML.
    """
    source = Source({}, {}, "--set")
    for option in sets:
        key, equals, text = option.partition("=")
        parts = tuple(key.strip().split("."))
        place = f"--set {option}"
        if not equals or not all(parts):
            raise Refusal(f"{place}: write it as dotted.key=value")
        value, _ = _parse(text, f"--set {key.strip()}", option=True)
        source = source.put(parts, value, place)
    return source


def nested(parts: Sequence[str], value: Any) -> dict[str, Any]:
    """``value`` under the dotted key ``parts``: ``("a", "b")`` gives ``{"a": {"b": value}}``."""
    for part in reversed(parts):
        value = {part: value}
    return dict(value)


def check(model: type[Model], source: Source, neighbours: Sequence[str] = ()) -> tuple[Model | None, list[str]]:
    """``source`` as a ``model``, or None and one line for everything that is wrong.

    Types are strict: a number in quotes or a truth value is no number. ``neighbours`` are further keys that the user
    may have meant by an unknown one.
    """
    try:
        return model.model_validate_json(json.dumps(source.values, default=str), strict=True), []
    except ValidationError as error:
        return None, _lines(error, model, source, neighbours)


def _lines(error: ValidationError, model: type[BaseModel], source: Source, neighbours: Sequence[str]) -> list[str]:
    texts: dict[Location, list[str]] = {}
    for item in error.errors(include_url=False):
        location = _location(item["loc"], source.values, item["type"])
        text = _text(dict(item), model, location, source.values, neighbours)
        found = texts.setdefault(location, [])
        if item["type"] == "too_short":
            # Something empty of the right type: the other branches of a union were not meant.
            found[:] = [text]
        elif text not in found and not any(other.startswith(_EMPTY) for other in found):
            found.append(text)
    # Of a union's branches the one that was meant is the one that got furthest.
    deepest = [at for at in texts if at == () or not any(other[: len(at)] == at != other for other in texts)]
    return [_line(at, " or ".join(texts[at]), source) for at in deepest]


def _line(location: Location, text: str, source: Source) -> str:
    if not location:
        # Of the keys that do not fit together, the one that was laid on top of the others.
        words = re.findall(r"\w+(?:\.\w+)*", text)
        named = [at for at in source.places if ".".join(map(str, at)) in words]
        return f"{source.place(named[-1] if named else ())}: {text}"
    value, present = _at(source.values, location)
    shown = f" = {_shown(value)}" if present else ""
    return f"{source.place(location)}: {'.'.join(map(str, location))}{shown}: {text}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _at(values: Any, location: Location) -> tuple[Any, bool]:
    for part in location:
        inside = part in values if isinstance(values, dict) else isinstance(values, list) and isinstance(part, int)
        if not inside:
            return None, False
        values = values[part]
    return values, True


def _location(loc: Location, values: Any, kind: str) -> Location:
    """``loc`` without the names of union branches that pydantic puts between the keys."""
    kept: list[str | int] = []
    for index, part in enumerate(loc):
        value, inside = _at(values, (part,))
        if inside:
            kept.append(part)
            values = value
        elif kind == "missing" and index == len(loc) - 1:
            kept.append(part)
    return tuple(kept)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _models_at(model: type[BaseModel], location: Location, values: Any) -> list[type[BaseModel]]:
    """The models that the mapping at ``location`` may be; a ``kind`` that is written decides between them."""
    models: list[type[BaseModel]] = [model]
    for part in location:
        values = _at(values, (part,))[0]
        fields = [found.model_fields[str(part)] for found in models if str(part) in found.model_fields]
        models = [inner for field in fields for inner in _models(field.annotation)] if fields else models
        if isinstance(values, dict) and "kind" in values:
            meant = [m for m in models if values["kind"] in get_args(m.model_fields["kind"].annotation)]
            models = meant or models
    return models


def _field(model: type[BaseModel], location: Location, values: Any) -> FieldInfo | None:
    if not location:
        return None
    models = _models_at(model, location[:-1], values)
    return next((m.model_fields[str(location[-1])] for m in models if str(location[-1]) in m.model_fields), None)


def _bounds(field: FieldInfo | None) -> str:
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    metadata = field.metadata if field else []
    return " and ".join(
        f"{word} {getattr(m, key):g}" for m in metadata for key, word in words.items() if hasattr(m, key)
    )


_TYPES = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_attributes_type": "a mapping",
    "model_type": "a mapping",
    "path_type": "a path",
    "string_type": "text",
    "tuple_type": "a list",
}


_EMPTY = "is empty: give at least one value"
_PATTERNS = {
    "^[0-9a-f]{64}$": "64 hexadecimal digits in lower case",
    r"^[A-Za-z0-9][A-Za-z0-9_-]*$": "letters, digits, `_` and `-`, the first a letter or digit",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$": "letters, digits, `.`, `_` and `-`, at most 100, the first a letter or digit",
}


def _text(
    item: dict[str, Any], model: type[BaseModel], location: Location, values: Any, neighbours: Sequence[str]
) -> str:
    """What is wrong with one value, and what would be right."""
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        known = [name for found in _models_at(model, location[:-1], values) for name in found.model_fields]
        return unknown_key(str(location[-1]), [*known, *(neighbours if len(location) == 1 else ())])
    field = _field(model, location, values)
    meaning = f" ({field.description})" if field and field.description else ""
    if kind in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        return f"must be {_bounds(field) or item['msg'].removeprefix('Input should be ')}{meaning}"
    if kind in {"literal_error", "union_tag_invalid"}:
        return f"must be {context.get('expected') or context.get('expected_tags')}"
    if kind == "union_tag_not_found":
        return "needs the key `kind`: synthetic, cub, tiny-imagenet, imagenet or table"
    if kind == "missing":
        return f"is missing: add it{meaning}"
    if kind == "value_error":
        return str(context["error"])
    if kind in {"too_short", "string_too_short"}:
        return f"{_EMPTY}{meaning}"
    if kind == "string_pattern_mismatch":
        return f"must be {_PATTERNS.get(context['pattern']) or 'like ' + context['pattern']}{meaning}"
    if kind in _TYPES:
        return f"must be {_TYPES[kind]}{meaning}"
    return f"{item['msg']}{meaning}"


def unknown_key(key: str, known: Sequence[str]) -> str:
    """The message for a key that does not exist: the nearest known one, or all of them."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f"unknown key: did you mean `{near[0]}`?" if near else f"unknown key: known are {', '.join(sorted(known))}"
