"""Values of a million images in columns instead of an object each: texts one after another, and files of arrays that
are mapped into memory, so that all processes share them and none reads what it does not ask for.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from lchp.data.files import replacing

Ints = npt.NDArray[np.int64]
Columns = dict[str, npt.NDArray[Any]]

CHUNK = 2**16
"""Texts that are taken out at once."""
_ALIGNED = 64
_READ = 2**22


class Texts(Sequence[str]):
    """Texts without an object for each: their UTF-8 one after another, uint8, and ``ends`` (n + 1,) int64, between
    which each lies.
    """

    def __init__(self, data: npt.NDArray[np.uint8], ends: Ints) -> None:
        self.data, self.ends = data, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """These texts; surrogates, which stand for bytes of file names that are no UTF-8, come back as they were."""
        data, lengths = bytearray(), [0]
        for text in texts:
            encoded = text.encode("utf-8", "surrogateescape")
            data += encoded
            lengths.append(len(encoded))
        return cls(np.frombuffer(bytes(data), np.uint8), np.cumsum(np.array(lengths, np.int64)))

    @classmethod
    def joined(cls, parts: Iterable[Texts]) -> Texts:
        """The texts of several, one after another."""
        held = list(parts)
        lengths = [np.zeros(1, np.int64), *(np.diff(part.ends) for part in held)]
        return cls(np.concatenate([part.data for part in held]), np.cumsum(np.concatenate(lengths)))

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return list(self.at(np.arange(len(self))[place]))
        start, end = self.ends[range(len(self))[place]], self.ends[range(len(self))[place] + 1]
        return _text(self.data[start:end].tobytes())

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), CHUNK):
            ends = self.ends[first : first + CHUNK + 1]
            data = self.data[ends[0] : ends[-1]].tobytes()
            places = (ends - ends[0]).tolist()
            if data.isascii():
                yield from map(data.decode("ascii").__getitem__, map(slice, places, places[1:]))
            else:
                yield from (_text(data[start:end]) for start, end in pairwise(places))

    def at(self, places: npt.NDArray[np.integer[Any]]) -> Iterator[str]:
        """Those at ``places`` (k,), one after another."""
        data = self.data.data
        for first in range(0, len(places), CHUNK):
            part = places[first : first + CHUNK]
            for start, end in zip(self.ends[part].tolist(), self.ends[part + 1].tolist(), strict=True):
                yield _text(bytes(data[start:end]))

    @property
    def is_ascii(self) -> bool:
        """Whether none holds another character."""
        return len(self.data) == 0 or int(self.data.max()) < 128

    def same_as(self, other: Texts) -> bool:
        """Whether these are the texts of ``other``."""
        return np.array_equal(self.ends, other.ends) and np.array_equal(self.data, other.data)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def write_columns(file: Path, about: Mapping[str, Any], columns: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes arrays, and what JSON holds ``about`` them, as one file with a checksum, whole or not at all. OSError."""
    arrays = {name: np.ascontiguousarray(array) for name, array in columns.items()}
    checksum = 0
    for array in arrays.values():
        checksum = zlib.crc32(_bytes(array), checksum)
    layout = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    head = json.dumps({"about": about, "columns": layout, "crc32": checksum}).encode() + b"\n"
    with replacing(file) as part, part.open("wb") as opened:
        opened.write(head)
        for array in arrays.values():
            opened.write(bytes(-opened.tell() % _ALIGNED))
            opened.write(_bytes(array))


def read_columns(file: Path) -> tuple[dict[str, Any], Columns]:
    """What :func:`write_columns` wrote; the arrays are mapped, and cannot be written to.

    Raises:
        ValueError: it is cut or damaged, or no such file.
    """
    with file.open("rb") as opened:
        head = opened.readline(_READ)
        try:
            found = json.loads(head)
            about, layout, expected = found["about"], found["columns"], found["crc32"]
            places, end = _places(layout, len(head))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"its beginning is damaged: {error}") from error
        if opened.seek(0, 2) != end:
            raise ValueError(f"{opened.tell():,} bytes of {end:,}")
        checksum = 0
        for _, _, _, start, length in places:
            opened.seek(start)
            for left in range(length, 0, -_READ):
                checksum = zlib.crc32(opened.read(min(left, _READ)), checksum)
        if checksum != expected:
            raise ValueError("its checksum is wrong")
        # By now another process may have put another file in its place.
        mapped = np.memmap(opened, np.uint8, "r")
    return about, {
        name: np.asarray(mapped[start : start + length]).view(dtype).reshape(shape)
        for name, dtype, shape, start, length in places
    }


Place = tuple[str, np.dtype[Any], list[int], int, int]


def _places(layout: Iterable[tuple[str, str, list[int]]], start: int) -> tuple[list[Place], int]:
    """Name, type, shape, first byte and length of every array of a file whose head has ``start`` bytes; its length."""
    places: list[Place] = []
    for name, kind, shape in layout:
        start += -start % _ALIGNED
        dtype = np.dtype(kind)
        length = math.prod(shape) * dtype.itemsize
        places.append((name, dtype, shape, start, length))
        start += length
    return places, start


def _bytes(array: npt.NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
