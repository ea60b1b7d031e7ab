"""Decoding of every kind of file, the resized cache, and batches that do not depend on who reads them."""

from __future__ import annotations

import errno
import io
import os
import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lchp.data.headers import Header, header
from lchp.data.identities import identity_of, states_of
from lchp.data.loader import ImageSource, decode, resized
from lchp.data.records import ImageRecord, Records

WIDTH, HEIGHT = 60, 40


def picture() -> Image.Image:
    """A smooth colour gradient, so that lossy formats stay close to it."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return Image.fromarray(np.stack([x * 4, y * 6, 255 - x * 2], -1).astype(np.uint8))


def saved(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


def with_alpha(image: Image.Image) -> Image.Image:
    """Half transparent on the left, wholly on the right."""
    image = image.copy()
    image.putalpha(Image.fromarray(np.repeat([[128] * 30 + [0] * 30], HEIGHT, 0).astype(np.uint8)))
    return image


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp", "a.tif", "a.ppm"])
def test_decode_colour_in_every_format_gives_rgb(name: str, tmp_path: Path) -> None:
    image = decode(saved(tmp_path, picture(), name, quality=100))
    assert (image.dtype, image.shape, image.is_contiguous()) == (torch.uint8, (3, HEIGHT, WIDTH), True)
    expected = torch.from_numpy(np.array(picture())).permute(2, 0, 1)
    assert (image.double() - expected).abs().mean() < (1.5 if name in ("a.jpg", "a.webp") else 1e-9)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp", "a.tif", "a.gif"])
def test_decode_grey_gives_three_equal_channels(name: str, tmp_path: Path) -> None:
    grey = Image.fromarray(np.tile(np.arange(WIDTH, dtype=np.uint8) * 4, (HEIGHT, 1)))
    image = decode(saved(tmp_path, grey, name, **({"lossless": True} if name == "a.webp" else {"quality": 100})))
    assert image.shape == (3, HEIGHT, WIDTH)
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])
    assert (image[0].double() - torch.arange(WIDTH) * 4).abs().max() <= 2


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.bmp", "a.tif"])
def test_decode_palette_gives_its_colours(name: str, tmp_path: Path) -> None:
    blocks = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    blocks[:, :20], blocks[:, 20:40], blocks[:, 40:] = (200, 10, 20), (10, 220, 30), (15, 25, 240)
    palette = Image.fromarray(blocks).quantize(4)
    assert palette.mode == "P"
    image = decode(saved(tmp_path, palette, name))
    assert torch.equal(image, torch.from_numpy(blocks).permute(2, 0, 1))


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_decode_cmyk_gives_the_colours_it_stands_for(name: str, tmp_path: Path) -> None:
    cmyk = picture().convert("CMYK")
    image = decode(saved(tmp_path, cmyk, name, quality=100))
    # Red is (1 - C)(1 - K), and so on: from the definition, not from a decoder.
    c, m, y, k = np.moveaxis(np.array(cmyk).astype(float) / 255, -1, 0)
    expected = torch.from_numpy(np.stack([(1 - ink) * (1 - k) * 255 for ink in (c, m, y)]))
    assert (image.double() - expected).abs().mean() < 2


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_decode_alpha_is_dropped(name: str, tmp_path: Path) -> None:
    options = {"lossless": True, "exact": True} if name == "a.webp" else {}
    image = decode(saved(tmp_path, with_alpha(picture()), name, **options))
    assert torch.equal(image, torch.from_numpy(np.array(picture())).permute(2, 0, 1))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_decode_sixteen_bits_keeps_the_upper_eight(name: str, tmp_path: Path) -> None:
    values = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 27).astype(np.uint16)
    image = decode(saved(tmp_path, Image.fromarray(values), name))
    assert torch.equal(image, torch.from_numpy((values >> 8).astype(np.uint8)).expand(3, -1, -1))


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_decode_animation_gives_its_first_frame(name: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    file = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
    image = decode(file).double()
    assert image.shape == (3, HEIGHT, WIDTH)
    assert image[0].mean() > 240
    assert image[1].mean() < 10


def test_decode_and_size_ignore_the_orientation_tag(tmp_path: Path) -> None:
    tag = Image.Exif()
    tag[0x0112] = 6
    file = saved(tmp_path, picture(), "a.jpg", exif=tag)
    assert header(file) == Header(WIDTH, HEIGHT, 6)
    assert decode(file).shape == (3, HEIGHT, WIDTH)


def test_decode_follows_the_content_and_not_the_name(tmp_path: Path) -> None:
    """One ImageNet image is a PNG named .JPEG."""
    saved(tmp_path, picture(), "a.png").rename(tmp_path / "a.JPEG")
    assert torch.equal(decode(tmp_path / "a.JPEG"), torch.from_numpy(np.array(picture())).permute(2, 0, 1))


def noisy() -> Image.Image:
    """A picture whose file holds its pixels nearly to the end."""
    noise = np.random.default_rng(0).integers(-30, 30, (HEIGHT, WIDTH, 3))
    return Image.fromarray(np.clip(np.array(picture()) + noise, 0, 255).astype(np.uint8))


CUTS = {"a tenth": 0.1, "half": 0.5, "all but a hundredth": 0.99, "all but the last byte": 1.0}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {}),
        ("a.jpg", {"progressive": True}),
        ("a.png", {}),
        ("a.webp", {}),
        ("a.webp", {"lossless": True}),
        ("a.gif", {}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("a.ppm", {}),
    ],
)
def test_decode_cut_file_is_refused_by_name(name: str, options: dict[str, bool], cut: str, tmp_path: Path) -> None:
    file = saved(tmp_path, noisy(), name, **options)
    data = file.read_bytes()
    file.write_bytes(data[: min(int(len(data) * CUTS[cut]), len(data) - 1)])
    with pytest.raises(ValueError, match=rf"{name}: the image does not decode \(.*\): replace or remove it"):
        decode(file)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}])
def test_decode_jpeg_that_ends_in_zeros_is_refused(options: dict[str, bool], tmp_path: Path) -> None:
    """Zeros are codes, too: Pillow takes some of these files for whole pictures, with a grey rest."""
    data = saved(tmp_path, noisy(), "a.jpg", **options).read_bytes()
    file = tmp_path / "b.jpg"
    for zeros in (*range(1, 60), *range(60, len(data) - 60, 23)):
        file.write_bytes(data[:-zeros] + bytes(zeros))
        with pytest.raises(ValueError, match=r"b\.jpg: the image does not decode"):
            decode(file)


@pytest.mark.parametrize(
    ("kept", "fault"),
    [(-20, "its chunk IDAT is wrong|is cut"), (-2, "IEND is wrong"), (0.5, "its chunk IDAT is wrong")],
)
def test_decode_png_that_ends_in_zeros_is_refused(kept: float, fault: str, tmp_path: Path) -> None:
    """torchvision's decoder ends the process at such a file."""
    file = saved(tmp_path, noisy(), "a.png")
    data = file.read_bytes()
    start = data[: int(len(data) * kept)] if kept > 0 else data[: int(kept)]
    file.write_bytes(start + bytes(len(data) - len(start)))
    with pytest.raises(ValueError, match=rf"a\.png: the image does not decode \(.*({fault})\): replace or remove it"):
        decode(file)


def png(depth: int, colours: int, pixels: bytes, more: bytes = b"") -> bytes:
    """A PNG of 4 x 4 pixels from its uncompressed rows without filter bytes; ``more`` are chunks before the pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = len(pixels) // 4
    rows = b"".join(b"\0" + pixels[row * y : row * (y + 1)] for y in range(4))
    head = struct.pack(">IIBBBBB", 4, 4, depth, colours, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def test_decode_png_with_a_broken_stream_and_right_checksums_is_refused(tmp_path: Path) -> None:
    whole = png(8, 2, bytes(range(48)))
    place = whole.index(b"IDAT")
    length = int.from_bytes(whole[place - 4 : place])
    broken = bytearray(whole[place : place + 4 + length])
    broken[8] ^= 0xFF
    checksum = struct.pack(">I", zlib.crc32(broken))
    (tmp_path / "a.png").write_bytes(whole[:place] + broken + checksum + whole[place + 8 + length :])
    with pytest.raises(ValueError, match=r"a\.png: the image does not decode"):
        decode(tmp_path / "a.png")


def test_decode_png_of_sixteen_bit_colours_keeps_the_upper_eight(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (4, 4, 3), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png(16, 2, values.astype(">u2").tobytes()))
    assert torch.equal(decode(tmp_path / "a.png"), torch.from_numpy((values >> 8).astype(np.uint8)).permute(2, 0, 1))


def test_decode_jpeg_with_something_behind_its_end_is_the_picture(tmp_path: Path) -> None:
    file = saved(tmp_path, noisy(), "a.jpg")
    whole = decode(file)
    file.write_bytes(file.read_bytes() + b"a camera's own notes")
    assert torch.equal(decode(file), whole)


@pytest.mark.parametrize("content", [b"", b"no image at all"])
def test_decode_no_image_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.jpg: the image does not decode"):
        decode(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg: this is no image that is known"):
        header(tmp_path / "a.jpg")


def test_decode_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.jpg: the image cannot be read .*put it back"):
        decode(tmp_path / "a.jpg")


def test_resized_halving_a_smooth_image_agrees_with_pillow() -> None:
    """The aspect is not kept; bilinear with antialiasing means a triangle of the scale's width, as in Pillow."""
    image = torch.from_numpy(np.array(picture())).permute(2, 0, 1)
    expected = np.array(picture().resize((20, 20), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    small = resized(image, 20)
    assert (small.dtype, small.shape) == (torch.uint8, (3, 20, 20))
    assert (small.double() - torch.from_numpy(expected.astype(float))).abs().max() <= 1


def drawn_source(folder: Path, count: int = 11) -> tuple[Path, Records]:
    random = np.random.default_rng(0)
    records = []
    for number in range(count):
        pixels = random.integers(0, 256, (20 + number, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        records.append(ImageRecord(f"{number}.png", number % 3))
    return folder, Records.of(records)


def opened(root: Path, records: Records, size: int, cache: Path, budget: int) -> ImageSource:
    """A source whose images are decoded where they are cached."""
    source = ImageSource(root, records, size, cache, budget, identity_of(records, states_of(root, records)))
    source.open()
    return source


def test_source_cache_and_decoding_on_the_fly_give_the_same_bits(tmp_path: Path) -> None:
    root, records = drawn_source(tmp_path)
    cached = opened(root, records, 16, tmp_path / "cache", 11 * 3 * 16 * 16)
    fly = opened(root, records, 16, tmp_path / "other", 11 * 3 * 16 * 16 - 1)
    assert len(cached) == len(fly) == 11
    assert len(list((tmp_path / "cache/resized").glob("*.u8"))) == 1
    assert not (tmp_path / "other").exists()
    order = torch.tensor([7, 0, 10, 7])
    assert torch.equal(cached.batch(order), fly.batch(order))
    assert torch.equal(fly.batch(torch.tensor([4]))[0], resized(decode(root / "4.png"), 16))
    assert cached.labels.tolist() == [number % 3 for number in range(11)]


@pytest.mark.parametrize("budget", [0, 10**9])
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_do_not_depend_on_workers(budget: int, workers: int, drop_last: bool, tmp_path: Path) -> None:
    source = opened(*drawn_source(tmp_path), 16, tmp_path / "cache", budget)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    found = list(source.batches(order, 4, drop_last, workers))
    assert [len(indices) for _, _, indices in found] == ([4, 4] if drop_last else [4, 4, 3])
    assert torch.equal(torch.cat([indices for _, _, indices in found]), order[: 8 if drop_last else 11])
    for images, labels, indices in found:
        assert torch.equal(labels, indices % 3)
        assert torch.equal(images, source.batch(indices))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_batches_of_an_evaluation_are_those_of_training(budget: int, workers: int, tmp_path: Path) -> None:
    source = opened(*drawn_source(tmp_path), 16, tmp_path / "cache", budget)
    trained = torch.cat([images for images, _, _ in source.batches(torch.arange(11), 4, False, workers)])
    with torch.inference_mode():
        measured = torch.cat([images for images, _, _ in source.batches(torch.arange(11), 4, False, workers)])
    assert torch.equal(measured, trained)


@pytest.mark.parametrize("budget", [0, 10**9])
def test_images_of_one_batch_are_read_by_several_threads(
    budget: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the first batch of an epoch, which nothing is done before, is there soon."""
    source = opened(*drawn_source(tmp_path), 16, tmp_path / "cache", budget)
    together, read = threading.Barrier(3), ImageSource._read

    def reading(self: ImageSource, place: torch.Tensor, index: int) -> None:
        together.wait(timeout=30)
        read(self, place, index)

    monkeypatch.setattr(ImageSource, "_read", reading)
    (found,) = source.batches(torch.arange(3), 3, False, 3)
    monkeypatch.undo()
    assert torch.equal(found[0], source.batch(torch.arange(3)))


def test_no_more_is_read_ahead_than_threads_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, begun = opened(*drawn_source(tmp_path), 16, tmp_path / "cache", 0), []
    monkeypatch.setattr(ImageSource, "_read", lambda self, place, index: begun.append(index))
    batches = source.batches(torch.arange(11), 1, False, 1)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    # Two batches, and four images of the one thread.
    assert begun == list(range(len(begun)))
    assert len(begun) <= 6


def test_nothing_more_is_read_once_an_image_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, begun = opened(*drawn_source(tmp_path), 16, tmp_path / "cache", 0), []

    def reading(self: ImageSource, place: torch.Tensor, index: int) -> None:
        begun.append(index)
        time.sleep(0.2 if index else 0)
        raise ValueError(f"{index}.png: broken")

    monkeypatch.setattr(ImageSource, "_read", reading)
    with pytest.raises(ValueError, match=r"^0\.png: broken"):
        list(source.batches(torch.arange(11), 11, False, 1))
    assert len(begun) < 11


def test_batches_of_nothing_are_none(tmp_path: Path) -> None:
    source = opened(*drawn_source(tmp_path), 16, tmp_path / "cache", 10**9)
    assert list(source.batches(torch.tensor([], dtype=torch.int64), 4, False, 0)) == []
    assert list(source.batches(torch.arange(3), 4, True, 2)) == []


def test_batches_abandoned_half_way_leave_no_thread(tmp_path: Path) -> None:
    source = opened(*drawn_source(tmp_path), 16, tmp_path / "cache", 0)
    batches = source.batches(torch.arange(11), 1, False, 2)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]


def test_batches_are_copies_that_may_be_written_to(tmp_path: Path) -> None:
    source = opened(*drawn_source(tmp_path), 16, tmp_path / "cache", 10**9)
    before = source.batch(torch.arange(2)).clone()
    source.batch(torch.arange(2)).zero_()
    assert torch.equal(source.batch(torch.arange(2)), before)


def test_source_cache_is_built_once_and_again_where_an_image_changes(tmp_path: Path) -> None:
    root, records = drawn_source(tmp_path)
    first = opened(root, records, 16, tmp_path / "cache", 10**9).batch(torch.arange(11))
    (file,) = (tmp_path / "cache/resized").glob("*.u8")
    built = file.stat().st_mtime_ns
    opened(root, records, 16, tmp_path / "cache", 10**9)
    assert file.stat().st_mtime_ns == built
    Image.new("RGB", (30, 20), (9, 8, 7)).save(root / "3.png")
    second = opened(root, records, 16, tmp_path / "cache", 10**9).batch(torch.arange(11))
    assert second[3].flatten(1).unique(dim=1).flatten().tolist() == [9, 8, 7]
    assert torch.equal(first[:3], second[:3])


@pytest.mark.parametrize("budget", [0, 10**9])
def test_source_image_that_does_not_decode_is_named(budget: int, tmp_path: Path) -> None:
    root, records = drawn_source(tmp_path)
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG")
    (root / "5.png").write_bytes(buffer.getvalue()[:200])
    with pytest.raises(ValueError, match=r"5\.png: the image does not decode"):
        list(opened(root, records, 16, tmp_path / "cache", budget).batches(torch.arange(11), 4, False, 2))
    assert not list((tmp_path / "cache").rglob("*.u8"))


def test_source_missing_image_is_named(tmp_path: Path) -> None:
    root, records = drawn_source(tmp_path)
    (root / "5.png").unlink()
    with pytest.raises(ValueError, match=r"5\.png: the image cannot be read .*put it back"):
        opened(root, records, 16, tmp_path / "cache", 10**9)


@pytest.mark.parametrize("length", [0, 1000, 11 * 3 * 16 * 16 + 1])
def test_source_cache_of_another_length_is_made_again_and_said(
    length: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, records = drawn_source(tmp_path)
    expected = opened(root, records, 16, tmp_path / "cache", 10**9).batch(torch.arange(11))
    (file,) = (tmp_path / "cache/resized").glob("*.u8")
    file.write_bytes((file.read_bytes() + b"\0")[:length])
    assert torch.equal(opened(root, records, 16, tmp_path / "cache", 10**9).batch(torch.arange(11)), expected)
    assert f"{file} is damaged ({length:,} bytes of 8,448): it is made again" in capsys.readouterr().err


def test_source_cache_on_a_full_disk_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match=r"the disk of the cache folder .*resized is full: make room"):
        opened(*drawn_source(tmp_path), 16, tmp_path / "cache", 10**9)
    assert [file.suffix for file in (tmp_path / "cache/resized").iterdir()] == [".lock"]


def test_source_image_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    root, records = drawn_source(tmp_path)
    identity = identity_of(records, states_of(root, records))
    source = ImageSource(root, records, 16, tmp_path / "cache", 10**9, identity)
    Image.new("RGB", (30, 20), (9, 8, 7)).save(root / "3.png")
    with pytest.raises(ValueError, match="an image changed while the images were read: start again"):
        source.open()
    assert not list((tmp_path / "cache").rglob("*.u8"))


def test_source_opens_nothing_before_its_images_are_asked_for(tmp_path: Path) -> None:
    root, records = drawn_source(tmp_path)
    source = ImageSource(root, records, 16, tmp_path / "cache", 10**9, "")
    for record in records:
        (root / record.path).unlink()
    assert (len(source), source.labels.tolist()[:3], (tmp_path / "cache").exists()) == (11, [0, 1, 2], False)
