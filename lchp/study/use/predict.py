"""The boxes and classes that a model gives for image files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lchp.data.headers import header
from lchp.data.loader import decode
from lchp.data.progress import progress
from lchp.store.localizer import Found, Localizer, Seen

THREADS = 4
"""That decode images: decoding releases the interpreter lock."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of an image file."""

    image: str
    """Its path, as it was named."""
    found: Found
    name: str
    """Of the class; its index where names are not known."""


@dataclass
class Unread:
    """What was left out because it cannot be read: one line each."""

    lines: list[str]
    turned: int = 0
    """How many images were looked at as stored, which their EXIF says to turn."""


def predictions(
    localizer: Localizer, images: Sequence[str], turn: bool, unread: Unread, say: Callable[[str], None]
) -> Iterator[Prediction]:
    """What the model says of the images, in their order, in batches as the trial was measured in.

    Args:
        turn: look at each image turned as its EXIF says, and give its box there; else as it is stored, as in training.
        unread: takes what is wrong with an image that cannot be read, which is said and left out.
    """
    rest: Iterator[tuple[str, Seen]] = _readable(localizer, images, turn, unread, say)
    batch: list[tuple[str, Seen]] = []
    for one in rest:
        batch.append(one)
        if len(batch) == localizer.batch_size:
            yield from _answers(localizer, batch)
            batch = []
    if batch:
        yield from _answers(localizer, batch)


def _answers(localizer: Localizer, batch: Sequence[tuple[str, Seen]]) -> Iterator[Prediction]:
    for (image, _), found in zip(batch, localizer.look([seen for _, seen in batch]), strict=True):
        yield Prediction(image, found, localizer.model.named(found.label))


def _readable(
    localizer: Localizer, images: Sequence[str], turn: bool, unread: Unread, say: Callable[[str], None]
) -> Iterator[tuple[str, Seen]]:
    def read(image: str) -> tuple[Seen, bool]:
        pixels, is_turned = upright(Path(image), turn)
        return localizer.resized(pixels), is_turned

    with ThreadPoolExecutor(THREADS, thread_name_prefix="images") as pool:
        ahead: deque[tuple[str, Future[tuple[Seen, bool]]]] = deque()
        coming = iter(images)
        try:
            for _ in progress(images, f"predicting {len(images)} images"):
                while len(ahead) < 2 * THREADS and (following := next(coming, None)) is not None:
                    ahead.append((following, pool.submit(read, following)))
                image, future = ahead.popleft()
                try:
                    seen, is_turned = future.result()
                except ValueError as error:
                    unread.lines.append(str(error))
                    say(f"left out: {error}")
                    continue
                unread.turned += is_turned and not turn
                yield image, seen
        finally:
            for _, future in ahead:
                future.cancel()


def upright(file: Path, turn: bool) -> tuple[Tensor, bool]:
    """An image, uint8 (3, height, width), turned as its EXIF says where that is asked for, and whether that says so.

    Raises:
        ValueError: it does not decode.
    """
    pixels = decode(file)
    orientation = _orientation(file)
    return (turned(pixels, orientation) if turn else pixels), orientation != 1


def _orientation(file: Path) -> int:
    try:
        return header(file).orientation
    except ValueError:  # a picture that torchvision reads and Pillow does not
        return 1


def turned(pixels: Tensor, orientation: int) -> Tensor:
    """An image (3, height, width) turned as an EXIF orientation, 1 to 8, says."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 2)
    flipped = [2] if orientation in (2, 3, 6, 7) else []
    flipped += [1] if orientation in (3, 4, 7, 8) else []
    return pixels.flip(flipped).contiguous() if flipped else pixels.contiguous()
