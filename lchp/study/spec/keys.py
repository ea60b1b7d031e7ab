"""Every key of a study's file: what it may be, its unit, its default and where that comes from, in words for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lchp.errors import Refusal
from lchp.study.spec.complaints import unknown_key
from lchp.study.spec.json_schema import Schema, description_of, models_of, study_schema, trial_schema
from lchp.study.spec.parse import shortened

_BOUNDS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "below",
}
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "null": "null",
    "object": "a mapping",
}
REQUIRED = "none: it must be given"


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        name: dotted; what is inside a list, as a table's ``by``, stands under the list's key: ``tables.by``.
        values: what it may be, with its range.
        unit: of its numbers, empty where it has none.
        default: as YAML; of a section empty, :data:`REQUIRED` of a key that has none.
        source: where the default comes from, empty where it has none.
        description: what it is.
        section: whether it is a mapping of further keys.
        of: whose files take it: ``study``, ``trial`` or ``both``.
    """

    name: str
    values: str
    unit: str
    default: str
    source: str
    description: str
    section: bool
    of: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def all_keys() -> list[Key]:
    """Every key, in the order of a file; sections before what is in them."""
    study, trial = _keys_of(study_schema(), "study"), _keys_of(trial_schema(), "trial")
    both = {name: replace(key, of="both") if name in trial else key for name, key in study.items()}
    return list((both | {name: key for name, key in trial.items() if name not in study}).values())


def _keys_of(schema: Schema, of: str) -> dict[str, Key]:
    found: dict[str, Key] = {}
    for key in _walk(schema["properties"], schema["$defs"], (), schema["required"], of):
        known = found.setdefault(key.name, key)
        if key.values != known.values:
            # Mappings of several kinds have this key.
            found[key.name] = replace(known, values=f"{known.values}, {key.values}")
    return found


def _walk(properties: Schema, defs: Schema, above: tuple[str, ...], required: Sequence[str], of: str) -> Iterator[Key]:
    for name, node in properties.items():
        # The keys of a grid are those of a trial.
        models = [] if "title" in node else [*models_of(node), *models_of(node.get("items", {}))]
        words = [branch for branch in node.get("anyOf", ()) if "$ref" not in branch and branch.get("type") != "null"]
        yield Key(
            ".".join((*above, name)),
            values_of(node, defs),
            node.get("unit", ""),
            _default(node, name in required),
            node.get("source", ""),
            description_of(node, defs),
            bool(models) and not words,
            of,
        )
        for model in models:
            inner = defs[model]
            yield from _walk(inner["properties"], defs, (*above, name), inner.get("required", ()), of)


def _default(node: Mapping[str, Any], required: bool) -> str:
    if required or "default" not in node:
        return REQUIRED if required else ""
    default = node["default"]
    return written(default.get("kind", "") if isinstance(default, dict) else default)


def written(value: Any) -> str:
    """A plain value as YAML on one line."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def values_of(node: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "title" in node:
        return str(node["title"])
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(values_of(branch, defs) for branch in node["anyOf"]))
    if "$ref" in node:
        return f"a mapping ({', '.join(defs[models_of(node)[0]]['properties'])})"
    if "enum" in node or "const" in node:
        return ", ".join(map(written, node.get("enum") or [node["const"]]))
    if node.get("type") == "array":
        return f"a list, each {values_of(node['items'], defs)}"
    kind = "a path" if node.get("format") == "path" else _TYPES[node["type"]]
    return " ".join([kind, *(f"{word} {_number(node[key])}" for key, word in _BOUNDS.items() if key in node)])


def _number(bound: float) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def found_keys(name: str | None) -> list[Key]:
    """The key of a name with all that is in it; every key without a name.

    Raises:
        Refusal: there is none; names the nearest.
    """
    known = all_keys()
    if name is None:
        return known
    found = [key for key in known if key.name == name or key.name.startswith(f"{name}.")]
    if not found:
        last = {key.name.split(".")[-1]: key.name for key in reversed(known)}
        names = [key.name for key in known]
        hint = f"unknown key: did you mean `{last[name]}`?" if name in last else _nearest(name, names)
        raise Refusal(f"{shortened(name) or repr(name)}: {hint}")
    return found


def _nearest(name: str, names: Sequence[str]) -> str:
    told = unknown_key(name, names)
    return told if "did you mean" in told else "unknown key: `lchp config keys` lists them all"


def as_lines(keys: Sequence[Key]) -> str:
    """A line for each key: name, default, values with their unit, what it is."""
    return "\n".join(
        f"{key.name}: {key.description}"
        if key.section
        else f"{key.name} = {key.default} [{_values(key)}] {_about(key)}"
        for key in keys
    )


def as_text(key: Key) -> str:
    """Everything of one key."""
    lines = {
        "what": key.description,
        "values": key.values,
        "unit": key.unit,
        "default": key.default,
        "source": key.source,
        "in": {"both": "study and trial files", "study": "study files", "trial": "trial files"}[key.of],
    }
    width = max(map(len, lines))
    return "\n".join([key.name, *(f"  {word:<{width}}  {text}" for word, text in lines.items() if text)])


def _values(key: Key) -> str:
    return f"{key.values}; {key.unit}" if key.unit else key.values


def _about(key: Key) -> str:
    return f"{key.description} [{key.source}]" if key.source else key.description


def as_markdown(keys: Sequence[Key]) -> str:
    """The reference of all keys, a table for each section; `docs/reference/keys.md` is this text."""
    sections: dict[str, list[Key]] = {}
    for key in keys:
        inside = key.name.rpartition(".")[0]
        sections.setdefault(key.name if key.section else inside, [])
        if not key.section:
            sections[inside].append(key)
    known = {key.name: key for key in keys}
    return "\n".join([_HEAD, *(text for name, inner in sections.items() for text in _section(name, inner, known))])


_HEAD = """# Every key of a study's file

Made by `lchp config keys --markdown`. A trial's file takes the keys that are marked so, and `seed` in place of `seeds`.
A dotted key `view.crop` is `crop` below `view`; `--set view.crop=224` and `vary: {view.crop: [160, 224]}` name it so.
Sources of defaults are those of the paper (Sun & Zhu 2022), the method notes (`lchp/method/README.md`), or this
package's own choice.
"""


def _section(name: str, inner: Sequence[Key], known: Mapping[str, Key]) -> Iterator[str]:
    title = f"`{name}`" if name else "The study, and what is at the top"
    yield f"## {title}\n"
    if name in known:
        yield f"{_cell(known[name].description)}\n"
    if not inner:
        return
    yield "| key | what it is | values | unit | default | source | trials |"
    yield "|---|---|---|---|---|---|---|"
    for key in inner:
        takes = "" if key.of == "study" else "yes"
        cells = (key.description, key.values, key.unit, key.default, key.source, takes)
        yield f"| `{key.name}` | {' | '.join(map(_cell, cells))} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
