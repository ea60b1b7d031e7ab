"""Images as uint8 tensors: decoded, resized once to a square, and kept in a cache file where that fits a budget.

Decoding follows the file's content, not its name. Grey, palette and CMYK images become RGB, alpha is dropped, of an
animation the first frame is taken, 16-bit values keep their upper 8 bits. EXIF orientation is ignored everywhere: true
boxes are given for the stored pixels. Resizing is bilinear with antialiasing and does not keep the aspect (paper 4.3).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torchvision.io
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from lchp.data.identities import identity_of, states_of, unreadable
from lchp.data.once import build_once
from lchp.data.progress import progress
from lchp.data.records import Records
from lchp.data.resized import ResizedFile

PNG = b"\x89PNG\r\n\x1a\n"

BUILD_THREADS = 4
"""Threads that fill a cache file: decoding releases the interpreter lock, more of them wait for the disk."""


class ImageSource:
    """The images of ``records`` at one size, by their place in ``records``: uint8 RGB, shape (3, size, size).

    They lie in one memory-mapped file ``cache/resized/<key>.u8``, built on first use, if that takes at most
    ``budget_bytes``; else every image is decoded when it is asked for, and one that is broken is found then. Both give
    the same bits. ``identity`` says which files they are (``identity_of``; the key holds it and
    the size), so that a changed image is read again.
    """

    def __init__(self, root: Path, records: Records, size: int, cache: Path, budget_bytes: int, identity: str) -> None:
        self.root = root
        self.records = records
        self.size = size
        self.identity = identity
        self.labels = torch.from_numpy(records.labels.astype(np.int64))
        self.file = ResizedFile(root, len(records), size, cache, budget_bytes, identity)
        self.is_cached = self.file.is_used

    def __len__(self) -> int:
        return len(self.records)

    def open(self) -> None:
        """Maps the cached images, which are decoded now where no cache holds them whole; nothing for others.

        Raises:
            ValueError: an image is missing, does not decode or changed since ``identity`` was taken; the cache cannot
                be written. Names file and remedy.
        """
        if self.is_cached:
            self._pixels  # noqa: B018

    def batch(self, indices: Tensor) -> Tensor:
        """The images at ``indices`` (b,), int64: uint8 (b, 3, size, size). ValueError as :meth:`open`."""
        if self.is_cached:
            return torch.from_numpy(np.asarray(self._pixels[indices.numpy()]))
        images = self._room(len(indices))
        for image, index in zip(images, indices.tolist(), strict=True):
            self._read(image, index)
        return images

    def batches(
        self, order: Tensor, batch_size: int, drop_last: bool, workers: int, page_locked: bool = False
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Images (b, 3, size, size), labels (b,) and indices (b,) of ``order`` (n,), ``batch_size`` at a time.

        ``workers`` threads read ahead, image by image (0: none); the batches and their order do not depend on them.
        ``page_locked`` images lie in memory from which a GPU copies beside its work.
        """
        parts = [
            part for part in torch.split(order, batch_size) if len(part) == batch_size or (len(part) and not drop_last)
        ]
        if workers == 0:
            for part in parts:
                images = self.batch(part)
                yield images.pin_memory() if page_locked else images, self.labels[part], part
            return
        with ThreadPoolExecutor(workers, thread_name_prefix="images") as pool:
            ahead: deque[tuple[Tensor, list[Future[None]]]] = deque()
            remaining = iter(parts)
            try:
                for part in parts:
                    while len(ahead) < _ahead(workers, batch_size) and (following := next(remaining, None)) is not None:
                        images = self._room(len(following), page_locked)
                        read = [pool.submit(self._read, *one) for one in zip(images, following.tolist(), strict=True)]
                        ahead.append((images, read))
                    images, read = ahead.popleft()
                    for one in read:
                        one.result()
                    yield images, self.labels[part], part
            finally:
                # What has not begun is not read any more.
                pool.shutdown(wait=False, cancel_futures=True)

    def _room(self, count: int, page_locked: bool = False) -> Tensor:
        return torch.empty(count, 3, self.size, self.size, dtype=torch.uint8, pin_memory=page_locked)

    def _read(self, place: Tensor, index: int) -> None:
        """Puts the image at ``index`` where it is wanted (3, size, size).

        As an array: a tensor that an evaluation made in inference mode takes nothing from a thread outside of it.
        """
        place.numpy()[:] = self._pixels[index] if self.is_cached else self._decoded(index).numpy()

    def _decoded(self, index: int) -> Tensor:
        return resized(decode(self.root / self.records[index].path), self.size)

    @cached_property
    def _pixels(self) -> npt.NDArray[np.uint8]:
        file = build_once(self.file.path, self._build, self.file.fault)
        return np.memmap(file, np.uint8, "r", shape=self._shape)

    @property
    def _shape(self) -> tuple[int, int, int, int]:
        return len(self), 3, self.size, self.size

    @property
    def nbytes(self) -> int:
        """Bytes of all images."""
        return self.file.nbytes

    def _build(self, part: Path) -> None:
        with part.open("wb") as file:
            # A disk that is full says so here; in the middle of mapped memory it would end the process.
            os.posix_fallocate(file.fileno(), 0, self.nbytes)
        pixels = np.memmap(part, np.uint8, "r+", shape=self._shape)
        with ThreadPoolExecutor(BUILD_THREADS) as pool:
            # Chunks bound what is decoded ahead of the copy: a pool takes everything it is given at once.
            for start in progress(range(0, len(self), 64), f"resizing {len(self)} images", images=64):
                chunk = range(start, min(start + 64, len(self)))
                for index, image in zip(chunk, pool.map(self._decoded, chunk), strict=True):
                    pixels[index] = image.numpy()
        pixels.flush()
        if identity_of(self.records, states_of(self.root, self.records)) != self.identity:
            raise ValueError(f"{self.root}: an image changed while the images were read: start again")


def _ahead(workers: int, batch_size: int) -> int:
    """Batches that are read or wait to be: two, and four images for each thread."""
    return 2 + -(-4 * workers // batch_size)


def decode(file: Path) -> Tensor:
    """The image in ``file`` as RGB, uint8 (3, h, w). Raises ValueError naming a file that is cut or does not decode.

    BMP, TIFF, PPM and WebP hold no checksums: of them a missing end is found, another value of a pixel is not.
    """
    try:
        data = np.fromfile(file, np.uint8)
    except OSError as error:
        raise unreadable(file, error) from error
    try:
        return _decoded(data)
    except (RuntimeError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # torchvision says first where in its sources it stood.
        reason = re.sub(r"^.*\.cpp:\d+, ", "", str(error), flags=re.DOTALL)
        if isinstance(error, UnidentifiedImageError):
            reason = "it is of no known format" if len(data) else "it is empty"
        raise ValueError(f"{file}: the image does not decode ({reason}): replace or remove it") from error


def resized(image: Tensor, size: int) -> Tensor:
    """``image`` (3, h, w) uint8 as (3, size, size) uint8: bilinear with antialiasing, aspect not kept."""
    if image.shape[1:] == (size, size):
        return image
    return interpolate(image[None], (size, size), mode="bilinear", antialias=True)[0]


def _decoded(data: npt.NDArray[np.uint8]) -> Tensor:
    """The image in the bytes ``data``, by the decoder that finds every cut in its format.

    Pillow takes some JPEGs whose end is zeros for whole, and fills them with grey; torchvision's PNG decoder ends the
    process where the compressed stream is broken.
    """
    start = data[:12].tobytes()
    if start.startswith((b"\xff\xd8\xff", b"GIF8")):
        return _with_torchvision(torch.from_numpy(data))
    if start.startswith(PNG):
        _check_png(data.tobytes())
    if start[:4] == b"RIFF":
        with contextlib.suppress(RuntimeError):  # an animated WebP is Pillow's
            return _with_torchvision(torch.from_numpy(data))
    return _with_pillow(io.BytesIO(data.tobytes()))


def _check_png(data: bytes) -> None:
    """Pillow stops reading at the last pixel, before the checksums. ValueError if a chunk it takes them from is cut or
    damaged.
    """
    place, kind = len(PNG), b""
    while kind != b"IEND":
        kind, end = data[place + 4 : place + 8], place + 12 + int.from_bytes(data[place : place + 4])
        if end > len(data):
            raise ValueError("the file is cut")
        # A capital first letter marks the chunks that make the picture: a wrong sum in the others does no harm.
        if kind[:1].isupper() and zlib.crc32(data[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise ValueError(f"the checksum of its chunk {kind.decode('ascii', 'replace')} is wrong")
        place = end


def _with_torchvision(data: Tensor) -> Tensor:
    """JPEG, GIF and WebP. RuntimeError for anything else."""
    # The operator behind torchvision.io.decode_image, which since 0.29 warns at every call that it will move one day.
    image: Tensor = torch.ops.image.decode_image(data, torchvision.io.ImageReadMode.RGB.value, False)
    return (image[0] if image.ndim == 4 else image).contiguous()


def _with_pillow(file: io.BytesIO) -> Tensor:
    """PNG, and what torchvision does not know: BMP, TIFF, animated WebP and others."""
    with Image.open(file) as image:
        if image.mode.startswith("I;16"):
            values = (np.asarray(image) >> 8).astype(np.uint8)
            return torch.from_numpy(values).expand(3, -1, -1).contiguous()
        if image.mode in ("I", "F"):
            raise ValueError(f"mode {image.mode} has no defined range: save it with 8 bits a channel")
        image.info.pop("transparency", None)  # which is dropped anyway; with it Pillow advises against RGB
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()
