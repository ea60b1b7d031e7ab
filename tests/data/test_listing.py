"""Lists and folders of the original layouts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lchp.data.listing import alike, is_image, is_litter, lines, named_in, near, scan


@pytest.mark.parametrize("name", ["a.JPEG", "a.jpeg", "a.JPG", "a.jpg", "a.png", "a.PNG", "a.b.Jpg"])
def test_image_endings_count_in_any_case(name: str) -> None:
    assert is_image(name)


@pytest.mark.parametrize(
    "name", ["._a.JPEG", ".DS_Store", ".ipynb_checkpoints", "Thumbs.db", "desktop.ini", "__MACOSX"]
)
def test_litter_of_systems_is_known(name: str) -> None:
    assert is_litter(name)


def test_scan_tells_images_folders_and_others(tmp_path: Path) -> None:
    for name in ("b.JPEG", "a.jpg", "._a.jpg", "notes.txt", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"")
    for name in ("more", "folder.JPEG", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir()
    found = scan(tmp_path)
    assert found.images == ["a.jpg", "b.JPEG"]
    assert found.folders == ["folder.JPEG", "more"]
    assert found.others == ["._a.jpg", ".ipynb_checkpoints", "Thumbs.db", "notes.txt"]


def test_lines_are_numbered_as_in_an_editor_without_mark_ends_and_empty_ones(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("\ufeff1 one\r\n\r\n 2 two \u2028 more\t\n".encode())
    assert lines(tmp_path / "list.txt", "x") == [(1, "1 one"), (3, "2 two \u2028 more")]


def test_lines_that_end_in_carriage_returns_alone_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"1 one\r2 two\r")
    assert lines(tmp_path / "list.txt", "x") == [(1, "1 one"), (2, "2 two")]


def test_lines_of_a_missing_file_or_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"list\.txt is missing: restore it from the archive"):
        lines(tmp_path / "list.txt", "the archive")
    (tmp_path / "list.txt").mkdir()
    with pytest.raises(ValueError, match=r"list\.txt is a folder: restore it from the archive"):
        lines(tmp_path / "list.txt", "the archive")
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(ValueError, match=r"pipe\.txt is no plain file: restore it from the archive"):
        lines(tmp_path / "pipe.txt", "the archive")


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("images/1/a.jpg", "lines 1 and 4"),
        ("images/2/a.jpg", "line 2"),
        ("2/a b.jpg", "line 3"),
        ("c.jpg", "list.txt"),
        ("xc.jpg blackbird", "line 5"),
    ],
)
def test_named_in_gives_the_lines_of_the_longest_end(name: str, where: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("1 1/a.jpg\n2 2/a.jpg\n3 2/a b.jpg\n4 1/a.jpg\n5 xc.jpg\n")
    assert named_in(tmp_path / "list.txt", name).endswith(where)


def test_near_says_why_a_file_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/A.JPG").write_bytes(b"")
    assert near(tmp_path / "in") == " (a folder of that name is there)"
    (tmp_path / "in/Mo\u0308we.png").write_bytes(b"")
    (tmp_path / "in/gone.png").symlink_to("nowhere")
    why = "upper and lower case, or the way of writing accents, differ"
    assert near(tmp_path / "in/a.jpg") == f" ('A.JPG' is: {why})"
    assert near(tmp_path / "in/M\u00f6we.png") == f" ('Mo\u0308we.png' is: {why})"
    assert near(tmp_path / "in/A.JPEG") == " ('A.JPG' is: the ending differs)"
    assert near(tmp_path / "in/gone.png") == " (what is there is a broken link, or no plain file)"
    assert near(tmp_path / "in" / ("x" * 5000)) == ""
    assert near(tmp_path / "in\\A.JPG") == " (write / for \\)"
    assert near(tmp_path / "in/b.jpg") == near(tmp_path / "out/b.jpg") == ""


def test_alike_classes_are_told_so_that_they_look_different() -> None:
    assert alike(["owl", "wren", "Owl"]) == [
        "classes that differ in case, spaces or the way of writing accents alone: 'owl', 'Owl'"
    ]
    (line,) = alike(["caf\u00e9", "cafe\u0301"])
    assert line.endswith(r": 'caf\xe9', 'cafe\u0301'")
    assert alike(["owl", "wren"]) == []
