"""A whole configuration as it is resolved: every key with its value, who set it, and what it may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from lchp.study.spec.complaints import check
from lchp.study.spec.keys import REQUIRED, Key, all_keys, written
from lchp.study.spec.layers import Layers, layers
from lchp.study.spec.load import Study, load_study, load_trial
from lchp.study.spec.parse import Location
from lchp.study.spec.schema import StudyKeys
from lchp.study.spec.source import flow, read
from lchp.training.config import TrialConfig
from lchp.training.identity import unread

_COLUMN = 44
"""Where comments begin, where the value leaves room."""
_OWN_KEYS = ("vary", "search.space", "tables.fixed")
"""Mappings whose keys a person names."""


@dataclass(frozen=True)
class Line:
    """One key of a configuration.

    Attributes:
        location: where it stands.
        value: its plain value; a mapping where it is a section.
        origin: who set it (a line of the file, an option, the preset), None where nobody did.
        varies: where it varies, None where it does not.
        unread: the key whose value keeps this one from being read, None where it is read.
        key: what is known of it; None of a key that a person names.
    """

    location: Location
    value: Any
    origin: str | None
    varies: str | None
    unread: str | None
    key: Key | None

    @property
    def name(self) -> str:
        """Its dotted name."""
        return ".".join(map(str, self.location))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for scripts."""
        known = self.key.as_dict() if self.key else {}
        about = {name: known.get(name) for name in ("default", "values", "unit", "source", "description")}
        own = {"set_by": self.origin or "default", "varies": self.varies, "unread": self.unread}
        return {"value": self.value, **own, **about}


def shown(file: Path, sets: Sequence[str] = (), data: Path | None = None) -> list[Line]:
    """Every key of a study's or trial's file.

    Raises:
        Refusal: as :func:`lchp.study.spec.load.load_study`.
    """
    found = layers(read(file), sets, data)
    known = {key.name: key for key in all_keys()}
    if "name" in found.laid.values:
        study = load_study(file, sets, data)
        configs: Sequence[TrialConfig] = study.grid or (study.base,)
        plain, varies = _of_study(study, found), {key: _where(found, key) for key in study.varied}
    else:
        configs = (load_trial(file, sets, data),)
        plain, varies = {"preset": found.laid.values.get("preset"), **_plain(configs[0])}, {}
    reasons = [_unread(config) for config in configs]
    left = {key: reason for key, reason in reasons[0].items() if all(key in other for other in reasons)}

    def lines(values: Mapping[str, Any], above: Location) -> Iterator[Line]:
        for word, value in values.items():
            location = (*above, word)
            name = ".".join(map(str, location))
            yield Line(
                location, value, found.origin(location, value), varies.get(name), left.get(name), known.get(name)
            )
            if isinstance(value, Mapping) and name not in _OWN_KEYS:
                yield from lines(value, location)

    return list(lines(plain, ()))


def _of_study(study: Study, found: Layers) -> dict[str, Any]:
    own, _ = check(StudyKeys, found.laid.pick(lambda key: key in StudyKeys.model_fields))
    assert own is not None, "the study was read"
    plain = _plain(own)
    plain["search"] = _plain(study.search) if study.search else None
    return {**plain, **{key: value for key, value in _plain(study.base).items() if key != "seed"}}


def _plain(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json")


def _unread(config: TrialConfig) -> dict[str, str]:
    return unread(config) | ({} if config.confidence.keep is None else {"tau": "confidence.keep"})


def _where(found: Layers, key: str) -> str:
    """Where the values of a varied key stand, and what they are, if one grid has them."""
    vary = found.laid.values.get("vary")
    if isinstance(vary, Mapping):
        values = vary[key] if isinstance(vary[key], list) else [vary[key]]
        return f"{found.laid.place(('vary', key))}: {', '.join(map(written, values))}"
    if vary is None:
        return f"{found.laid.place(('search', 'space', key))}: searched"
    return f"{found.laid.place(('vary',))}: in several grids"


def as_yaml(lines: Sequence[Line]) -> str:
    """The configuration as a file that would do the same, each key with a comment that tells of it.

    What nothing reads is commented out.
    """
    return "\n".join(text for line in lines for text in _texts(line))


def _texts(line: Line) -> Iterator[str]:
    indent = "  " * (len(line.location) - 1)
    word = line.location[-1]
    if isinstance(line.value, Mapping) and line.value and line.name not in _OWN_KEYS:
        about = line.key.description if line.key else ""
        yield _commented(f"{indent}{word}:", about)
        return
    text = f"{indent}{'# ' if line.unread else ''}{word}: {flow(line.value)}"
    yield _commented(text, " | ".join(filter(None, _told(line))))


def _told(line: Line) -> Iterator[str]:
    """Who set the key, where it varies, what it may be and what it is."""
    key = line.key
    source = f" ({key.source})" if key and key.source else ""
    is_default = line.origin is None or (key is not None and written(line.value) == key.default)
    default = f", the default{source}" if is_default else ""
    if key and not is_default and key.default not in ("", REQUIRED):
        default = f", default {key.default}{source}"
    yield f"default{source}" if line.origin is None else f"{line.origin}{default}"
    if line.varies:
        yield f"varies, {line.varies}"
    if line.unread:
        yield f"not read with this {line.unread}"
    if key:
        yield f"{key.values}, {key.unit}" if key.unit else key.values
        yield key.description


def _commented(text: str, comment: str) -> str:
    return f"{text:<{_COLUMN}}  # {comment}" if comment else text
