"""Digests: what changes them, what does not, and that a changed image is named."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from lchp.data import digest
from lchp.data.config import FilesDataset
from lchp.data.digest import Digest, boxes_digest, changed, dataset_digest, read_image_files
from lchp.data.headers import Header
from lchp.data.reading import open_dataset
from lchp.data.records import Dataset
from tests.data.layouts import draw_cub

FIRST = "images/001.Bird_0/Bird_0_train_0.jpg"


def birds(folder: Path) -> Dataset:
    return open_dataset(FilesDataset(kind="cub", path=folder), folder)


def digest_of(dataset: Dataset, cache: Path) -> Digest:
    return dataset_digest(dataset, image_hashes(dataset, cache))


def image_hashes(dataset: Dataset, cache: Path) -> dict[str, str]:
    return read_image_files(dataset, cache).hashes


def test_digest_changed_image_is_named_even_with_length_and_time_kept(tmp_path: Path) -> None:
    dataset = birds(draw_cub(tmp_path / "set"))
    before = digest_of(dataset, tmp_path)
    image = dataset.root / FIRST
    times = image.stat()
    data = bytearray(image.read_bytes())
    data[-10] ^= 1
    image.write_bytes(data)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = digest_of(dataset, tmp_path)
    assert changed(before.files, after.files) == [f"{FIRST}: changed"]
    assert before.total != after.total


def test_digest_missing_and_new_images_are_named_in_order(tmp_path: Path) -> None:
    before = digest_of(birds(draw_cub(tmp_path / "set", train=4)), tmp_path)
    after = digest_of(birds(draw_cub(tmp_path / "other", train=5, classes=1)), tmp_path)
    lines = changed(before.files, after.files)
    assert "images/001.Bird_0/Bird_0_train_4.jpg: new" in lines
    assert "images/003.Bird_1/Bird_1_test_0.jpg: missing" in lines
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    ("file", "old", "new"), [("image_class_labels.txt", "1 1", "1 3"), ("train_test_split.txt", "1 1", "1 0")]
)
def test_digest_changed_label_or_split_is_named(file: str, old: str, new: str, tmp_path: Path) -> None:
    folder = draw_cub(tmp_path / "set")
    before = digest_of(birds(folder), tmp_path)
    lines = (folder / file).read_text().splitlines()
    (folder / file).write_text("\n".join(new if line == old else line for line in lines) + "\n")
    assert changed(before.files, digest_of(birds(folder), tmp_path).files) == [f"{FIRST}: changed"]


def test_digest_depends_neither_on_place_nor_on_boxes_nor_on_times(tmp_path: Path) -> None:
    folder = draw_cub(tmp_path / "set")
    before = digest_of(birds(folder), tmp_path)
    shutil.copytree(folder, tmp_path / "moved", copy_function=shutil.copyfile)
    (tmp_path / "moved/bounding_boxes.txt").unlink()
    after = digest_of(birds(tmp_path / "moved"), tmp_path / "other cache")
    assert after == before
    assert changed(before.files, after.files) == []


def test_image_hashes_are_those_of_the_bytes(tmp_path: Path) -> None:
    dataset = birds(draw_cub(tmp_path / "set"))
    hashes = image_hashes(dataset, tmp_path)
    assert len(hashes) == 14
    for path, sha256 in hashes.items():
        assert sha256 == hashlib.sha256((dataset.root / path).read_bytes()).hexdigest()


def test_image_hashes_unchanged_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = birds(draw_cub(tmp_path / "set"))
    read: list[str] = []
    monkeypatch.setattr(digest, "_read", lambda file: read.append(file.name) or (f"hash of {file.name}",))
    first = image_hashes(dataset, tmp_path)
    assert len(read) == 14
    assert image_hashes(dataset, tmp_path) == first
    assert len(read) == 14
    (dataset.root / FIRST).write_bytes(b"other")
    image_hashes(dataset, tmp_path)
    assert read[14:] == [Path(FIRST).name]


def test_image_hashes_interrupted_reading_keeps_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = birds(draw_cub(tmp_path / "set"))
    monkeypatch.setattr(digest, "CHUNK", 2)
    monkeypatch.setattr(digest, "CHUNKS_BETWEEN_WRITES", 2)
    read: list[str] = []

    def fail_at_tenth(file: Path) -> tuple[str]:
        read.append(file.name)
        if len(read) >= 10:
            raise OSError("interrupted")
        return (file.name,)

    monkeypatch.setattr(digest, "_read", fail_at_tenth)
    with pytest.raises(OSError, match="interrupted"):
        image_hashes(dataset, tmp_path)
    monkeypatch.setattr(digest, "_read", lambda file: read.append(file.name) or (file.name,))
    read.clear()
    assert image_hashes(dataset, tmp_path) == {path: Path(path).name for path in image_hashes(dataset, tmp_path)}
    assert len(read) == 14 - 8


def test_image_hashes_missing_image_is_named(tmp_path: Path) -> None:
    dataset = birds(draw_cub(tmp_path / "set"))
    (dataset.root / FIRST).unlink()
    with pytest.raises(ValueError, match=r"Bird_0_train_0\.jpg: the image cannot be read .*put it back"):
        image_hashes(dataset, tmp_path)


def test_boxes_digest_depends_on_values_and_not_on_order() -> None:
    one, two = torch.tensor([[0.0, 0, 0.5, 1]]).double(), torch.tensor([[0.1, 0, 0.5, 1]]).double()
    assert boxes_digest({"a": one, "b": two}) == boxes_digest({"b": two, "a": one})
    assert boxes_digest({"a": one, "b": two}) != boxes_digest({"a": two, "b": one})
    assert boxes_digest({"a": one}) != boxes_digest({"a": one + 1e-12})


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
    assert [files.headers[record.path] for record in dataset.test[:3]] == [
        Header(50, 30, 6), Header(9, 7), Header(80, 64),
    ]  # fmt: skip
    monkeypatch.setattr(digest, "_read", lambda file: pytest.fail(f"{file} is read again"))
    assert read_image_files(dataset, tmp_path) == files


def test_image_files_without_a_header_have_a_hash_alone(tmp_path: Path) -> None:
    dataset = birds(draw_cub(tmp_path / "set"))
    (dataset.root / FIRST).write_bytes(b"no image")
    for _ in range(2):
        files = read_image_files(dataset, tmp_path)
        assert files.hashes[FIRST] == hashlib.sha256(b"no image").hexdigest()
        assert FIRST not in files.headers
        assert len(files.headers) == 13


@pytest.mark.parametrize("content", ["", "half", "[1]", '{"version": 2}', '{"images/a.jpg": ["1 2 3", "abc"]}'])
def test_image_files_damaged_or_old_memory_is_made_again(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last is how version 1 remembered, without sizes."""
    dataset = birds(draw_cub(tmp_path / "set"))
    expected = read_image_files(dataset, tmp_path)
    (store,) = (tmp_path / "digests").glob("*.json")
    whole = store.read_text(encoding="utf-8")
    store.write_text(whole[: len(whole) // 2] if content == "half" else content, encoding="utf-8")
    assert read_image_files(dataset, tmp_path) == expected
    assert store.read_text(encoding="utf-8") == whole
    said = capsys.readouterr().err
    if content in ("", "half"):
        assert f"{store} is cut or damaged" in said
        assert "the images are read again" in said
    else:
        assert said == ""


def test_image_files_on_a_full_disk_name_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    dataset = birds(draw_cub(tmp_path / "set"))
    monkeypatch.setattr(digest, "write_text", full)
    with pytest.raises(ValueError, match=r"digests/\w+\.json cannot be written \(No space left .*: make room, or give"):
        read_image_files(dataset, tmp_path)
