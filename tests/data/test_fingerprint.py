from __future__ import annotations

import hashlib
import json
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lchp.data.fingerprint import canonical, differences, fingerprint, flatten

_LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
_KEYS = st.text(alphabet="ab", min_size=1, max_size=2)
_BRANCHES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_KEYS, inner, max_size=2), max_leaves=4
)
_TREES = st.dictionaries(_KEYS, _BRANCHES, max_size=3)


def test_canonical_small_value_has_the_written_text() -> None:
    value = {"b": (1, 2.5), "a": {"path": Path("data") / "x.tar", "on": True, "none": None}, "ü": "é"}
    assert canonical(value) == '{"a":{"none":null,"on":true,"path":"data/x.tar"},"b":[1,2.5],"\\u00fc":"\\u00e9"}'


def test_canonical_floats_are_written_by_repr() -> None:
    assert canonical([0.10, 1e-5, 0.1 + 0.2, 2.0]) == "[0.1,1e-05,0.30000000000000004,2.0]"


def test_canonical_windows_path_becomes_posix() -> None:
    assert canonical(PureWindowsPath("a\\b")) == '"a/b"'


@given(_TREES)
def test_canonical_any_tree_reads_back_and_ignores_order(value: dict[str, object]) -> None:
    assert json.loads(canonical(value)) == value
    assert canonical(dict(reversed(list(value.items())))) == canonical(value)


@pytest.mark.parametrize(
    ("value", "named"),
    [({"a": {"b": float("nan")}}, r"a\.b: nan"), ({"a": [0, {1}]}, r"a\[1\]: set"), ({"a": {3: 1}}, "a: the key 3")],
)
def test_canonical_value_without_form_is_refused_by_name(value: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        canonical(value)


def test_fingerprint_is_the_start_of_the_sha256() -> None:
    assert fingerprint({"delta": 0.10}) == hashlib.sha256(b'{"delta":0.1}').hexdigest()[:16]


def test_fingerprint_number_types_are_kept_apart() -> None:
    assert len({fingerprint({"a": 2}), fingerprint({"a": 2.0}), fingerprint({"a": "2"}), fingerprint({"a": None})}) == 4


def test_flatten_nested_mappings_get_dotted_keys() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": [1, 2]}, "e": {}, "f": None}) == {
        "a.b.c": 1,
        "a.d": [1, 2],
        "e": {},
        "f": None,
    }


def test_differences_changed_and_missing_fields_are_named() -> None:
    old = {"refinement": {"rate": 0.002, "epochs": 4}, "tau": 0.9, "weights": {"classifier": "none"}}
    new = {"refinement": {"rate": 0.001, "epochs": 4}, "seed": 0, "weights": {"classifier": {"file": "a.pth"}}}
    assert differences(old, new) == [
        "refinement.rate: 0.002 -> 0.001",
        "seed: (absent) -> 0",
        "tau: 0.9 -> (absent)",
        'weights.classifier: "none" -> (absent)',
        'weights.classifier.file: (absent) -> "a.pth"',
    ]


@given(_TREES, _TREES)
def test_differences_are_empty_exactly_if_fingerprints_agree(old: dict[str, object], new: dict[str, object]) -> None:
    assert (differences(old, new) == []) == (fingerprint(old) == fingerprint(new))
    assert differences(old, old) == []
