"""YAML that remembers where it was written: file and line, or the option."""

from __future__ import annotations

import codecs
import difflib
import json
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lchp.errors import Refusal
from lchp.shipped import study_names
from lchp.study.spec.parse import MOST_LEVELS, Location, parse, shortened

_MOST_BYTES = 1_000_000
"""A grid of 10,000 values takes a tenth of it."""


_OF_A_RANGE = ("low", "high", "log", "per", "values")
"""What may follow a key of ``search.space``; no key of a trial holds such a word."""


@dataclass(frozen=True)
class Source:
    """Plain values, and for each location the place where a person wrote it (``file:line``, or the option).

    ``whole`` is the place of what has none of its own.
    """

    values: dict[str, Any]
    places: dict[Location, str]
    whole: str

    def place(self, location: Location) -> str:
        """The place of the value at ``location``, or of the nearest thing around it or in it."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.places:
                return self.places[location[:length]]
        inside = (place for at, place in self.places.items() if location and at[: len(location)] == location)
        return next(inside, self.whole)

    def pick(self, keys: Callable[[str], bool]) -> Source:
        """The same source with only the top-level keys for which ``keys`` holds."""
        # Every configuration of a grid is laid over such a source: it should not carry the places of the whole grid.
        places = {at: place for at, place in self.places.items() if keys(str(at[0]))}
        return Source({key: value for key, value in self.values.items() if keys(key)}, places, self.whole)

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


def read(path: Path) -> Source:
    """The values of a YAML file with their lines.

    Raises:
        Refusal: a file that cannot be read, that is no YAML mapping, or that writes a key twice.
    """
    values, places = parse(text_of(path), str(path))
    if not isinstance(values, dict):
        raise Refusal(f"{path}:1: holds no keys: write `key: value` lines")
    return Source(values, places, str(path))


def text_of(path: Path) -> str:
    """The text of a regular file: a device or a pipe might never end.

    Raises:
        Refusal: it is none, cannot be read, is too large, or no text in UTF-8.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise Refusal(f"{path}: is {what}: give the path of a YAML file{_near(path)}")
        if status.st_size > _MOST_BYTES:
            raise Refusal(f"{path}: holds {status.st_size} bytes, a YAML file at most {_MOST_BYTES}: give another")
        data = path.read_bytes()
    except PermissionError as error:
        raise Refusal(f"{path}: cannot be read ({error.strerror}): make it readable, or give another") from error
    except OSError as error:
        near = difflib.get_close_matches(path.name.removesuffix(".yaml"), study_names(), n=1, cutoff=0.7)
        hint = f", or `{near[0]}`, which comes with lchp" if near else " or a name of `lchp study list`"
        hint += _near(path)
        raise Refusal(f"{path}: cannot be read ({error.strerror}): give the path of a YAML file{hint}") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Refusal(f"{path}:1: is text in UTF-16: save it in UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Refusal(
            f"{path}:{line}: the byte 0x{data[error.start]:02x} is no text in UTF-8: "
            "save the file in UTF-8, or give the path of a YAML file"
        ) from error


def _near(path: Path) -> str:
    """The question whether a YAML file beside it is meant that is called much like it."""
    try:
        names = [file.name for file in path.parent.iterdir() if file.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    near = difflib.get_close_matches(f"{path.name.removesuffix('.yaml')}.yaml", names, n=1, cutoff=0.7)
    return f": did you mean `{path.parent / near[0]}`?" if near else ""


def options(sets: Sequence[str]) -> Source:
    """The values of ``--set dotted.key=value`` options, each value read as YAML; a later one wins.

    Raises:
        Refusal: an option without a key and an equals sign, or whose value is no YAML.
    """
    source = Source({}, {}, "--set")
    for option in sets:
        key, equals, text = option.partition("=")
        parts = _parts(key)
        place = f"--set {shortened(option)}"
        if not equals or not all(parts):
            raise Refusal(f"{place}: write it as dotted.key=value")
        if len(parts) > MOST_LEVELS:
            raise Refusal(f"{place}: the key has {len(parts)} parts: no key of a study has more than {MOST_LEVELS}")
        value, _ = parse(text, f"--set {shortened('.'.join(parts))}", option=True)
        source = source.put(parts, value, place)
    return source


def _parts(key: str) -> tuple[str, ...]:
    """A dotted key as the keys that lead to it. Those below ``vary`` and ``search.space`` are dotted themselves:
    ``vary.refinement.rate`` is ``refinement.rate`` in ``vary``.
    """
    parts = tuple(part.strip() for part in key.split("."))
    for around in (("vary",), ("search", "space")):
        inner = parts[len(around) :]
        if parts[: len(around)] == around and inner and all(inner):
            end = next((at for at, part in enumerate(inner) if part in _OF_A_RANGE), len(inner))
            return (*around, *([".".join(inner[:end])] if end else []), *inner[end:])
    return parts


def nested(parts: Sequence[str], value: Any) -> dict[str, Any]:
    """``value`` under the dotted key ``parts``: ``("a", "b")`` gives ``{"a": {"b": value}}``."""
    for part in reversed(parts):
        value = {part: value}
    return dict(value)


def as_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as the text of a file, which :func:`read` reads back."""
    return str(yaml.safe_dump(json.loads(json.dumps(values)), sort_keys=False, allow_unicode=True))


def flow(value: Any) -> str:
    """A plain value as YAML on one line, which :func:`read` reads back."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    plain = isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


_PLAIN = re.compile(r"[A-Za-z./][\w.+/-]*")
_WORDS = ("true", "false", "yes", "no", "on", "off", "null", "y", "n", ".inf", ".nan")
"""What YAML reads as something else than text."""
