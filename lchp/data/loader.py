"""Images as uint8 tensors: decoded, resized once to a square, and kept in a cache file where that fits a budget.

Decoding follows the file's content, not its name. Grey, palette and CMYK images become RGB, alpha is dropped, of an
animation the first frame is taken, 16-bit values keep their upper 8 bits. EXIF orientation is ignored everywhere: true
boxes are given for the stored pixels. Resizing is bilinear with antialiasing and does not keep the aspect (paper 4.3).
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torchvision.io
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from lchp.data.once import build_once
from lchp.data.progress import progress
from lchp.data.records import ImageRecord

BUILD_THREADS = 4
"""Threads that fill a cache file: decoding releases the interpreter lock, more of them wait for the disk."""


class ImageSource:
    """The images of ``records`` at one size, by their place in ``records``: uint8 RGB, shape (3, size, size).

    They lie in one memory-mapped file ``cache/resized/<key>.u8``, built on first use, if that takes at most
    ``budget_bytes``; else every image is decoded when it is asked for. Both give the same bits. The key holds the
    size and every file's path, length and times, so that a changed image is read again.
    """

    def __init__(self, root: Path, records: Sequence[ImageRecord], size: int, cache: Path, budget_bytes: int) -> None:
        self.root = root
        self.records = tuple(records)
        self.size = size
        self.labels = torch.tensor([record.label for record in self.records], dtype=torch.int64)
        self._pixels: npt.NDArray[np.uint8] | None = None
        if 0 < len(self) * 3 * size * size <= budget_bytes:
            file = build_once(cache / "resized" / f"{self._key()}.u8", self._build)
            self._pixels = np.memmap(file, np.uint8, "r", shape=(len(self), 3, size, size))

    def __len__(self) -> int:
        return len(self.records)

    def batch(self, indices: Tensor) -> Tensor:
        """The images at ``indices`` (b,), int64: uint8 (b, 3, size, size). ValueError names an unreadable one."""
        if self._pixels is not None:
            return torch.from_numpy(np.asarray(self._pixels[indices.numpy()]))
        images = torch.empty(len(indices), 3, self.size, self.size, dtype=torch.uint8)
        for image, index in zip(images, indices.tolist(), strict=True):
            image.copy_(self._decoded(index))
        return images

    def batches(
        self, order: Tensor, batch_size: int, drop_last: bool, workers: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Images (b, 3, size, size), labels (b,) and indices (b,) of ``order`` (n,), ``batch_size`` at a time.

        ``workers`` threads read ahead, two batches each (0: none); the batches and their order do not depend on them.
        """
        parts = [
            part for part in torch.split(order, batch_size) if len(part) == batch_size or (len(part) and not drop_last)
        ]
        if workers == 0:
            for part in parts:
                yield self.batch(part), self.labels[part], part
            return
        with ThreadPoolExecutor(workers, thread_name_prefix="images") as pool:
            ahead: deque[Future[Tensor]] = deque()
            remaining = iter(parts)
            try:
                for part in parts:
                    while len(ahead) < 2 * workers and (following := next(remaining, None)) is not None:
                        ahead.append(pool.submit(self.batch, following))
                    yield ahead.popleft().result(), self.labels[part], part
            finally:
                for future in ahead:
                    future.cancel()

    def _decoded(self, index: int) -> Tensor:
        return resized(decode(self.root / self.records[index].path), self.size)

    def _build(self, part: Path) -> None:
        pixels = np.memmap(part, np.uint8, "w+", shape=(len(self), 3, self.size, self.size))
        with ThreadPoolExecutor(BUILD_THREADS) as pool:
            # Chunks bound what is decoded ahead of the copy: a pool takes everything it is given at once.
            for start in progress(range(0, len(self), 64), f"resizing {len(self)} images", None, "64 images"):
                chunk = range(start, min(start + 64, len(self)))
                for index, image in zip(chunk, pool.map(self._decoded, chunk), strict=True):
                    pixels[index] = image.numpy()
        pixels.flush()

    def _key(self) -> str:
        key = hashlib.sha256(f"{self.root.resolve()}\n{self.size}\n".encode())
        for record in self.records:
            key.update(f"{record.path}\0{file_identity(self.root / record.path)}\n".encode())
        return key.hexdigest()[:32]


def file_identity(file: Path) -> str:
    """Length and times of a file, which tell without reading it whether it may have changed. ValueError if missing."""
    try:
        stat = os.stat(file)  # noqa: PTH116 - called a million times, and Path.stat takes twice as long
    except OSError as error:
        raise ValueError(
            f"{file}: the image cannot be read ({error.strerror}): put it back or remove it from the dataset"
        ) from error
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def decode(file: Path) -> Tensor:
    """The image in ``file`` as RGB, uint8 (3, h, w). Raises ValueError naming a file that does not decode."""
    try:
        data = np.fromfile(file, np.uint8)
    except OSError as error:
        raise ValueError(
            f"{file}: the image cannot be read ({error.strerror}): put it back or remove it from the dataset"
        ) from error
    try:
        return _with_torchvision(torch.from_numpy(data))
    except RuntimeError as error:
        reason = str(error)
    try:
        return _with_pillow(file)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file}: the image does not decode ({error}; {reason}): replace or remove it") from error


def resized(image: Tensor, size: int) -> Tensor:
    """``image`` (3, h, w) uint8 as (3, size, size) uint8: bilinear with antialiasing, aspect not kept."""
    if image.shape[1:] == (size, size):
        return image
    return interpolate(image[None], (size, size), mode="bilinear", antialias=True)[0]


def image_size(file: Path) -> tuple[int, int]:
    """(width, height) in pixels from the header of an image, orientation tag ignored. ValueError if it has none."""
    try:
        with Image.open(file) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file}: the image's header cannot be read ({error}): replace or remove it") from error


def _with_torchvision(data: Tensor) -> Tensor:
    """JPEG, PNG, GIF and WebP. RuntimeError for anything else."""
    # The operator behind torchvision.io.decode_image, which since 0.29 warns at every call that it will move one day.
    image: Tensor = torch.ops.image.decode_image(data, torchvision.io.ImageReadMode.RGB.value, False)
    if image.ndim == 4:
        image = image[0]
    if image.dtype == torch.uint16:
        image = (image.to(torch.int32) >> 8).to(torch.uint8)
    return image.contiguous()


def _with_pillow(file: Path) -> Tensor:
    """What torchvision does not know: BMP, TIFF, animated WebP and others."""
    with Image.open(file) as image:
        if image.mode.startswith("I;16"):
            values = (np.asarray(image) >> 8).astype(np.uint8)
            return torch.from_numpy(values).expand(3, -1, -1).contiguous()
        if image.mode in ("I", "F"):
            raise ValueError(f"mode {image.mode} has no defined range: save it with 8 bits a channel")
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()
