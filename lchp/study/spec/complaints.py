"""What is wrong with values that a person wrote: one line each, with place, key, value and remedy."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from lchp.data.kinds import KINDS
from lchp.study.spec.parse import Location, shortened
from lchp.study.spec.schema import ONE_LINE
from lchp.study.spec.source import Source

Model = TypeVar("Model", bound=BaseModel)


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
    meant: set[Location] = set()
    for item in error.errors(include_url=False):
        location = _location(item["loc"], source.values, item["type"])
        text = _text(dict(item), model, location, source.values, neighbours)
        alternatives = texts.setdefault(location, [])
        if item["type"] in {"too_short", "value_error"}:
            # Something of the right type, which is empty or contradicts itself: no other branch of a union was meant.
            meant.add(location)
            alternatives[:] = [text]
        elif text not in alternatives and location not in meant:
            alternatives.append(text)
    # Of a union's branches the one that was meant is the one that got furthest.
    deepest = [at for at in texts if at == () or not any(other[: len(at)] == at != other for other in texts)]
    return [_line(at, " or ".join(texts[at]), source) for at in deepest]


def _line(location: Location, text: str, source: Source) -> str:
    if not location:
        # Of the keys that do not fit together, the one that was laid on top of the others.
        words = re.findall(r"\w+(?:\.\w+)*", text)
        # It may have been written as part of a mapping: `view: {crop: 500}` of one option has one place.
        named = [at for at in source.places if at and any(_lies_in(word, ".".join(map(str, at))) for word in words)]
        return f"{source.place(named[-1] if named else ())}: {text}"
    value, present = _at(source.values, location)
    shown = f" = {_shown(value)}" if present else ""
    return f"{source.place(location)}: {shortened('.'.join(map(str, location)))}{shown}: {text}{_hint(value, text)}"


def _hint(value: Any, text: str) -> str:
    """What makes a value another than it looks like."""
    if isinstance(value, bool) and text.startswith(("must be text", "must be '")):
        return f"; {TRUTH}"
    if isinstance(value, str) and _NUMBER.fullmatch(value) and text.startswith(("must be a number", "must be a whole")):
        return "; in quotes it is text: remove them"
    return ""


def _lies_in(key: str, around: str) -> bool:
    """Whether a dotted key is ``around``, or a part of it."""
    return key == around or key.startswith(f"{around}.")


def _shown(value: Any) -> str:
    return shortened(value if isinstance(value, str) else json.dumps(value, default=str))


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
        fields = [one.model_fields[str(part)] for one in models if str(part) in one.model_fields]
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
        f"{word} {_number(getattr(m, key))}" for m in metadata for key, word in words.items() if hasattr(m, key)
    )


def _number(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")

TRUTH = "YAML reads yes, no, on and off as true and false: put such a word into quotes"

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


_SETTLED: dict[Location, str] = {("compute", "precision"): ", or 'auto' in a file or option"}
"""What may be written in place of a value that it becomes before it is checked."""
_EMPTY = "is empty: give at least one value"
_PATTERNS = {
    "^[0-9a-f]{64}$": "64 hexadecimal digits in lower case",
    r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$": "letters, digits, `_` and `-`, at most 100, the first a letter or digit",
    ONE_LINE: "one line, without control characters",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$": "letters, digits, `.`, `_` and `-`, at most 100, the first a letter or digit",
}


def _text(
    item: dict[str, Any], model: type[BaseModel], location: Location, values: Any, neighbours: Sequence[str]
) -> str:
    """What is wrong with one value, and what would be right."""
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        known = [name for one in _models_at(model, location[:-1], values) for name in one.model_fields]
        key = str(location[-1])
        first, _, rest = key.partition(".")
        if rest and first in known:
            return (
                "unknown key: below `vary` and `search.space` alone keys are dotted: write "
                f"`{key.replace('.', ': {')}: ...{'}' * key.count('.')}`"
            )
        return unknown_key(key, [*known, *(neighbours if len(location) == 1 else ())])
    field = _field(model, location, values)
    meaning = f" ({field.description})" if field and field.description else ""
    if kind in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        return f"must be {_bounds(field) or item['msg'].removeprefix('Input should be ')}{meaning}"
    if kind in {"literal_error", "union_tag_invalid"}:
        return f"must be {context.get('expected') or context.get('expected_tags')}{_SETTLED.get(location, '')}"
    if kind == "union_tag_not_found":
        *names, last = KINDS
        return f"needs the key `kind`: {', '.join(names)} or {last}"
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
