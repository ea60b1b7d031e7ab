"""What an image's header says, without decoding it: its size, and how it is to be turned."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from lchp.data.records import PixelBox

Headers = npt.NDArray[np.int32]
"""Width, height and EXIF orientation of every image of a dataset, (n, 3); zeros where there is no header."""


@dataclass(frozen=True, slots=True)
class Header:
    """Width and height in pixels as stored, and the EXIF orientation, 1 (as stored) to 8."""

    width: int
    height: int
    orientation: int = 1

    @property
    def seen(self) -> tuple[int, int]:
        """Width and height in pixels of the picture turned as its EXIF says."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    def stored(self, box: PixelBox) -> PixelBox:
        """A box on the picture turned as its EXIF says, as a box of the stored pixels."""
        x1, y1, x2, y2 = box
        # 5 to 8 exchange the axes; what then counts from the far end of a stored axis is mirrored.
        if self.orientation >= 5:
            x1, y1, x2, y2 = y1, x1, y2, x2
        if self.orientation in (2, 3, 7, 8):
            x1, x2 = self.width - x2, self.width - x1
        if self.orientation in (3, 4, 6, 7):
            y1, y2 = self.height - y2, self.height - y1
        return x1, y1, x2, y2


def header(file: Path, data: bytes | None = None) -> Header:
    """The header of an image, whose bytes are ``data`` where they are read already. ValueError names a file that has
    none.
    """
    try:
        with Image.open(file if data is None else io.BytesIO(data)) as image:
            orientation = _orientation(image)
            width, height = image.size
    except UnidentifiedImageError as error:
        raise ValueError(f"{file}: this is no image that is known: replace or remove it") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file}: the image's header cannot be read ({error}): replace or remove it") from error
    return Header(width, height, orientation)


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return 1  # Pillow gives its size and pixels turned already
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode all of it to look for the tag behind the pixels
    try:
        tag = image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return 1  # a damaged EXIF block turns nothing, and the pixels may be whole
    return tag if isinstance(tag, int) and 1 <= tag <= 8 else 1
