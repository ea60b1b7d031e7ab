"""Readers of other tools' annotations: COCO's JSON, Pascal VOC's XML, YOLO's text files."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from lchp.data.collections import Collection, Found, Pictures, left_out, of_largest, split_named
from lchp.data.files import read_utf8
from lchp.data.listing import is_litter
from lchp.data.records import PixelBox
from lchp.data.table import SPLITS
from lchp.vocabulary import TRAIN

_DEEP = 4
"""Levels of folders in which annotations are looked for."""
_SHOWN = 100
"""Letters of what is wrong that a message shows."""
Labelled = list[tuple[str, PixelBox]]


def _files(folder: Path, ending: str) -> list[Path]:
    """The files of an ending up to some levels below ``folder``, hidden ones apart."""
    found = [file for depth in range(_DEEP) for file in folder.glob("*/" * depth + f"*{ending}")]
    return sorted(file for file in found if file.is_file() and not any(map(is_litter, file.relative_to(folder).parts)))


def _several(labels: Mapping[str, Labelled]) -> tuple[str, ...]:
    mixed = [path for path, boxes in labels.items() if len({label for label, _ in boxes}) > 1]
    return left_out(mixed, "images hold objects of several classes and count for that whose boxes cover most")


def _undescribed(pictures: Pictures, labels: Mapping[str, Labelled], empty: Sequence[str]) -> tuple[str, ...]:
    others = [path for path in pictures.paths if path not in labels and path not in empty]
    return left_out(others, "pictures are in no annotation")


def _images(labels: Mapping[str, Labelled], splits: Mapping[str, str | None]) -> tuple[Found, ...]:
    images = []
    for path, boxes in labels.items():
        label, own = of_largest(boxes)
        images.append(Found(path, label, splits.get(path), own))
    return tuple(images)


def coco(folder: Path, pictures: Pictures) -> Collection | None:
    """The boxes of COCO's files of instances; several files are several splits, which their names say.

    Raises:
        ValueError: a file is damaged, or an annotation names what is not there; names it and the remedy.
    """
    found = [(file, content) for file in _files(folder, ".json") if (content := _coco_content(file)) is not None]
    if not found:
        return None
    labels: dict[str, Labelled] = defaultdict(list)
    splits: dict[str, str | None] = {}
    gone, empty = [], []
    of_files = [(file, list(_coco_boxes(file, content))) for file, content in found]
    matched = pictures.matched({name: str(file) for file, images in of_files for name, _ in images})
    of_file, without = _coco_splits([file for file, _ in found])
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
                splits[path] = split
                labels[path] += boxes
    told = (
        *left_out(gone, "images are not there"), *matched.told, *left_out(empty, "images have no box"),
        *_undescribed(pictures, labels, empty), *_several(labels),
        *left_out(without, "files name no split and count as train, as others name one"),
    )  # fmt: skip
    return Collection("COCO boxes", _images(labels, splits), told=told)


def _coco_splits(files: Sequence[Path]) -> tuple[dict[Path, str | None], list[str]]:
    """The split of each file, and the names of those which say none where others do."""
    if len(files) == 1:
        return dict.fromkeys(files), []
    said = {file: split_named(file.stem) for file in files}
    if not any(said.values()):
        return said, []
    return {file: split or TRAIN for file, split in said.items()}, [file.name for file in files if not said[file]]


def _coco_content(file: Path) -> dict[str, Any] | None:
    text = read_utf8(file)
    if '"images"' not in text or '"annotations"' not in text:
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: is no JSON ({error}): save it again") from error
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        raise ValueError(f"{file}: lacks one of the lists {', '.join(keys)}: save it as COCO's instances")
    return content


def _coco_boxes(file: Path, content: Mapping[str, Any]) -> Iterator[tuple[str, Labelled]]:
    """Every image's name and labelled boxes."""
    try:
        names, categories = (
            _coco_names(file, content, *of) for of in (("images", "file_name"), ("categories", "name"))
        )
        boxes: dict[Any, Labelled] = {image: [] for image in names}
        for number, one in enumerate(content["annotations"]):
            if one.get("iscrowd"):
                continue
            if one["image_id"] not in names or one["category_id"] not in categories:
                raise ValueError(f"{file}: annotation {number} names an image or category that is not listed")
            box = _coco_corners(one["bbox"])
            if box is None:
                shown = repr(one["bbox"])[:_SHOWN]
                raise ValueError(
                    f"{file}: annotation {number} has the bbox {shown}, which is not x, y, width and height: "
                    "correct or remove it"
                )
            boxes[one["image_id"]].append((categories[one["category_id"]], box))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: is not laid out as COCO's instances ({error!r}): save it so") from error
    return iter([(names[image], of_image) for image, of_image in boxes.items()])


def _coco_names(file: Path, content: Mapping[str, Any], listed: str, key: str) -> dict[Any, str]:
    """The names of what is listed, by id."""
    names: dict[Any, str] = {}
    for number, one in enumerate(content[listed]):
        name = "" if one[key] is None else str(one[key]).strip()
        if not name:
            raise ValueError(f"{file}: {listed}, number {number}: has no {key}: name it, or remove it")
        if names.setdefault(one["id"], name) != name:
            raise ValueError(f"{file}: {listed}: {names[one['id']]} and {name} have one id, {one['id']}: correct it")
    return names


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
    gone, empty, annotated = [], [], {}
    roots = {file: root for file in _files(folder, ".xml") if (root := _xml(file)) is not None}
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
        else:
            empty.append(path)
    if not labels and not gone and not empty:
        return None
    splits = {path: split for stem, split in _voc_splits(folder) if (path := annotated.get(stem)) is not None}
    told = (
        *left_out(gone, "images are not there"), *matched.told, *left_out(empty, "images have no box"),
        *_undescribed(pictures, labels, empty), *_several(labels),
    )  # fmt: skip
    if splits:
        others = [path for path in labels if path not in splits]
        told += left_out(others, "images are in no list of ImageSets/Main")
        labels = {path: boxes for path, boxes in labels.items() if path in splits}
    return Collection("Pascal VOC boxes", _images(labels, splits), told=told)


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
            raise ValueError(f"{file}: an object {label or 'without name'} has no bndbox of four numbers") from None
        if not label or not (math.isfinite(x1 + y1 + x2 + y2) and x1 <= x2 and y1 <= y2):
            raise ValueError(f"{file}: the object {label or 'without name'} has no box: correct or remove it")
        yield label, (x1 - 1, y1 - 1, x2, y2)


def _voc_splits(folder: Path) -> Iterator[tuple[str, str]]:
    for split in SPLITS:
        for file in sorted(folder.glob(f"**/ImageSets/Main/{split}.txt")):
            yield from ((line.split()[0], split) for line in read_utf8(file).splitlines() if line.strip())


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
    told = (*left_out(empty, "pictures have no box"), *_several(labels))
    images = tuple(replace(image, boxes=(), parts=image.boxes) for image in _images(labels, splits))
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
    for file in [*_files(folder, ".yaml"), *_files(folder, ".yml")]:
        text = read_utf8(file)
        if "names:" not in text:
            continue
        try:
            names = yaml.safe_load(text)["names"]
            if isinstance(names, str):
                raise TypeError("they are one text")
            pairs = names.items() if isinstance(names, dict) else enumerate(names)
            found = {int(number): str(name).strip() for number, name in pairs}
            if not all(found.values()):
                raise ValueError("one is empty")
            return found
        except (yaml.YAMLError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"{file}: its `names` are no list of classes ({' '.join(str(error).split())[:_SHOWN]}): correct them"
            ) from error
    for name in ("classes.txt", "obj.names", "labels/classes.txt"):
        if (folder / name).is_file():
            return {number: line.strip() for number, (_, line) in enumerate(_written(folder / name))}
    return None


def _yolo_box(file: Path, number: int, line: str, names: Mapping[int, str]) -> tuple[str, PixelBox]:
    where = f"{file}, line {number}"
    kind, box = _yolo_corners(where, line)
    if kind not in names:
        raise ValueError(f"{where}: names the class {kind}, of which there are {len(names)}, from 0: correct it")
    return names[kind], box


def _yolo_corners(where: str, line: str) -> tuple[int, PixelBox]:
    """The index of the class, and the corners in parts of the image."""
    try:
        word, *rest = line.split()
        kind, values = int(word), [float(value) for value in rest]
    except ValueError:
        raise ValueError(f"{where}: is not `class x y width height`: correct it") from None
    if not (len(values) == 4 or (len(values) >= 6 and len(values) % 2 == 0)) or not all(map(math.isfinite, values)):
        raise ValueError(f"{where}: has {len(values)} numbers after the class: a box has 4, a polygon 6 or more")
    if len(values) == 4:
        x, y, width, height = values
        box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    else:
        box = min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
    if not (box[0] < box[2] and box[1] < box[3] and max(map(abs, box)) <= 2):
        raise ValueError(f"{where}: is no box in parts of the image: correct it")
    return kind, box
