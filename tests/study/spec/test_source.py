from __future__ import annotations

import os
from pathlib import Path

import pytest

from lchp.errors import Refusal
from lchp.study.spec.source import Source, merge, options, read


def written(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_read_asks_for_a_file_beside_it_that_is_called_much_like_it(tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds.yaml").touch()
    for name in ("bird.yaml", "brids", "birds"):
        with pytest.raises(Refusal, match=f"did you mean `{tmp_path}/birds.yaml`"):
            read(tmp_path / name)
    with pytest.raises(Refusal, match=r"lchp study list`$"):
        read(tmp_path / "other.yaml")


def test_read_nested_keys_know_their_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "a: 1\nb:\n  c: [x,\n      y]\n")
    source = read(path)
    assert source.values == {"a": 1, "b": {"c": ["x", "y"]}}
    assert source.place(("b", "c")) == f"{path}:3"
    assert source.place(("b", "c", 1)) == f"{path}:4"
    assert source.place(("b", "missing")) == f"{path}:2"
    assert source.place(("missing",)) == str(path)


@pytest.mark.parametrize(("text", "value"), [("2e-3", 0.002), ("2.0e-3", 0.002), ("-1E+2", -100.0), (".5e1", 5.0)])
def test_read_exponents_are_numbers(tmp_path: Path, text: str, value: float) -> None:
    assert read(written(tmp_path, f"rate: {text}\n")).values == {"rate": value}


@pytest.mark.parametrize("text", ["'2e-3'", "2e-3x", "e3", "1-2e3"])
def test_read_other_text_stays_text(tmp_path: Path, text: str) -> None:
    assert isinstance(read(written(tmp_path, f"rate: {text}\n")).values["rate"], str)


def test_read_anchor_and_merge_key_give_copies(tmp_path: Path) -> None:
    values = read(written(tmp_path, "base: &base {epochs: 1, rate: 2}\nother:\n  <<: *base\n  rate: 3\n")).values
    assert values == {"base": {"epochs": 1, "rate": 2}, "other": {"epochs": 1, "rate": 3}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r":3: the key `a` is written twice"),
        ("a: [1\n", r":2: no readable YAML"),
        ("- 1\n", r":1: holds no keys"),
        ("", r":1: holds no keys"),
        ("a: 1\n1: 2\n", r":2: the key 1 is no text"),
        ("a: &a [*a]\n", r":1: an anchor repeats itself"),
        ("a: !!python/object/apply:os.getcwd []\n", r"no readable YAML"),
        ("a: 2026-13-45\n", r"no readable YAML"),
    ],
)
def test_read_bad_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        read(written(tmp_path, text))


def test_read_many_nested_anchors_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(Refusal, match="without end"):
        read(written(tmp_path, "\n".join(lines)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("name: s\n".encode("utf-16"), r":1: is text in UTF-16: save it in UTF-8"),
        (b"a: 1\nb: \xff\n", r":2: the byte 0xff is no text in UTF-8: save the file in UTF-8, or give the path of"),
        (b"\x89PNG\r\n\x1a\n", r":1: the byte 0x89 is no text in UTF-8"),
        (b"#" * 1_000_001, r": holds 1000001 bytes, a YAML file at most 1000000: give another"),
        (b"", r":1: holds no keys"),
    ],
)
def test_read_file_that_is_no_text_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(data)
    with pytest.raises(Refusal, match=message):
        read(path)


def test_read_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: s\n")
    assert read(path).values == {"name": "s"}


def test_read_folder_device_and_pipe_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, what in ((tmp_path, "a folder"), (Path("/dev/zero"), "no regular file"), (tmp_path / "pipe", "no reg")):
        with pytest.raises(Refusal, match=f"^{path}: is {what}.*: give the path of a YAML file$"):
            read(path)


def test_read_path_that_the_system_refuses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"cannot be read \(File name too long\): give the path of a YAML file"):
        read(tmp_path / ("x" * 5000))


def test_read_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="cannot be read"):
        read(tmp_path / "none.yaml")


def test_options_dotted_keys_nest_and_later_ones_win() -> None:
    source = options(["refinement.rate=2e-3", "refinement.epochs=3", "refinement.epochs=4", "augmentation=[flip]"])
    assert source.values == {"refinement": {"rate": 0.002, "epochs": 4}, "augmentation": ["flip"]}
    assert source.place(("refinement", "epochs")) == "--set refinement.epochs=4"


def test_options_key_of_many_parts_is_refused() -> None:
    with pytest.raises(Refusal, match=r"the key has 3000 parts: no key of a study has more than 20"):
        options([".".join("a" * 3000) + "=1"])


def test_options_long_value_is_shortened_in_its_place() -> None:
    assert options(["question=" + "x" * 5000]).place(("question",)) == "--set question=" + "x" * 68 + "..."


def test_place_of_a_mapping_is_that_of_what_is_in_it() -> None:
    assert options(["a.b=1"]).place(("a",)) == "--set a.b=1"


@pytest.mark.parametrize("option", ["", "=", ".=", "delta", "=3", "a..b=3", "delta=[1", "delta={", "seeds=[010]"])
def test_options_malformed_are_refused_by_name(option: str) -> None:
    with pytest.raises(Refusal, match="--set "):
        options([option])


def test_options_unreadable_value_is_shown_apart_from_the_remedy() -> None:
    with pytest.raises(Refusal, match=r"^--set tau: the value `\[1:1:` is no readable YAML \(.*\): close .* quotes"):
        options(["tau=[1:1:"])


def test_merge_mappings_join_and_other_values_replace() -> None:
    assert merge({"a": {"b": 1, "c": 2}, "d": [1, 2]}, {"a": {"c": 3}, "d": [4]}) == {"a": {"b": 1, "c": 3}, "d": [4]}


def test_merge_dataset_of_another_kind_replaces_the_whole() -> None:
    below = {"dataset": {"kind": "synthetic", "size": 40}}
    assert merge(below, {"dataset": "cub"}) == {"dataset": {"kind": "cub"}}
    assert merge(below, {"dataset": {"seed": 3}}) == {"dataset": {"kind": "synthetic", "size": 40, "seed": 3}}
    assert merge(below, {"dataset": "synthetic"}) == below


def test_over_keeps_the_place_of_the_layer_that_won() -> None:
    below = Source({"a": 1, "b": 2}, {("a",): "low:1", ("b",): "low:2"}, "low")
    above = Source({"b": 3}, {("b",): "high:1"}, "high")
    merged = above.over(below)
    assert (merged.values, merged.place(("a",)), merged.place(("b",))) == ({"a": 1, "b": 3}, "low:1", "high:1")
