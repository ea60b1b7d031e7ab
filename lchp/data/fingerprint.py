"""What identifies a value: canonical JSON, a short hash of it, and the fields in which two values differ.

It lies with the data because training and tracking both need it and do not know each other.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

_ABSENT = "(absent)"


def _plain(value: Any, where: str) -> Any:
    """``value`` in JSON's own types; ``where`` is its dotted place, for the error."""
    if isinstance(value, Mapping):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:
            raise ValueError(f"{where or 'value'}: the key {wrong!r} is no text: use text keys")
        return {key: _plain(item, f"{where}.{key}" if where else key) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where or 'value'}: {value} has no canonical form: use a finite number")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"{where or 'value'}: {type(value).__name__} {value!r} has no canonical form: use JSON's types")


def canonical(value: Any) -> str:
    """``value`` as the one JSON text that stands for it.

    Keys are sorted, floats are written by ``repr`` (the shortest text that reads back to the same bits), paths in
    POSIX form, tuples as lists. A number keeps its type, so ``2`` and ``2.0`` differ: values come from validated
    configurations, whose fields settle the type, and equal configurations then have equal text.

    Raises:
        ValueError: a NaN or infinity, a key that is no text, or a value that is none of JSON's types.
    """
    return json.dumps(_plain(value, ""), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def fingerprint(value: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of ``canonical(value)``.

    Raises:
        ValueError: as ``canonical``.
    """
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()[:16]


def flatten(value: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as one with dotted keys, in the given order; lists and empty mappings stay values."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            flat.update({f"{key}.{below}": deep for below, deep in flatten(item).items()})
        else:
            flat[key] = item
    return flat


def distinct(values: Sequence[Any]) -> list[Any]:
    """The values in their order, each once; they need not be hashable."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The fields in which two values differ, sorted, as lines like ``refinement.rate: 0.002 -> 0.001``.

    A field that only one side has is ``(absent)`` on the other. Where no key holds a dot (no field's name does), the
    list is empty exactly if the fingerprints agree.

    Raises:
        ValueError: as ``canonical``.
    """
    sides = [{key: canonical(item) for key, item in flatten(side).items()} for side in (old, new)]
    return [
        f"{key}: {sides[0].get(key, _ABSENT)} -> {sides[1].get(key, _ABSENT)}"
        for key in sorted({*sides[0], *sides[1]})
        if sides[0].get(key) != sides[1].get(key)
    ]
