"""YAML that remembers where it was written: file and line, or the option."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lchp.errors import Refusal

Location = tuple[str | int, ...]
"""The keys and list indices that lead to a value."""

_MOST_VALUES = 100_000


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
