from __future__ import annotations

import re

import pytest

from lchp.reporting.claims import Best, Compares, Moves, Space
from lchp.reporting.grammar import parse
from lchp.reporting.sides import Side
from lchp.vocabulary import LCHP_I, LCHP_R

ALL = "scale+translation+flip"
SETTINGS = (
    *({"delta": delta, "tau": 0.9, "augmentation": ALL} for delta in (0.5, 0.6, 0.7)),
    *({"delta": 0.7, "tau": tau, "augmentation": ALL} for tau in (0.0, 0.5)),
    *({"delta": 0.7, "tau": 0.9, "augmentation": used} for used in ("none", "scale", "translation", "scale+flip")),
)
SPACE = Space(SETTINGS[2], SETTINGS)


def parts_of(text: str) -> list[tuple[str, Side, Side]]:
    rule = parse(text, SPACE).rule
    assert isinstance(rule, Compares)
    return [(part.at, part.left, part.right) for part in rule.parts]


def test_parse_two_methods_are_compared_at_the_studys_own_values() -> None:
    own = dict(SETTINGS[2])
    assert parts_of("lchp_r > lchp_i") == [("", Side(own, LCHP_R), Side(own, LCHP_I))]
    assert parse("lchp_r > lchp_i in top1_loc", SPACE).metric == "top1_loc"


def test_parse_a_value_against_every_value_leaves_itself_out() -> None:
    parts = parts_of("lchp_r at delta = 0.5 >= lchp_r for every delta")
    assert [at for at, *_ in parts] == ["delta = 0.6", "delta = 0.7"]


def test_parse_for_every_value_and_setting() -> None:
    assert [at for at, *_ in parts_of("lchp_r > lchp_i for every delta")] == [
        f"delta = {one}" for one in (0.5, 0.6, 0.7)
    ]
    assert len(parts_of("lchp_r >= lchp_i for every setting")) == len(SETTINGS)
    (one,) = parts_of("lchp_i > lchp_r for tau = 0")
    assert (one[0], one[1].setting["tau"]) == ("tau = 0.0", 0.0)
    singles = parts_of("lchp_r > lchp_i for every single augmentation")
    assert [left.setting["augmentation"] for _, left, _ in singles] == ["scale", "translation"]


def test_parse_a_value_stands_for_lchp_r_that_has_it() -> None:
    others = parts_of("flip+translation+scale > every other augmentation")
    assert {left.setting["augmentation"] for _, left, _ in others} == {ALL}
    assert [right.setting["augmentation"] for *_, right in others] == ["none", "scale", "translation", "scale+flip"]
    (one,) = parts_of("lchp_r at tau = 0.5 > lchp_i")
    assert (one[1].setting["tau"], one[2].setting["tau"]) == (0.5, 0.9)


def test_parse_series_and_best_are_in_the_order_of_values() -> None:
    rises = parse("selected_gt_known rises with tau", SPACE).rule
    assert isinstance(rises, Moves)
    assert [one["tau"] for one in rises.settings] == [0.0, 0.5, 0.9]
    best = parse("best delta of lchp_r >= best delta of pseudo_label", SPACE).rule
    assert isinstance(best, Best)
    assert (best.relation, best.other) == (">=", "pseudo_label")
    named = parse("best augmentation of lchp_r is scale", SPACE).rule
    assert isinstance(named, Best)
    assert named.value == "scale"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is no claim"),
        ("lchp_r is good", "is no claim"),
        ("lchp_r > lchp_i > pseudo_label", "is no claim"),
        ("lchp_s > lchp_i", "lchp_s: is no method of this study: known are pseudo_label, lchp_i, lchp_r"),
        ("supervised > lchp_r", "supervised: is no method of this study"),
        ("lchp_r > lchp_i in gtknown", "gtknown: is no metric: known are gt_known"),
        ("lchp_r > lchp_i for every gamma", "gamma: is no key that varies: known are delta, tau, augmentation"),
        ("lchp_r > lchp_i for delta = 0.8", "delta = 0.8: is not trained: delta is 0.5, 0.6, 0.7"),
        ("lchp_r > lchp_i for delta", "says no place"),
        ("lchp_r rises with augmentation", "augmentation: scale+translation+flip is no number"),
        ("selected_boxes rises with tau", "known are pseudo_label"),
        ("best backbone of lchp_r is inside", "backbone: is no key that varies"),
        ("best delta of lchp_r in log_area_mean", "has no best"),
        ("0.5 > every other delta", "0.5: is a value of delta and tau: write `lchp_r at delta = 0.5`"),
        ("scale > every single delta", "only augmentations are single"),
        ("lchp_r at tau = 0 > lchp_i for delta = 0.5", "no trial has delta = 0.5, tau = 0.0"),
    ],
)  # fmt: skip
def test_parse_what_is_no_claim_of_the_study_is_told_with_its_remedy(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        parse(text, SPACE)


def test_parse_where_the_own_values_are_not_trained_every_setting_is_meant() -> None:
    settings = tuple({"delta": delta, "tau": tau} for delta in (0.5, 0.7) for tau in (0.0, 0.9))
    space = Space({"delta": 0.4, "tau": 0.6}, settings)
    for text in ("lchp_r > lchp_i", "lchp_r > lchp_i for every delta"):
        rule = parse(text, space).rule
        assert isinstance(rule, Compares)
        assert [part.left.setting for part in rule.parts] == list(settings)
    with pytest.raises(ValueError, match=r"delta: has 0 values where all else is the study's own \(tau = 0.6\)"):
        parse("lchp_r rises with delta", space)
