"""Where pictures of predictions go, and their drawing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lchp.data.files import is_drawn
from lchp.errors import Refusal

if TYPE_CHECKING:
    from lchp.study.use.predict import Prediction


def places(images: Sequence[str], folder: Path) -> dict[str, Path]:
    """The picture of each image, by its path: a .jpg below ``folder``, where it lies below the folder that all images
    have in common; one whose place is taken has a number.

    Raises:
        Refusal: a picture would take the place of an image, or of anything that is no such picture.
    """
    found: dict[str, Path] = {}
    taken: set[str] = set()
    given = {os.path.realpath(image) for image in images}
    whole = {image: Path(image).absolute() for image in images}
    common = os.path.commonpath([path.parent for path in whole.values()])
    for image, path in whole.items():
        named, number = folder / path.relative_to(common).with_suffix(".jpg"), 1
        place = named
        while str(place).lower() in taken:
            number += 1
            place = named.with_name(f"{named.stem}-{number}.jpg")
        taken.add(str(place).lower())
        if os.path.realpath(place) in given:
            raise Refusal(f"--draw {folder}: the picture {place} would take the place of an image: give another folder")
        if place.is_dir():
            raise Refusal(f"--draw {folder}: {place} is a folder, and a picture is to go there: give another folder")
        if place.is_file() and not is_drawn(place):
            raise Refusal(f"--draw {folder}: {place} is there, and lchp did not draw it: give another folder")
        found[image] = place
    return found


def drawing(
    predictions: Iterable[Prediction], pictures: dict[str, Path], turn: bool, method: str
) -> Iterator[Prediction]:
    """The predictions as they are, each drawn when it is passed on."""
    from lchp.reporting.drawn import draw_box
    from lchp.study.use.predict import upright

    for one in predictions:
        pixels, _ = upright(Path(one.image), turn)
        caption = f"{one.name} {one.found.confidence:.2f}"
        draw_box(pixels.permute(1, 2, 0).numpy(), one.found.box, caption, method, pictures[one.image])
        yield one
