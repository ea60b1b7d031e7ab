"""What YAML 1.1 allows and no study means."""

from __future__ import annotations

import pytest

from lchp.errors import Refusal
from lchp.study.spec.parse import parse


def refusal(text: str, option: bool = False) -> str:
    with pytest.raises(Refusal) as caught:
        parse(text, "--set key" if option else "s.yaml", option)
    return str(caught.value)


PLAIN = "write plain values"
MEANT = "write it without leading zeros, colons and underscores, or put text into quotes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n[a, b]: c\n", "s.yaml:2: a list or a mapping is no key: keys are words"),
        ("? {a: b}\n: c\n", "s.yaml:1: a list or a mapping is no key: keys are words"),
        ('a:\n- !!int ""\n', "s.yaml:2: no readable YAML: the tag tag:yaml.org,2002:int is unknown here"),
        ('a: !!float ""\n', PLAIN),
        ("a: !!bool maybe\n", PLAIN),
        ("a: !!null 5\n", PLAIN),
        ("a: !!binary aGVsbG8=\n", PLAIN),
        ("a: !!set {b}\n", PLAIN),
        ("a: !mine b\n", PLAIN),
        ("a: " + "[" * 3000 + "]" * 3000, "s.yaml:1: nested too deeply: 20 levels are read"),
        ("a: " + "[" * 30 + "]" * 30, "s.yaml:1: nested too deeply: 20 levels are read"),
        ("a: 1\nb: \0\n", "s.yaml:2: no readable YAML: it holds the control character 0x00: remove it"),
        (
            "a:\n\tb: 1\n",
            "s.yaml:2: no readable YAML (found character '\\t' that cannot start any token): indent with sp",
        ),
        ("a: 1\n---\nb: 2\n", "s.yaml:2: no readable YAML (but found another document): keep one document"),
        ("a: b: c\n", "s.yaml:1: no readable YAML (mapping values are not allowed here): put text that holds `: `"),
        ("a: 99999999999999999999\n", "s.yaml:1: the number 99999999999999999999 is too large: write at most 922337"),
        ("a: " + "9" * 5000, "is too large: write at most 9223372036854775807"),
        ("a: 0x" + "f" * 5000, "is too large: write at most 9223372036854775807"),
        ("<<: 3\na: 1\n", "s.yaml:1: `<<` merges mappings alone"),
        ("a: &x\n  <<: *x\n", "s.yaml:1: an anchor repeats itself without end"),
        ("a: <<\n", "s.yaml:1: `<<` is no plain value: put text into quotes"),
        ("a: =\n", "s.yaml:1: `=` is no plain value: put text into quotes"),
        ('a: "\\0"\n', "holds what no file can hold: remove it"),
        ('a: "\\ud800"\n', "holds what no file can hold: remove it"),
        ("a: 2026-13-45\n", "there is no date 2026-13-45"),
        ("seeds: [010]\n", f"s.yaml:1: YAML reads the number 010 as 8: {MEANT}"),
        ("seeds: [1:30]\n", f"s.yaml:1: YAML reads the number 1:30 as 90: {MEANT}"),
        ("a: -1:30.5\n", "the number -1:30.5 as -90.5"),
        ("a: 00\n", "the number 00 as 0"),
        ("a: 1_000\n", "the number 1_000 as 1000"),
        ("a: 1_000.5\n", "the number 1_000.5 as 1000.5"),
    ],
)
def test_parse_yaml_that_no_study_means_is_refused_with_line_and_remedy(text: str, message: str) -> None:
    assert message in refusal(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[010]", f"--set key: YAML reads the number 010 as 8: {MEANT}"),
        ("{[a, b]: c}", "--set key: a list or a mapping is no key"),
        ("{", "--set key: the value `{` is no readable YAML ("),
        ("a\tb: \0", "--set key: the value `a\\tb: \\x00` is no readable YAML: it holds the control character"),
    ],
)
def test_parse_option_is_named_without_a_line(text: str, message: str) -> None:
    assert refusal(text, option=True).startswith(message)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-01-31", "2026-01-31"),
        ("2001-12-14t21:59:43.10-05:00", "2001-12-14t21:59:43.10-05:00"),
        ("0o10", "0o10"),
        ("'010'", "010"),
        ("0x1F", 31),
        ("0", 0),
        ("-0.5", -0.5),
        ("12:30 o'clock", "12:30 o'clock"),
        ("!!str 5", "5"),
        ("[1, {a: null}]", [1, {"a": None}]),
    ],
)
def test_parse_plain_value_is_what_is_written(text: str, value: object) -> None:
    parsed = parse(text, "s.yaml")[0]
    assert (parsed, type(parsed)) == (value, type(value))


def test_parse_merged_keys_give_way_to_own_and_earlier_ones() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {z: 3, <<: [*a, *b]}\n"
    assert parse(text, "s.yaml")[0]["c"] == {"x": 1, "y": 1, "z": 3}


def test_parse_merges_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 9))]
    assert "an anchor repeats them without end" in refusal("\n".join(lines))
