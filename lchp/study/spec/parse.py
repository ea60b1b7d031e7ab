"""YAML text to plain values and their lines: what people write by mistake is refused, not guessed.

YAML 1.1 reads ``010`` as 8 and ``1:30`` as 90, and knows dates, sets and binary values, which no key here takes.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from lchp.errors import Refusal

Location = tuple[str | int, ...]
"""The keys and list indices that lead to a value."""

MOST_LEVELS = 20
"""Mappings and lists inside one another, and parts of a dotted key."""

_MOST_VALUES = 100_000
_LARGEST = 2**63 - 1
_TAG = "tag:yaml.org,2002:"
_MISREAD = re.compile(r"[-+]?(?:0[0-7_]+|[\d_]+(?::[0-5]?\d)+(?:\.[\d_]*)?|[\d_.]*_[\d_.]*(?:[eE][-+]?\d+)?)")
"""The numbers that YAML 1.1 reads otherwise than people: octal, to the base of 60, with underscores."""


class _Loader(yaml.SafeLoader):
    """YAML's safe values, with ``2e-3`` read as the number it is (YAML 1.1 wants ``2.0e-3``)."""


_Loader.add_implicit_resolver(
    f"{_TAG}float", re.compile(r"^[-+]?(?:\.\d+|\d+(?:\.\d*)?)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse(text: str, name: str, option: bool = False) -> tuple[Any, dict[Location, str]]:
    """The value that ``text`` writes, and its places; ``name`` is the file's, or ``--set key`` of an ``option``.

    Raises:
        Refusal: the text is no YAML of plain values; names the line, or the option.
    """
    place = name if option else f"{name}:1"
    shown = f"the value `{shortened(text)}` is " if option else ""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            walk = _Walk(loader, name, option)
            return (None if node is None else walk.value(node, (), ())), walk.places
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        if not option:
            place = f"{name}:{text.count(chr(10), 0, error.position) + 1}"
        raise Refusal(
            f"{place}: {shown}no readable YAML: it holds the control character 0x{error.character:02x}: remove it"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if not option and mark:
            place = f"{name}:{mark.line + 1}"
        problem = error.problem or error.context or "cannot be read"
        raise Refusal(f"{place}: {shown}no readable YAML ({problem}): {_remedy(problem, option)}") from error
    except RecursionError as error:
        raise Refusal(f"{place}: {shown}nested too deeply: {MOST_LEVELS} levels are read") from error


def shortened(text: str) -> str:
    """``text`` on one line of at most 80 characters, for a message."""
    text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _remedy(problem: str, option: bool) -> str:
    if "'\\t'" in problem:
        return "indent with spaces"
    if "another document" in problem:
        return "keep one document, and remove the line `---` between them"
    if "mapping values are not allowed" in problem:
        return "put text that holds `: ` into quotes, and give each key a line of its own"
    if option:
        return "close its brackets, or put text into quotes"
    return "look for brackets or quotes that are not closed, and at the indentation"


class _Walk:
    """One pass over a YAML tree: its values, and the line of each."""

    def __init__(self, loader: _Loader, name: str, option: bool) -> None:
        self.loader, self.name, self.option, self.count = loader, name, option, 0
        self.places: dict[Location, str] = {}

    def line(self, node: yaml.Node) -> str:
        return self.name if self.option else f"{self.name}:{node.start_mark.line + 1}"

    def enter(self, node: yaml.Node, around: tuple[yaml.Node, ...]) -> tuple[yaml.Node, ...]:
        """Count a node, which must not lie in itself; gives it with those around it."""
        self.count += 1
        if any(node is other for other in around):
            raise Refusal(f"{self.line(node)}: an anchor repeats itself without end: write the values out")
        if self.count > _MOST_VALUES:
            raise Refusal(
                f"{self.line(node)}: the file holds more than {_MOST_VALUES} values, or an anchor repeats them without "
                "end: write fewer"
            )
        if len(around) >= MOST_LEVELS:
            raise Refusal(f"{self.line(node)}: nested too deeply: {MOST_LEVELS} levels are read")
        return (*around, node)

    def value(self, node: yaml.Node, location: Location, around: tuple[yaml.Node, ...]) -> Any:
        around = self.enter(node, around)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if node.tag not in {f"{_TAG}map", f"{_TAG}seq"}:
            raise self.unknown_tag(node)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, location, around)
        items = []
        for index, item in enumerate(node.value):
            self.places[(*location, index)] = self.line(item)
            items.append(self.value(item, (*location, index), around))
        return items

    def scalar(self, node: yaml.ScalarNode) -> Any:
        kind = node.tag.removeprefix(_TAG)
        plain = self.loader.resolve(yaml.ScalarNode, node.value, (node.style is None, node.style is not None))  # type: ignore[no-untyped-call]
        if node.tag != plain and kind != "str":
            raise self.unknown_tag(node)
        if kind == "timestamp":
            return self.date(node)
        if kind not in {"null", "bool", "int", "float", "str"}:
            raise Refusal(f"{self.line(node)}: `{shortened(node.value)}` is no plain value: put text into quotes")
        if kind in {"int", "float"}:
            return self.number(node)
        value = self.loader.construct_object(node)
        if isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
            raise Refusal(f"{self.line(node)}: the text {value!r} holds what no file can hold: remove it")
        return value

    def date(self, node: yaml.ScalarNode) -> str:
        """The text of a date: no key takes one."""
        try:
            self.loader.construct_object(node)
        except (ValueError, OverflowError) as error:
            raise Refusal(
                f"{self.line(node)}: no readable YAML: there is no date {node.value} ({error}): put it into quotes"
            ) from error
        return str(node.value)

    def number(self, node: yaml.ScalarNode) -> int | float:
        written = shortened(node.value)
        if node.tag == f"{_TAG}int" and len(node.value) > 1_000:
            raise Refusal(f"{self.line(node)}: the number {written} is too large: write at most {_LARGEST}")
        value: int | float = self.loader.construct_object(node)
        if _MISREAD.fullmatch(node.value):
            raise Refusal(
                f"{self.line(node)}: YAML reads the number {written} as {value}: "
                "write it without leading zeros, colons and underscores, or put text into quotes"
            )
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise Refusal(f"{self.line(node)}: the number {written} is too large: write at most {_LARGEST}")
        return value

    def unknown_tag(self, node: yaml.Node) -> Refusal:
        return Refusal(f"{self.line(node)}: no readable YAML: the tag {node.tag} is unknown here: write plain values")

    def mapping(self, node: yaml.MappingNode, location: Location, around: tuple[yaml.Node, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, (key, item) in self.pairs(node, around).items():
            self.places[(*location, name)] = self.line(key)
            values[name] = self.value(item, (*location, name), around)
        return values

    def pairs(
        self, node: yaml.MappingNode, around: tuple[yaml.Node, ...]
    ) -> dict[str, tuple[yaml.ScalarNode, yaml.Node]]:
        """The keys of a mapping with their nodes; those that `<<` merges come first and give way to its own."""
        own: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        for key, item in node.value:
            if key.tag == f"{_TAG}merge":
                for other in item.value if isinstance(item, yaml.SequenceNode) else [item]:
                    if not isinstance(other, yaml.MappingNode):
                        raise Refusal(f"{self.line(item)}: `<<` merges mappings alone: write `<<: *anchor` of one")
                    merged = self.pairs(other, self.enter(other, around)) | merged
                continue
            name = self.key(key)
            if name in own:
                raise Refusal(f"{self.line(key)}: the key `{name}` is written twice: keep one")
            own[name] = key, item
        return {name: pair for name, pair in merged.items() if name not in own} | own

    def key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise Refusal(f"{self.line(node)}: a list or a mapping is no key: keys are words")
        name = self.scalar(node)
        if not isinstance(name, str):
            raise Refusal(f"{self.line(node)}: the key {name!r} is no text: keys are words")
        return name
