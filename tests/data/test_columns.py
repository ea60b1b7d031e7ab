"""Texts and arrays in columns: what comes back is what was put in, and damage is seen."""

from __future__ import annotations

import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest

from lchp.data import columns
from lchp.data.columns import Texts, read_columns, write_columns

TEXTS = ["a/b.png", "", "Möwe 鳥.jpg", "x\udcff.png", "a/b.png"]


@pytest.mark.parametrize("texts", [[], ["a"], TEXTS, TEXTS[:2]])
@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_texts_come_back_one_by_one_and_together(texts: list[str], chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "CHUNK", chunk)
    found = Texts.of(texts)
    assert list(found) == texts
    assert [found[place] for place in range(len(texts))] == texts
    assert list(found.at(np.arange(len(texts))[::-1])) == texts[::-1]
    assert found[1:4] == texts[1:4]
    assert list(pickle.loads(pickle.dumps(found))) == texts
    assert list(Texts.joined([found, Texts.of(["z"]), found])) == [*texts, "z", *texts]
    assert found.is_ascii == all(text.isascii() for text in texts)
    with pytest.raises(IndexError):
        found[len(texts)]


def test_texts_are_the_same_only_where_every_one_is() -> None:
    assert Texts.of(["ab", "c"]).same_as(Texts.of(["ab", "c"]))
    for other in (["a", "bc"], ["ab", "d"], ["ab"], ["ab", "c", ""]):
        assert not Texts.of(["ab", "c"]).same_as(Texts.of(other))


def test_columns_of_a_file_are_mapped_as_they_were_written(tmp_path: Path) -> None:
    arrays = {
        "bytes": np.arange(5, dtype=np.uint8),
        "none": np.empty((0, 4)),
        "wide": np.arange(12, dtype=np.int64).reshape(4, 3)[::2],
    }
    write_columns(tmp_path / "file", {"version": 7}, arrays)
    about, found = read_columns(tmp_path / "file")
    assert about == {"version": 7}
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        assert not found[name].flags.writeable


def test_columns_of_a_file_that_is_replaced_meanwhile_are_those_that_were_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    write_columns(file, {}, {"numbers": np.arange(9)})
    crc32 = zlib.crc32

    def replacing_crc32(data: bytes, checksum: int) -> int:
        (tmp_path / "other").write_bytes(bytes(file.stat().st_size))
        (tmp_path / "other").replace(file)
        return crc32(data, checksum)

    monkeypatch.setattr("lchp.data.columns.zlib.crc32", replacing_crc32)
    np.testing.assert_array_equal(read_columns(file)[1]["numbers"], np.arange(9))


def test_columns_of_a_damaged_file_are_refused_at_every_byte(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_columns(file, {"a": 1}, {"numbers": np.arange(9), "more": np.ones(3, np.float32)})
    whole = file.read_bytes()
    start = whole.index(b"\n")
    for place in range(len(whole)):
        file.write_bytes(whole[:place])
        with pytest.raises(ValueError, match=r"damaged|bytes of"):
            read_columns(file)
    values = [place for place in range(start + 1, len(whole)) if whole[place : place + 1] != b"\0"]
    for place in values:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="checksum is wrong"):
            read_columns(file)
