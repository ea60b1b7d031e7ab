from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from lchp.data.digest import Digest, total_of
from lchp.store.datasets import changed_images, keep_list, list_file, read_list
from lchp.store.folder import StageFolder

FILES = {"b, c.png": "1" * 64, "a.png": "0" * 64}
NOW = {**FILES, "a.png": "2" * 64}


def digest(files: dict[str, str]) -> Digest:
    return Digest(total_of(files), files.items())


@pytest.fixture
def stage(tmp_path: Path) -> StageFolder:
    """As much of a stage's folder as says which images it was trained on."""
    (tmp_path / "dataset.json").write_text(json.dumps({"sha256": total_of(FILES)}), encoding="utf-8")
    return StageFolder(tmp_path)


def test_keep_list_reads_back_and_is_written_once(tmp_path: Path) -> None:
    file = keep_list(tmp_path, digest(FILES))
    assert file == list_file(tmp_path, total_of(FILES))
    assert read_list(file) == FILES
    before = file.stat().st_mtime_ns, file.stat().st_ino
    assert keep_list(tmp_path, digest(FILES)) == file
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == before


@pytest.mark.parametrize("cut", [1, 5, 80, 10_000])
def test_read_list_that_is_cut_is_none_until_it_is_kept_again(tmp_path: Path, cut: int) -> None:
    file = keep_list(tmp_path, digest(FILES))
    file.write_bytes(file.read_bytes()[:-cut])
    assert read_list(file) is None
    assert read_list(keep_list(tmp_path, digest(FILES))) == FILES


def test_read_list_that_is_changed_or_gone_is_none_until_it_is_kept_again(tmp_path: Path) -> None:
    file = keep_list(tmp_path, digest(FILES))
    file.write_text(file.read_text(encoding="utf-8").replace("a.png", "d.png"), encoding="utf-8")
    assert read_list(file) is None
    assert read_list(keep_list(tmp_path, digest(FILES))) == FILES
    file.unlink()
    assert read_list(file) is None


def test_changed_images_are_named_where_the_list_is_there(stage: StageFolder) -> None:
    asked = []

    def listed(total: str) -> Mapping[str, str]:
        asked.append(total)
        return FILES

    assert changed_images(stage, digest(FILES), listed) == []
    assert asked == [], "images that have not changed need no list"
    assert changed_images(stage, digest(NOW), listed) == ["a.png: changed"]
    assert asked == [total_of(FILES)]


def test_changed_images_without_the_list_are_told_without_names(stage: StageFolder) -> None:
    assert changed_images(stage, digest(NOW), lambda _: None) == [
        f"images changed (sha256 {total_of(FILES)} -> {total_of(NOW)}); which is not known: their list is gone"
    ]


def test_changed_images_of_a_stage_that_holds_its_own_list_are_named(stage: StageFolder) -> None:
    (stage.path / "dataset.json").unlink()
    (stage.path / "dataset.csv").write_text("path,sha256\na.png,00\n", encoding="utf-8")
    assert changed_images(stage, digest({"a.png": "00"}), lambda _: None) == []
    assert changed_images(stage, digest({"a.png": "01"}), lambda _: None) == ["a.png: changed"]
