"""CUB-200-2011 in its original layout: images.txt, image_class_labels.txt, classes.txt, train_test_split.txt, images/.

Every text file gives one line per id. Ids are the dataset's own and may have gaps (a subset keeps them); classes are
numbered in the order of classes.txt. Boxes (bounding_boxes.txt) are x, y, width and height in pixels.
"""

from __future__ import annotations

from pathlib import Path

from lchp.data.listing import lines
from lchp.data.records import Dataset, ImageRecord, PixelBox, PixelBoxes, Records

ORIGIN = "CUB-200-2011's archive"


def read(root: Path, /) -> Dataset:
    """The images and labels below ``root``; bounding_boxes.txt is not opened. Errors name file, line and value."""
    images = _by_id(root / "images.txt")
    class_names = _by_id(root / "classes.txt")
    class_ids = _by_id(root / "image_class_labels.txt")
    training = _by_id(root / "train_test_split.txt")
    index = {class_id: number for number, class_id in enumerate(class_names)}
    records: dict[str, list[ImageRecord]] = {"0": [], "1": []}
    for image_id, name in images.items():
        label = _of(class_ids, image_id, root / "image_class_labels.txt")
        if label not in index:
            raise ValueError(
                f"{_place(root / 'image_class_labels.txt', image_id)}: image {image_id} has class {label}, "
                "which classes.txt lacks: add it"
            )
        is_training = _of(training, image_id, root / "train_test_split.txt")
        if is_training not in records:
            raise ValueError(
                f"{_place(root / 'train_test_split.txt', image_id)}: image {image_id} has {is_training!r}: "
                "write 1 (train) or 0 (test)"
            )
        records[is_training].append(ImageRecord(f"images/{name}", index[label]))
    return Dataset.of("cub", root, tuple(class_names.values()), records["1"], records["0"], root)


def read_boxes(dataset: Dataset, records: Records, _cache: Path | None = None, /) -> PixelBoxes | None:
    """The true boxes in pixels, one an image, ends exclusive (x + width); None where bounding_boxes.txt is missing."""
    file = dataset.root / "bounding_boxes.txt"
    if not file.exists():
        return None
    images = _by_id(dataset.root / "images.txt")
    boxes = _by_id(file)
    return {
        f"images/{images[image_id]}": [_box(file, image_id, boxes[image_id])]
        for image_id in images
        if image_id in boxes
    }


def _box(file: Path, image_id: str, text: str) -> PixelBox:
    try:
        x, y, width, height = (float(value) for value in text.split())
    except ValueError:
        raise ValueError(
            f"{_place(file, image_id)}: image {image_id} has {text!r}: write x, y, width and height in pixels"
        ) from None
    return x, y, x + width, y + height


def _of(values: dict[str, str], image_id: str, file: Path) -> str:
    if image_id not in values:
        raise ValueError(f"{file}: image {image_id} of images.txt is missing: add its line")
    return values[image_id]


def _place(file: Path, image_id: str) -> str:
    """File and line of an id, for messages."""
    return f"{file}, line {next(number for number, line in lines(file, ORIGIN) if line.split()[0] == image_id)}"


def _by_id(file: Path) -> dict[str, str]:
    """``<id> <rest>`` of every line, in the file's order."""
    values: dict[str, str] = {}
    for number, line in lines(file, ORIGIN):
        key, *rest = line.split(maxsplit=1)
        if not rest or key in values:
            fault = "repeats an id" if key in values else "is not '<id> <value>'"
            raise ValueError(f"{file}, line {number}: {line!r} {fault}: correct it")
        values[key] = rest[0]
    return values
