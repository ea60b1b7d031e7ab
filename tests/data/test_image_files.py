"""What is remembered of image files: read once, and read again where a file or the memory of it changed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lchp.data import image_files
from lchp.data.config import FilesDataset
from lchp.data.image_files import ImageFiles, read_image_files
from lchp.data.reading import open_dataset
from lchp.data.records import Dataset
from tests.data.layouts import draw_cub, draw_table

FIRST = "images/001.Bird_0/Bird_0_train_0.jpg"
NONE = 0, 0, 0


def birds(folder: Path) -> Dataset:
    return open_dataset(FilesDataset(kind="cub", path=folder), folder)


def image_hashes(dataset: Dataset, cache: Path) -> dict[str, bytes]:
    found = read_image_files(dataset, cache)
    return {path: row.tobytes() for path, row in zip(found.images.paths, found.hashes, strict=True)}


def same(one: ImageFiles, other: ImageFiles) -> bool:
    columns = ((found.states, found.hashes, found.headers) for found in (one, other))
    return one.digest.total == other.digest.total and all(map(np.array_equal, *columns))


def hash_of(file: Path) -> bytes:
    """Stands for a hash of a file's bytes."""
    return hashlib.sha256(file.name.encode()).digest()


def test_image_hashes_are_those_of_the_bytes(tmp_path: Path) -> None:
    dataset = birds(draw_cub(tmp_path / "set"))
    hashes = image_hashes(dataset, tmp_path)
    assert len(hashes) == 14
    for path, sha256 in hashes.items():
        assert sha256 == hashlib.sha256((dataset.root / path).read_bytes()).digest()


def test_image_hashes_of_a_folder_whose_name_is_no_text_are_remembered(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    dataset = draw_cub(folder) and birds(folder)
    found = image_hashes(dataset, tmp_path / "cache")
    assert found[FIRST] == hashlib.sha256((folder / FIRST).read_bytes()).digest()
    assert len(list((tmp_path / "cache" / "digests").iterdir())) == 1


def test_image_hashes_unchanged_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = birds(draw_cub(tmp_path / "set"))
    read: list[str] = []
    monkeypatch.setattr(image_files, "_read", lambda file: read.append(file.name) or (hash_of(file), NONE))
    first = image_hashes(dataset, tmp_path)
    assert len(read) == 14
    assert image_hashes(dataset, tmp_path) == first
    assert len(read) == 14
    (dataset.root / FIRST).write_bytes(b"other")
    image_hashes(dataset, tmp_path)
    assert read[14:] == [Path(FIRST).name]


def test_image_hashes_interrupted_reading_keeps_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = birds(draw_cub(tmp_path / "set"))
    monkeypatch.setattr(image_files, "CHUNK", 2)
    monkeypatch.setattr(image_files, "CHUNKS_BETWEEN_WRITES", 2)
    read: list[str] = []

    def fail_at_tenth(file: Path) -> tuple[bytes, tuple[int, int, int]]:
        read.append(file.name)
        if len(read) >= 10:
            raise OSError("interrupted")
        return hash_of(file), NONE

    monkeypatch.setattr(image_files, "_read", fail_at_tenth)
    with pytest.raises(OSError, match="interrupted"):
        image_hashes(dataset, tmp_path)
    monkeypatch.setattr(image_files, "_read", lambda file: read.append(file.name) or (hash_of(file), NONE))
    read.clear()
    assert image_hashes(dataset, tmp_path) == {path: hash_of(Path(path)) for path in dataset.images.paths}
    assert len(read) == 14 - 8


def test_image_hashes_missing_image_is_named(tmp_path: Path) -> None:
    dataset = birds(draw_cub(tmp_path / "set"))
    (dataset.root / FIRST).unlink()
    with pytest.raises(ValueError, match=r"Bird_0_train_0\.jpg: the image cannot be read .*put it back"):
        image_hashes(dataset, tmp_path)


def test_image_files_give_sizes_and_orientations_and_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = birds(draw_cub(tmp_path / "set"))
    turned, small = (dataset.root / record.path for record in dataset.test[:2])
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.new("RGB", (50, 30)).save(turned, "JPEG", exif=tag)
    Image.new("RGB", (9, 7)).save(small, "PNG")
    files = read_image_files(dataset, tmp_path)
    assert files.headers[dataset.test.rows[:3]].tolist() == [[50, 30, 6], [9, 7, 1], [80, 64, 1]]
    monkeypatch.setattr(image_files, "_read", lambda file: pytest.fail(f"{file} is read again"))
    assert same(read_image_files(dataset, tmp_path), files)


def test_image_files_without_a_header_have_a_hash_alone(tmp_path: Path) -> None:
    dataset = birds(draw_cub(tmp_path / "set"))
    (dataset.root / FIRST).write_bytes(b"no image")
    for _ in range(2):
        files = read_image_files(dataset, tmp_path)
        row = list(files.images.paths).index(FIRST)
        assert files.hashes[row].tobytes() == hashlib.sha256(b"no image").digest()
        assert files.headers[row].tolist() == [0, 0, 0]
        assert (files.headers[:, 2] == 1).sum() == 13


@pytest.mark.parametrize("cut", [0, 10, 300, -40, "changed", "longer"])
def test_image_files_damaged_memory_is_told_of_and_made_again(
    cut: int | str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = birds(draw_cub(tmp_path / "set"))
    expected = read_image_files(dataset, tmp_path)
    (store,) = (tmp_path / "digests").glob("*.columns")
    whole = store.read_bytes()
    damaged = {"changed": whole[:-1] + bytes([whole[-1] ^ 1]), "longer": whole + b"x"}
    store.write_bytes(damaged[cut] if isinstance(cut, str) else whole[:cut])
    assert same(read_image_files(dataset, tmp_path), expected)
    assert store.read_bytes() == whole
    assert f"{store} is cut or damaged" in (said := capsys.readouterr().err)
    assert "the images are read again" in said


def test_image_files_take_over_what_version_2_remembered_but_nothing_that_changed_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = birds(draw_cub(tmp_path / "set"))
    held = {}
    for path in dataset.images.paths:
        status = (dataset.root / path).stat()
        identity = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        held[path] = [identity, hash_of(Path(path)).hex(), 80, 64, 1]
    held[FIRST][0] = "1 2 3"
    del held[dataset.test[0].path][2:]
    store = tmp_path / "digests" / f"{image_files._name(dataset.root)}.json"
    store.parent.mkdir()
    store.write_text(json.dumps({"version": 2, "images": held}), encoding="utf-8")
    read: list[str] = []
    monkeypatch.setattr(image_files, "_read", lambda file: read.append(file.name) or (bytes(32), (7, 7, 1)))
    found = read_image_files(dataset, tmp_path)
    assert read == [Path(FIRST).name]
    for row, path in enumerate(found.images.paths):
        assert found.hashes[row].tobytes() == (bytes(32) if path == FIRST else hash_of(Path(path)))
    assert found.headers[[0, len(dataset.train)]].tolist() == [[7, 7, 1], [0, 0, 0]]


def test_image_files_of_another_list_of_the_same_source_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = draw_cub(tmp_path / "set")
    before = image_hashes(birds(folder), tmp_path)
    for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt"):
        lines = (folder / name).read_text().splitlines()
        (folder / name).write_text("\n".join(lines[1:]) + "\n")
    monkeypatch.setattr(image_files, "_read", lambda file: pytest.fail(f"{file} is read again"))
    after = image_hashes(birds(folder), tmp_path)
    assert after == {path: sha256 for path, sha256 in before.items() if path in after}
    assert len(after) == len(before) - 1


def test_image_files_on_a_full_disk_name_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    dataset = birds(draw_cub(tmp_path / "set"))
    monkeypatch.setattr(image_files, "write_columns", full)
    with pytest.raises(ValueError, match=r"\.columns cannot be written \(No space left .*: make room, or give"):
        read_image_files(dataset, tmp_path)


def test_image_files_of_the_same_images_in_another_split_have_another_digest(tmp_path: Path) -> None:
    file = draw_table(tmp_path / "set", classes=1, train=3, test=1)
    config = FilesDataset(kind="table", path=file)
    before = read_image_files(open_dataset(config, tmp_path), tmp_path).digest
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(",train,", ",val,", 1), encoding="utf-8")
    after = read_image_files(open_dataset(config, tmp_path), tmp_path).digest
    assert (after.total == before.total, list(after.lines) == list(before.lines)) == (False, False)
    file.write_text(text, encoding="utf-8")
    assert read_image_files(open_dataset(config, tmp_path), tmp_path).digest.total == before.total
