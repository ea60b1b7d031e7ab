"""Sizes and orientations from headers, and boxes turned back, against Pillow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from lchp.data.headers import Header, header
from lchp.data.loader import decode

STORED = (3, 4, 11, 9)


def save(file: Path, orientation: int, size: tuple[int, int] = (30, 20)) -> Path:
    """An image that is white inside the box STORED of its stored pixels."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    x1, y1, x2, y2 = STORED
    pixels[y1:y2, x1:x2] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(file, exif=exif)
    return file


def white(image: Image.Image) -> tuple[int, int, int, int]:
    ys, xs = np.nonzero(np.asarray(image.convert("L")) > 127)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_header_box_on_the_turned_picture_is_found_in_the_stored_pixels(orientation: int, tmp_path: Path) -> None:
    file = save(tmp_path / "a.png", orientation)
    with Image.open(file) as image:
        turned = white(ImageOps.exif_transpose(image))
    found = header(file)
    assert found == Header(30, 20, orientation)
    assert found.stored(turned) == STORED


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_header_agrees_with_what_is_decoded(ending: str, tmp_path: Path) -> None:
    """Pillow turns a TIFF when it decodes it: nothing is left to turn."""
    file = save(tmp_path / f"a.{ending}", 6)
    found = header(file)
    assert tuple(decode(file).shape) == (3, found.height, found.width)
    assert found.orientation == (1 if ending == "tif" else 6)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_header_unknown_orientation_turns_nothing(orientation: int, tmp_path: Path) -> None:
    assert header(save(tmp_path / "a.jpg", orientation)).orientation == 1


def test_header_without_exif_is_as_stored(tmp_path: Path) -> None:
    Image.new("L", (7, 5)).save(tmp_path / "a.bmp")
    assert header(tmp_path / "a.bmp") == Header(7, 5, 1)


@pytest.mark.parametrize("data", [b"", b"nothing"])
def test_header_of_no_image_is_refused_by_name(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.jpg: this is no image that is known: replace"):
        header(tmp_path / "a.jpg")


def test_header_in_somebodys_program_leaves_warnings_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    Image.new("1", (10_000, 9_001)).save(file)
    code = f"from lchp.data.headers import header; print(header({str(file)!r}).height)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "9001\n")
    assert "DecompressionBombWarning" in done.stderr
