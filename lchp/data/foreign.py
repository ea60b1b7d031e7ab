"""Readers of other tools' annotations: COCO's JSON and Pascal VOC's XML; what theirs and YOLO's have in common."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lchp.data.collections import Collection, Found, Pictures, left_out, of_largest, split_named
from lchp.data.files import read_utf8
from lchp.data.listing import is_litter
from lchp.data.records import PixelBox
from lchp.data.table import SPLITS
from lchp.vocabulary import TRAIN, VAL

_LISTS = ("images", "annotations", "categories")
_DEEP = 4
"""Levels of folders in which annotations are looked for."""
_SHOWN = 100
"""Letters of what is wrong that a message shows."""
Size = tuple[int, int]
"""Width and height in pixels."""
Labelled = list[tuple[str, PixelBox]]
"""The classes and boxes of an image."""


def files_below(folder: Path, ending: str) -> list[Path]:
    """The files of an ending up to some levels below ``folder``, hidden ones apart."""
    found = [file for depth in range(_DEEP) for file in folder.glob("*/" * depth + f"*{ending}")]
    return sorted(file for file in found if file.is_file() and not any(map(is_litter, file.relative_to(folder).parts)))


def of_several_classes(labels: Mapping[str, Labelled]) -> tuple[str, ...]:
    """A line on the images that hold objects of several classes, if there are any."""
    mixed = [path for path, boxes in labels.items() if len({label for label, _ in boxes}) > 1]
    return left_out(mixed, "images hold objects of several classes and count for that whose boxes cover most")


def _undescribed(pictures: Pictures, labels: Mapping[str, Labelled], empty: Sequence[str]) -> tuple[str, ...]:
    others = [path for path in pictures.paths if path not in labels and path not in empty]
    return left_out(others, "pictures are in no annotation")


def found_images(
    labels: Mapping[str, Labelled], splits: Mapping[str, str | None], sizes: Mapping[str, Size | None] | None = None
) -> tuple[Found, ...]:
    """The images by path, each of the class whose boxes cover most of it, with those; ``sizes`` are what is said."""
    images = []
    for path, boxes in labels.items():
        label, own = of_largest(boxes)
        images.append(Found(path, label, splits.get(path), own, size=(sizes or {}).get(path)))
    return tuple(images)


def coco(folder: Path, pictures: Pictures) -> Collection | None:
    """The boxes of COCO's files of instances; several files are several splits, which their names say.

    Raises:
        ValueError: a file is damaged, or an annotation names what is not there; names it and the remedy.
    """
    found = [(file, content) for file in files_below(folder, ".json") if (content := _coco_content(file)) is not None]
    if not found:
        return None
    labels: dict[str, Labelled] = defaultdict(list)
    splits: dict[str, str | None] = {}
    sizes: dict[str, Size | None] = {}
    gone, empty = [], []
    of_files = [(file, list(_coco_boxes(file, content))) for file, content in found]
    matched = pictures.matched({name: str(file) for file, images in of_files for name, _ in images})
    of_file, without = _coco_splits([file for file, _ in found])
    said = {name: size for _, content in found for name, size in _coco_sizes(content)}
    for file, images in of_files:
        split = of_file[file]
        for name, boxes in images:
            path = matched.paths.get(name)
            if path is None:
                gone.append(name)
            elif not boxes:
                empty.append(path)
            elif path in splits and splits[path] != split:
                raise ValueError(f"{file}: {name} is in the splits {splits[path]} and {split}: keep it in one")
            else:
                splits[path], sizes[path] = split, said.get(name)
                labels[path] += boxes
    told = (
        *left_out(gone, "images are not there"), *matched.told, *left_out(empty, "images have no box"),
        *_undescribed(pictures, labels, empty), *of_several_classes(labels),
        *left_out(without, "files name no split and count as train, as others name one"),
    )  # fmt: skip
    return Collection("COCO boxes", found_images(labels, splits, sizes), told=told)


def _coco_splits(files: Sequence[Path]) -> tuple[dict[Path, str | None], list[str]]:
    """The split of each file, and the names of those which say none where others do."""
    if len(files) == 1:
        return dict.fromkeys(files), []
    said = {file: split_named(file.stem) for file in files}
    if not any(said.values()):
        return said, []
    return {file: split or TRAIN for file, split in said.items()}, [file.name for file in files if not said[file]]


def _coco_content(file: Path) -> dict[str, Any] | None:
    text = read_utf8(file).removeprefix("\ufeff")
    if '"images"' not in text or '"annotations"' not in text:
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: is no JSON ({error}): save it again") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in _LISTS):
        raise ValueError(f"{file}: lacks one of the lists {', '.join(_LISTS)}: save it as COCO's instances")
    return content


def almost_coco(folder: Path) -> list[str]:
    """Files that have words of COCO's and are not laid out so, each with what it lacks, for messages."""
    odd = []
    for file in files_below(folder, ".json"):
        text = file.read_text(encoding="utf-8", errors="replace")
        lacks = [key for key in _LISTS if f'"{key}"' not in text]
        if lacks and any(word in text for word in ('"bbox"', '"image_id"', '"file_name"', '"annotations"')):
            odd.append(f"{file} lacks {' and '.join(lacks)}, and is cut, or no file of COCO's instances")
    return odd


def _coco_boxes(file: Path, content: Mapping[str, Any]) -> Iterator[tuple[str, Labelled]]:
    """Every image's name and labelled boxes."""
    names, categories = (_coco_names(file, content, *of) for of in (("images", "file_name"), ("categories", "name")))
    ids: dict[str, Any] = {}
    for image, name in names.items():
        if ids.setdefault(name, image) != image:
            raise ValueError(
                f"{file}: images: {name} has the ids {ids[name]} and {image}: keep one, or write the folders of the "
                "pictures into their names"
            )
    boxes: dict[Any, Labelled] = {image: [] for image in names}
    for number, one in enumerate(content["annotations"]):
        where = f"{file}: annotations, number {number}"
        image, category = (_coco_value(where, one, key) for key in ("image_id", "category_id"))
        if one.get("iscrowd"):
            continue
        for key, value, listed in (("image_id", image, names), ("category_id", category, categories)):
            if value not in listed:
                raise ValueError(f"{where}: {key} {value!r} is not listed: list it, or remove the annotation")
        box = _coco_corners(one.get("bbox"))
        if box is None:
            shown = repr(one.get("bbox"))[:_SHOWN]
            raise ValueError(f"{where}: bbox {shown} is not x, y, width and height: correct or remove it")
        boxes[image].append((categories[category], box))
    return iter([(names[image], of_image) for image, of_image in boxes.items()])


def _coco_names(file: Path, content: Mapping[str, Any], listed: str, key: str) -> dict[Any, str]:
    """The names of what is listed, by id."""
    names: dict[Any, str] = {}
    for number, one in enumerate(content[listed]):
        where = f"{file}: {listed}, number {number}"
        number_of, name = _coco_value(where, one, "id"), str(_coco_value(where, one, key)).strip()
        if not name:
            raise ValueError(f"{where}: has no {key}: name it, or remove it")
        if names.setdefault(number_of, name) != name:
            raise ValueError(f"{file}: {listed}: {names[number_of]} and {name} have one id, {number_of}: correct it")
    return names


def _coco_sizes(content: Mapping[str, Any]) -> Iterator[tuple[str, Size | None]]:
    for one in content["images"]:
        yield str(one["file_name"]).strip(), _size(one.get("width"), one.get("height"))


def _size(width: Any, height: Any) -> Size | None:
    """What is said of a picture's size; None of what is none, as the zeros that some tools write."""
    try:
        size = int(width), int(height)
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def _coco_value(where: str, one: Any, key: str) -> Any:
    """What an entry says of ``key``: a whole number or a text. ValueError where it says nothing, or something else."""
    if not isinstance(one, dict):
        raise ValueError(f"{where}: {repr(one)[:_SHOWN]} is no mapping: save it as COCO's instances")
    value = one.get(key)
    if value is None:
        raise ValueError(f"{where}: has no {key}: give it one, or remove the entry")
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"{where}: {key} {repr(value)[:_SHOWN]} is neither text nor a whole number: correct it")
    return value


def _coco_corners(bbox: Any) -> PixelBox | None:
    """The corners of a box with an area; None of what is none."""
    try:
        x, y, width, height = (float(value) for value in bbox)
    except (TypeError, ValueError, OverflowError):
        return None
    is_box = math.isfinite(x + y + width + height) and width > 0 and height > 0
    return (x, y, x + width, y + height) if is_box else None


def voc(folder: Path, pictures: Pictures) -> Collection | None:
    """The boxes of Pascal VOC's XML files, whose pixels count from 1 with both ends inside; splits are those of
    ``ImageSets/Main`` where that is there.

    Raises:
        ValueError: a file is damaged; names it and the remedy.
    """
    labels: dict[str, Labelled] = {}
    sizes: dict[str, Size | None] = {}
    gone, empty, annotated = [], [], {}
    roots = {file: root for file in files_below(folder, ".xml") if (root := _xml(file)) is not None}
    shared = {file: [part for part in file.relative_to(folder).parts if part in pictures.folders] for file in roots}
    said = {file: (root.findtext("filename") or "").strip().replace("\\", "/") for file, root in roots.items()}
    # A name without folders is that of a picture in those of its annotation in which there are pictures.
    names = {file: "/".join([*shared[file], name] if "/" not in name else [name]) for file, name in said.items()}
    matched = pictures.matched({name: str(file) for file, name in names.items() if said[file]})
    matched = replace(matched, alone=tuple(sorted({*matched.alone}.intersection(said.values()))))
    for file, root in roots.items():
        name = names[file]
        path = matched.paths.get(name) or (_stem_of(pictures, file, shared[file]) if "/" not in said[file] else None)
        boxes = list(_voc_boxes(file, root))
        if path is None:
            gone.append(name if said[file] else file.name)
        elif path in labels:
            raise ValueError(f"{file}: {path} is described by another file, too: keep one, or write its whole path")
        elif boxes:
            labels[path], annotated[file.stem] = boxes, path
            sizes[path] = _size(root.findtext("size/width"), root.findtext("size/height"))
        else:
            empty.append(path)
    if not labels and not gone and not empty:
        return None
    splits = {path: split for stem, split in _voc_splits(folder) if (path := annotated.get(stem)) is not None}
    told = (
        *left_out(gone, "images are not there"), *matched.told, *left_out(empty, "images have no box"),
        *_undescribed(pictures, labels, empty), *of_several_classes(labels),
    )  # fmt: skip
    if splits:
        others = [path for path in labels if path not in splits]
        told += left_out(others, "images are in no list of ImageSets/Main")
        labels = {path: boxes for path, boxes in labels.items() if path in splits}
    return Collection("Pascal VOC boxes", found_images(labels, splits, sizes), told=told)


def _xml(file: Path) -> ElementTree.Element | None:
    """The root of an annotation; None of XML that is something else."""
    text = file.read_bytes()
    if b"<annotation" not in text:
        return None
    if b"<!ENTITY" in text:
        raise ValueError(f"{file}: declares entities, which no annotation needs: remove them")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # also of encodings that nobody knows
        raise ValueError(f"{file}: is no XML ({error}): save it again") from error
    return root if root.tag == "annotation" else None


def _stem_of(pictures: Pictures, file: Path, folders: Sequence[str]) -> str | None:
    """The only picture, in folders of these names, that is called as an annotation."""
    alike = [path for path in pictures.paths if Path(path).stem == file.stem and {*folders} <= {*Path(path).parts}]
    return alike[0] if len(alike) == 1 else None


def _voc_boxes(file: Path, root: ElementTree.Element) -> Iterator[tuple[str, PixelBox]]:
    for one in root.iter("object"):
        label = (one.findtext("name") or "").strip()
        cells = [one.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        try:
            x1, y1, x2, y2 = (float(cell or "") for cell in cells)
        except ValueError:
            raise ValueError(
                f"{file}: an object {label or 'without name'} has no bndbox of four numbers: correct or remove it"
            ) from None
        if not label or not (math.isfinite(x1 + y1 + x2 + y2) and x1 <= x2 and y1 <= y2):
            raise ValueError(f"{file}: the object {label or 'without name'} has no box: correct or remove it")
        yield label, (x1 - 1, y1 - 1, x2, y2)


def _voc_splits(folder: Path) -> Iterator[tuple[str, str]]:
    """The names in the lists of splits. ``trainval`` is train, where neither train nor val lies beside it."""
    lists = {file: file.stem for file in sorted(folder.glob("**/ImageSets/Main/*.txt"))}
    for file in [file for file, split in lists.items() if split == "trainval"]:
        if lists.keys().isdisjoint(file.with_name(f"{split}.txt") for split in (TRAIN, VAL)):
            lists[file] = TRAIN
    seen: dict[str, Path] = {}
    for split, file in [(split, file) for split in SPLITS for file in lists if lists[file] == split]:
        for name in {line.split()[0]: None for line in read_utf8(file).splitlines() if line.strip()}:
            if lists[seen.setdefault(name, file)] != split:
                raise ValueError(f"{file}: {name} is in {seen[name]}, too: keep it in one")
            yield name, split
