"""Reader of YOLO's text files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from lchp.data.collections import Collection, Pictures, left_out, split_named
from lchp.data.files import read_utf8
from lchp.data.foreign import Labelled, files_below, found_images, of_several_classes
from lchp.data.records import PixelBox
from lchp.errors import first_of

_SHOWN = 100
"""Letters of what is wrong that a message shows."""
_CLASSES_SHOWN = 10


def yolo(folder: Path, pictures: Pictures) -> Collection | None:
    """The boxes of YOLO's text files, a line `class centre-x centre-y width height` in parts of the image, or the
    corners of a polygon; they lie beside the pictures, or in ``labels`` where those lie in ``images``. Classes are
    ``names`` of ``data.yaml``, or the lines of ``classes.txt``; splits, what folders are called.

    Raises:
        ValueError: a line is none, or names no class; names file, line and remedy.
    """
    lines = {path: file for path in pictures.paths if (file := _yolo_file(folder / path)) is not None}
    names = _yolo_names(folder)
    if not lines:
        return None
    if names is None:
        _refuse_unnamed(folder, lines.values())
        return None
    labels: dict[str, Labelled] = {}
    for path, file in lines.items():
        boxes = [_yolo_box(file, number, line, names) for number, line in _written(file)]
        if boxes:
            labels[path] = boxes
    splits = {path: split_named("/".join(path.split("/")[:-1])) for path in labels}
    if None in splits.values():
        splits = dict.fromkeys(splits)
    empty = [path for path in pictures.paths if path not in labels]
    told = (*left_out(empty, "pictures have no box"), *of_several_classes(labels))
    images = tuple(replace(image, boxes=(), parts=image.boxes) for image in found_images(labels, splits))
    return Collection("YOLO boxes", images, told=told)


def _refuse_unnamed(folder: Path, files: Iterable[Path]) -> None:
    """Refuse boxes whose classes nobody names; other texts beside pictures are none."""
    for file in files:
        for number, line in _written(file):
            try:
                _yolo_corners(f"{file}, line {number}", line)
            except ValueError:
                return
    raise ValueError(
        f"{folder}: holds boxes of YOLO, and neither data.yaml nor classes.txt, which names their classes: add one, or "
        "say with --from folders that folders do"
    )


def _written(file: Path) -> Iterator[tuple[int, str]]:
    yield from (
        (number, line)
        for number, line in enumerate(read_utf8(file).removeprefix("\ufeff").splitlines(), 1)
        if line.strip()
    )


def _yolo_file(picture: Path) -> Path | None:
    beside = picture.with_suffix(".txt")
    parts = list(picture.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return next((file for file in (Path(*parts).with_suffix(".txt"), beside) if file.is_file()), None)


def _yolo_names(folder: Path) -> dict[int, str] | None:
    for file in [*files_below(folder, ".yaml"), *files_below(folder, ".yml")]:
        text = read_utf8(file)
        if "names:" not in text:
            continue
        try:
            # As they are written: YAML's own types would make True of a class `yes`, and 7 of `007`.
            names = yaml.load(text, yaml.BaseLoader)["names"]
            if isinstance(names, str):
                raise TypeError("they are one text" if names else "they are none")
            pairs = names.items() if isinstance(names, dict) else enumerate(names)
            return _each_once({int(number): name for number, name in pairs})
        except (yaml.YAMLError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"{file}: its `names` are no list of classes ({' '.join(str(error).split())[:_SHOWN]}): correct them"
            ) from error
    for name in ("classes.txt", "obj.names", "labels/classes.txt"):
        if (folder / name).is_file():
            try:
                return _each_once({number: line for number, (_, line) in enumerate(_written(folder / name))})
            except ValueError as error:
                raise ValueError(f"{folder / name}: is no list of classes ({error}): correct it") from error
    return None


def _each_once(names: Mapping[int, Any]) -> dict[int, str]:
    """The names, which must be different texts."""
    found: dict[str, int] = {}
    for number, name in names.items():
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"that of {number} is {'empty' if isinstance(name, str) else 'no text'}")
        if (other := found.setdefault(name.strip(), number)) != number:
            raise ValueError(f"{other} and {number} are both {name.strip()!r}")
    return {number: name for name, number in found.items()}


def _yolo_box(file: Path, number: int, line: str, names: Mapping[int, str]) -> tuple[str, PixelBox]:
    where = f"{file}, line {number}"
    kind, box = _yolo_corners(where, line)
    if kind not in names:
        known = first_of([str(one) for one in names], _CLASSES_SHOWN)
        raise ValueError(f"{where}: names the class {kind}, and the classes that have names are {known}: correct it")
    return names[kind], box


def _yolo_corners(where: str, line: str) -> tuple[int, PixelBox]:
    """The index of the class, and the corners in parts of the image."""
    try:
        word, *rest = line.split()
        kind, values = int(word), [float(value) for value in rest]
    except ValueError:
        raise ValueError(f"{where}: is not `class x y width height`: correct it") from None
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{where}: holds a number that is not finite: correct it")
    if not (len(values) == 4 or (len(values) >= 6 and len(values) % 2 == 0)):
        raise ValueError(f"{where}: has {len(values)} numbers after the class: a box has 4, a polygon 6 or more")
    if len(values) == 4:
        x, y, width, height = values
        box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    else:
        box = min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
    is_inside = box[0] < 1 and box[1] < 1 and box[2] > 0 and box[3] > 0
    if not (box[0] < box[2] and box[1] < box[3] and is_inside and max(map(abs, box)) <= 2):
        raise ValueError(f"{where}: is no box in parts of the image: correct it")
    return kind, box
