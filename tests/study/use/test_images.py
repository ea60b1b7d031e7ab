from __future__ import annotations

import os
from pathlib import Path

import pytest

from lchp.errors import Refusal
from lchp.study.use.images import given_images
from lchp.study.use.pictures import places


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: images, what is none, hidden ones, folders in folders and a link that leads back."""
    monkeypatch.chdir(tmp_path)
    for name in ("birds/b.png", "birds/a b.JPG", "birds/x/ä.webp", "birds/.hidden.png", "birds/notes.txt", "-n.png"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    (tmp_path / "birds/x/again").symlink_to(tmp_path / "birds")
    (tmp_path / "birds/itself").symlink_to("itself")
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd[1].png").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def named(*words: str, listed: tuple[str, ...] = ()) -> list[str]:
    return list(given_images(words, listed).images)


def test_given_images_folder_gives_what_is_named_like_an_image_below_it(pictures: Path) -> None:
    assert named("birds") == ["birds/a b.JPG", "birds/b.png", "birds/x/ä.webp"]
    below = [f"birds/x/{name}" for name in ("again/a b.JPG", "again/b.png", "ä.webp")]
    assert named("birds/x") == below


def test_given_images_file_counts_whatever_its_name(pictures: Path) -> None:
    assert named("birds/notes.txt", "-n.png", "odd[1].png") == ["birds/notes.txt", "-n.png", "odd[1].png"]


def test_given_images_pattern_fits_files_of_any_depth(pictures: Path) -> None:
    assert named("birds/*.png") == ["birds/b.png"]
    assert named("birds/**/*.webp") == ["birds/x/ä.webp"]


def test_given_images_list_and_words_are_taken_in_their_order_and_once(pictures: Path) -> None:
    given = given_images(["-n.png", "-", "birds/b.png", "./birds/b.png"], ["birds/b.png", "-n.png"])
    assert list(given.images) == ["-n.png", "birds/b.png"]
    assert given.repeated == 3


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("none.png", "none.png: there is no such file"),
        ("birds/B.png", "'b.png' is: upper and lower case"),
        ("", "'': there is no such file"),
        ("a\0b", "there is no such file"),
        ("x" * 5000, "there is no such file"),
        ("birds/*.gif", "no file fits the pattern"),
        ("empty", "the folder holds no image"),
        ("pipe", "is no plain file"),
        ("/dev/null", "is no plain file"),
    ],
)
def test_given_images_what_is_none_is_refused(pictures: Path, word: str, told: str) -> None:
    with pytest.raises(Refusal, match=r"(?s).*") as refusal:
        given_images([word])
    assert told in str(refusal.value)


def test_given_images_tells_several_faults_at_once_and_none_at_all(pictures: Path) -> None:
    with pytest.raises(Refusal, match=r"^no0\.png: .*\n(.*\n)*and 2 more$"):
        given_images([f"no{number}.png" for number in range(7)])
    with pytest.raises(Refusal, match="no image is named"):
        given_images([])
    with pytest.raises(Refusal, match="birds: is a folder: a list names files"):
        given_images(["-"], ["birds"])


def test_places_of_pictures_follow_the_common_folder_and_are_numbered_where_taken(pictures: Path) -> None:
    found = places(given_images(["birds", "birds/b.png", "-n.png"]).images, Path("out"))
    assert list(map(str, found.values())) == ["out/birds/a b.jpg", "out/birds/b.jpg", "out/birds/x/ä.jpg", "out/-n.jpg"]
    assert list(map(str, places(["birds/b.png"], Path("out")).values())) == ["out/b.jpg"]
    assert list(map(str, places(["a/b.png", "a/B.webp"], Path("out")).values())) == ["out/b.jpg", "out/B-2.jpg"]


def test_places_of_pictures_never_take_that_of_an_image(pictures: Path) -> None:
    (pictures / "birds/b.jpg").write_bytes(b"")
    with pytest.raises(Refusal, match=r"birds/b\.jpg would take the place of an image"):
        places(given_images(["birds"]).images, Path("birds"))
