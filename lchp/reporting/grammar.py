"""The small grammar in which a study states claims, checked against what the study trains.

::

    lchp_r > lchp_i                         at the study's own values, or wherever it trains where it does not there
    lchp_r > lchp_i for every delta         every value of delta, the others at the study's own
    lchp_r > lchp_i for every setting       whatever was trained
    lchp_i > lchp_r for tau = 0             at one value
    lchp_r at tau = 0.9 > lchp_i            a value for one side alone
    scale+translation+flip > every single augmentation      of LCHP-R; also `every other augmentation`
    lchp_r rises with tau                   or falls; also of `selected` and `selected_gt_known`, on training images
    best delta of lchp_r >= best delta of pseudo_label
    best delta of lchp_r is inside          neither the smallest nor the largest value; or a value in place of `inside`

``>``, ``>=``, ``<`` and ``<=`` compare; ``in top1_loc`` at the end names another metric than GT-Known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import yaml

from lchp.data.fingerprint import distinct
from lchp.reporting.claims import RELATIONS, SELECTIONS, Best, Claim, Compares, Moves, Part, Space
from lchp.reporting.sides import Side
from lchp.vocabulary import GT_KNOWN, LCHP_I, LCHP_R, METHODS, METRICS, STRONG_AUGMENTATIONS

AUGMENTATION = "augmentation"
EXAMPLES = (
    f"write it like `{LCHP_R} > {LCHP_I} for every delta`, `{LCHP_R} rises with tau`, "
    f"`scale > every other augmentation` or `best delta of {LCHP_R} is inside`"
)
PLACES = "write `for every KEY`, `for every setting` or `for KEY = VALUE`, of what is trained"


def parse(text: str, space: Space) -> Claim:
    """The claim that ``text`` states of a study.

    >>> claim = parse("lchp_r > lchp_i for every delta", Space({"delta": 0.5}, ({"delta": 0.5}, {"delta": 0.7})))
    >>> [part.at for part in claim.rule.parts]
    ['delta = 0.5', 'delta = 0.7']

    Raises:
        ValueError: it is none of the grammar, or of methods, metrics, keys or values that the study does not have; says
            which are there.
    """
    words, metric = text.split(), GT_KNOWN
    if "in" in words:
        at = words.index("in")
        metric = _known(" ".join(words[at + 1 :]), METRICS, "metric")
        words = words[:at]
    return Claim(text, _rule(words, metric, space), metric)


def _rule(words: Sequence[str], metric: str, space: Space) -> Compares | Moves | Best:
    if words[:1] == ["best"]:
        if not METRICS[metric].higher_is_better:
            raise ValueError(f"{metric}: has no best that is the largest: name another metric")
        return _best(words, space)
    if len(words) == 4 and words[1] in ("rises", "falls") and words[2] == "with":
        return _moves(words[0], words[3], words[1] == "rises", space)
    places = [at for at, word in enumerate(words) if word in RELATIONS]
    if len(places) != 1:
        raise ValueError(f"is no claim: {EXAMPLES}")
    left, relation, right = words[: places[0]], words[places[0]], words[places[0] + 1 :]
    parts = tuple(_against_each(left, right[1:], space) if right[:1] == ["every"] else _scoped(left, right, space))
    if not parts:
        raise ValueError("there is nothing to compare with: name another value, or leave the claim out")
    # Of all values one side is one.
    parts = tuple(part for part in parts if part.left != part.right)
    if not parts:
        raise ValueError("compares something with itself: name two methods, or two values")
    for setting in (side.setting for part in parts for side in (part.left, part.right)):
        _require(setting, space)
    return Compares(relation, parts)


def _best(words: Sequence[str], space: Space) -> Best:
    if len(words) < 6 or words[2] != "of":
        raise ValueError(f"is no claim: {EXAMPLES}")
    key, method, rest = words[1], _method(words[3], space), words[5:]
    row = _row(key, space)
    if words[4] == "is" and rest == ["inside"]:
        settings = _ordered(key, row)
        if len(settings) < 3:
            raise ValueError(f"{key}: has {len(settings)} values: inside wants three")
        return Best(key, method, settings, inside=True)
    if words[4] == "is" and len(rest) == 1:
        return Best(key, method, tuple(row), value=_value(key, rest[0], space))
    if words[4] in RELATIONS and rest[:3] == ["best", key, "of"] and len(rest) == 4:
        return Best(key, method, _ordered(key, row), words[4], _method(rest[3], space))
    raise ValueError(f"is no claim: {EXAMPLES}")


def _moves(series: str, key: str, rises: bool, space: Space) -> Moves:
    if series not in SELECTIONS:
        _method(series, space, SELECTIONS)
    return Moves(series, key, rises, _ordered(key, _row(key, space)))


def _against_each(left: Sequence[str], each: Sequence[str], space: Space) -> Iterator[Part]:
    """``VALUE > every other KEY``: the same method at other values."""
    which, key = each if len(each) == 2 else ("", " ".join(each))
    side = _side(left, space, space.own)
    for value in _named(key, which, _row(key, space)):
        other = Side({**side.setting, key: value}, side.method)
        if other != side:
            yield Part(f"{key} = {value}", side, other)


def _scoped(left: Sequence[str], right: Sequence[str], space: Space) -> Iterator[Part]:
    """Two sides, at the study's own values or where ``for`` says."""
    at = right.index("for") if "for" in right else len(right)
    own = [space.own] if space.own in space.settings or "=" in (*left, *right) else space.settings
    settings = _scope(right[at + 1 :], space) if at < len(right) else own
    changing = [key for key in space.own if any(setting[key] != settings[0][key] for setting in settings)]
    changing = changing or [key for key in space.own if key in right[at:]]
    for setting in settings:
        shown = ", ".join(f"{key} = {setting[key]}" for key in changing)
        yield Part(shown, _side(left, space, setting), _side(right[:at], space, setting))


def _scope(words: Sequence[str], space: Space) -> Sequence[Mapping[str, Any]]:
    if words == ["every", "setting"]:
        return space.settings
    if words[:1] == ["every"] and len(words) in (2, 3):
        key = _key(words[-1], space)
        settings = space.row(key) or space.settings
        values = _named(key, words[1] if len(words) == 3 else "", settings)
        return [one for one in settings if one[key] in values]
    if len(words) == 3 and words[1] == "=":
        return [{**space.own, words[0]: _value(words[0], words[2], space)}]
    raise ValueError(f"for {' '.join(words)}: says no place: {PLACES}")


def _side(words: Sequence[str], space: Space, setting: Mapping[str, Any]) -> Side:
    """``METHOD``, ``METHOD at KEY = VALUE``, or a value that LCHP-R has."""
    if len(words) == 5 and words[1] == "at" and words[3] == "=":
        return Side({**setting, words[2]: _value(words[2], words[4], space)}, _method(words[0], space))
    if len(words) != 1:
        raise ValueError(f"{' '.join(words) or 'nothing'}: is neither a method nor a value: {EXAMPLES}")
    holding = [key for key in space.own if words[0] not in METHODS and _find(key, words[0], space) is not _NONE]
    if len(holding) == 1:
        return Side({**setting, holding[0]: _find(holding[0], words[0], space)}, LCHP_R)
    if len(holding) > 1:
        keys = " and ".join(holding)
        raise ValueError(f"{words[0]}: is a value of {keys}: write `{LCHP_R} at {holding[0]} = {words[0]}`")
    return Side(setting, _method(words[0], space))


_NONE = object()


def _find(key: str, word: str, space: Space) -> Any:
    """The value of ``key`` that a word means, _NONE where none of the settings has it."""
    meant: Any = word
    with suppress(yaml.YAMLError):
        meant = yaml.safe_load(word)
    if key == AUGMENTATION and set(word.split("+")) <= set(STRONG_AUGMENTATIONS):
        meant = "+".join(one for one in STRONG_AUGMENTATIONS if one in word.split("+"))
    # True is 1 to Python, and none to people.
    alike = (value for value in _all(key, space) if isinstance(value, bool) == isinstance(meant, bool))
    return next((value for value in alike if value == meant), _NONE)


def _all(key: str, space: Space) -> list[Any]:
    return distinct([setting[key] for setting in space.settings])


def _value(key: str, word: str, space: Space) -> Any:
    found = _find(_key(key, space), word, space)
    if found is _NONE:
        raise ValueError(f"{key} = {word}: is not trained: {key} is {', '.join(map(str, _all(key, space)))}")
    return found


def _named(key: str, which: str, settings: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The values that ``every [single|other] KEY`` names; who is compared leaves itself out."""
    row = [one[key] for one in settings]
    if which == "single":
        if key != AUGMENTATION:
            raise ValueError(f"every single {key}: only augmentations are single: write `every other {key}`")
        return [value for value in row if value in STRONG_AUGMENTATIONS]
    if which not in ("", "other"):
        raise ValueError(f"every {which} {key}: is not known: write `every {key}`, `every other {key}`")
    return row


def _row(key: str, space: Space) -> list[Mapping[str, Any]]:
    row = space.row(_key(key, space))
    if len(row) < 2:
        own = ", ".join(f"{other} = {value}" for other, value in space.own.items() if other != key)
        raise ValueError(
            f"{key}: has {len(row)} values where all else is the study's own ({own or 'nothing else varies'}): give "
            "the study own values with which it trains several"
        )
    return row


def _ordered(key: str, row: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    words = [one[key] for one in row if isinstance(one[key], bool) or not isinstance(one[key], int | float)]
    if words:
        raise ValueError(f"{key}: {words[0]} is no number, so there is no larger one: name a key of numbers")
    return tuple(sorted(row, key=lambda one: one[key]))


def _key(key: str, space: Space) -> str:
    return _known(key, space.own, "key that varies")


def _method(word: str, space: Space, more: Sequence[str] = ()) -> str:
    there = [name for name, method in METHODS.items() if not method.reference or name in space.references]
    return _known(word, [*there, *more], "method of this study")


def _known(word: str, known: Sequence[str] | Mapping[str, Any], kind: str) -> str:
    if word not in known:
        raise ValueError(f"{word or 'nothing'}: is no {kind}: known are {', '.join(known) or 'none'}")
    return word


def _require(setting: Mapping[str, Any], space: Space) -> None:
    """See that a setting is trained."""
    if setting not in space.settings:
        shown = ", ".join(f"{key} = {value}" for key, value in setting.items())
        raise ValueError(f"no trial has {shown}: {PLACES}")
