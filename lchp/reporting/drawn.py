"""A photograph with the box that was found on it, as a JPEG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from lchp.data.files import DRAWN, replacing
from lchp.data.records import PixelBox
from lchp.reporting.predictions import COLOURS

_SHORTEST, _LONGEST = 320, 2048
"""Pixels of the longer side: smaller photographs are drawn larger, larger ones smaller."""
_QUALITY = 90


def draw_box(pixels: npt.NDArray[np.uint8], box: PixelBox, caption: str, method: str, out: Path) -> None:
    """Draw the box, in pixels, and its caption on an image (height, width, 3) into the file ``out``."""
    picture = Image.fromarray(pixels)
    longer = max(picture.size)
    scale = min(max(longer, _SHORTEST), _LONGEST) / longer
    if scale != 1:
        wide, high = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((wide, high), Image.Resampling.BILINEAR)
    line = max(1, round(min(picture.size) / 120))
    font = ImageFont.load_default(max(10, round(min(picture.size) / 25)))
    pen = ImageDraw.Draw(picture)
    x1, y1, x2, y2 = (scale * corner for corner in box)
    # The last pixel that the box covers; ends are exclusive.
    pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=COLOURS[method], width=line)
    place = x1 + 2 * line, y1 + 2 * line
    around = pen.textbbox(place, caption, font)
    pen.rectangle((around[0] - line, around[1] - line, around[2] + line, around[3] + line), fill=COLOURS[method])
    pen.text(place, caption, "white", font)
    with replacing(out) as part:
        picture.save(part, "JPEG", quality=_QUALITY, comment=DRAWN)
