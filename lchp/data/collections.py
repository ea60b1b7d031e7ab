"""Collections of pictures as people have them: class folders, COCO, Pascal VOC and YOLO boxes, tables without splits.

Each reader gives one label an image, the boxes of that class, and the split where the collection says one. An image
with objects of several classes counts for the class whose boxes cover most.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lchp.data.listing import KINDS_OF_COLLECTIONS, LINE_BREAKING, is_image, is_litter
from lchp.errors import first_of
from lchp.vocabulary import TEST, TRAIN, VAL

if TYPE_CHECKING:
    from lchp.data.records import PixelBox

_SHOWN = 3


@dataclass(frozen=True)
class Found:
    """One picture.

    Attributes:
        path: relative to the collection's folder.
        label: the name of its class.
        split: ``train``, ``val`` or ``test``, None where the collection says none.
        boxes: the corners of its boxes, in pixels.
        parts: the corners of further boxes, in parts of its width and height.
        mask: the path of its mask relative to the collection's folder, empty where there is none.
        size: its width and height in pixels, as its annotation says, where that does.
    """

    path: str
    label: str
    split: str | None = None
    boxes: tuple[PixelBox, ...] = ()
    parts: tuple[PixelBox, ...] = ()
    mask: str = ""
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Collection:
    """Pictures with their labels, in the order of their paths, and what a person should know of how they were read."""

    kind: str
    images: tuple[Found, ...]
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matched:
    """The paths of pictures by the names that annotations give them; some are known by the names of files ``alone``."""

    paths: Mapping[str, str]
    alone: tuple[str, ...]

    @property
    def told(self) -> tuple[str, ...]:
        """What a person should know of it."""
        return left_out(self.alone, "images are known by the names of their files alone")


class Pictures:
    """The picture files below a folder, hidden ones and what systems leave behind apart.

    Attributes:
        paths: those of the pictures, relative to the folder.
        others: those of files that are not named like pictures.
        bare: the uppermost folders in which there are no pictures.
    """

    def __init__(self, folder: Path, without: Sequence[Path] = ()) -> None:
        self.folder = folder
        # A link may lead to a folder around itself.
        seen = {os.path.realpath(path) for path in (folder, *without)}
        self.paths: list[str] = []
        self.others: list[str] = []
        visited: list[Path] = []
        for root, folders, files in os.walk(folder, followlinks=True):
            places = {name: os.path.realpath(Path(root) / name) for name in sorted(folders) if not is_litter(name)}
            folders[:] = [name for name, place in places.items() if place not in seen]
            seen.update(places.values())
            inside = Path(root).relative_to(folder)
            visited.append(inside)
            for name in files:
                if not is_litter(name):
                    (self.paths if is_image(name) else self.others).append((inside / name).as_posix())
        self.paths.sort()
        self.others.sort()
        try:
            "\n".join(self.paths).encode()
        except UnicodeEncodeError as error:
            path = self.paths["\n".join(self.paths)[: error.start].count("\n")]
            raise ValueError(f"{folder}: the name of {path!r} is no text in UTF-8: rename the file") from error
        for path in self.paths:
            if fault := _fault_of(folder, path):
                raise ValueError(f"{folder}: {fault}")
        self._ends: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            self._ends[path.rpartition("/")[2]].append(path)
        self.folders = {part for path in self.paths for part in path.split("/")[:-1]}
        around = {Path(), *(parent for path in self.paths for parent in Path(path).parents)}
        self.bare = sorted(str(inside) for inside in visited if inside not in around and inside.parent in around)

    def matched(self, names: Mapping[str, str]) -> Matched:
        """The pictures that annotations mean by ``names``, each with the place where it stands: those whose paths end
        so. What stands before a name may be a path of another machine: where no picture ends so, one of the same file
        name is meant, unless another annotation claims it or a folder of the name is here, and the picture not in it.

        Raises:
            ValueError: several pictures may be meant by one name, or one by several names; names them and the remedy.
        """
        ends = {name: self._ending(name) for name in names}
        claimed = {path for paths in ends.values() for path in paths}
        alone = {name: self._elsewhere(name, claimed) for name, paths in ends.items() if not paths}
        of_name: dict[str, str] = {}
        by_file: dict[str, str] = {}
        for name, where in names.items():
            found = ends[name] or alone[name]
            if len(found) > 1:
                raise ValueError(
                    f"{where}: {name} may be {first_of(found, _SHOWN, ' or ')}: give them names of their own"
                )
            of_name.update((name, path) for path in found)
            for path in alone.get(name, []):
                if by_file.setdefault(path, name) != name:
                    raise ValueError(
                        f"{where}: {by_file[path]} and {name} may both be {path}: write them as they lie below "
                        f"{self.folder}"
                    )
        return Matched(of_name, tuple(by_file.values()))

    def _ending(self, name: str) -> list[str]:
        parts = _parts(name)
        wanted = "/".join(parts)
        known = self._ends.get(parts[-1], []) if parts else []
        return [path for path in known if path == wanted or path.endswith(f"/{wanted}")]

    def _elsewhere(self, name: str, claimed: set[str]) -> list[str]:
        *folders, last = _parts(name) or [""]
        here = self.folders.intersection(folders)
        known = self._ends.get(last, [])
        return [path for path in known if path not in claimed and here <= set(path.split("/")[:-1])]


def _fault_of(folder: Path, path: str) -> str | None:
    """Why a picture can stand in no table, and the remedy."""
    if LINE_BREAKING.search(path):
        return f"the name of {path!r} holds a line break, or another control character: rename the file or its folder"
    if any(part != part.strip() for part in path.split("/")):
        return f"a name in {path!r} begins or ends with a space, which no table keeps: rename the file or its folder"
    if not os.path.isfile(folder / path):  # noqa: PTH113 - for every picture; Path takes thrice as long
        return f"{path} is a broken link, or no plain file: remove it"
    return None


def _parts(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def require_pictures(folder: Path, without: Sequence[Path] = ()) -> Pictures:
    """The pictures below a folder, those of some folders apart.

    Raises:
        ValueError: it is no folder, or holds none.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: {'is no folder' if folder.exists() else 'does not exist'}: give one with pictures")
    pictures = Pictures(folder, without)
    if not pictures.paths:
        raise ValueError(f"{folder}: holds no picture: give a folder with .jpg, .png, ...")
    return pictures


def split_named(text: str) -> str | None:
    """The split that a word of a file's or folder's name says; None where none does."""
    words = {TRAIN: TRAIN, "training": TRAIN, VAL: VAL, "valid": VAL, "validation": VAL, TEST: TEST, "testing": TEST}
    letters = "".join(letter if letter.isalpha() else " " for letter in text.lower())
    return next((words[word] for word in letters.split() if word in words), None)


def of_largest(boxes: Sequence[tuple[str, PixelBox]]) -> tuple[str, tuple[PixelBox, ...]]:
    """Of the labelled boxes of an image the class whose boxes cover most, and its boxes."""
    areas: Counter[str] = Counter()
    for label, (x1, y1, x2, y2) in boxes:
        areas[label] += (x2 - x1) * (y2 - y1)  # type: ignore[assignment]
    label = max(areas, key=lambda name: (areas[name], name))
    return label, tuple(box for other, box in boxes if other == label)


def with_test(collection: Collection) -> Collection:
    """The collection with its val images as test where it says val and no test, as ImageNet and COCO do."""
    splits = {found.split for found in collection.images}
    if VAL not in splits or TEST in splits:
        return collection
    images = tuple(replace(found, split=TEST) if found.split == VAL else found for found in collection.images)
    return replace(collection, images=images, told=(*collection.told, "its val images are the test split: it has none"))


def left_out(names: Iterable[str], why: str) -> tuple[str, ...]:
    """A line about pictures that are not in the table, where there are any."""
    names = list(names)
    return (f"{len(names)} {why}: {first_of(names, _SHOWN)}",) if names else ()


def collect(folder: Path, kind: str | None = None, masks: Path | None = None) -> Collection:
    """The pictures in a folder: of one kind of :data:`KINDS_OF_COLLECTIONS`, or of the only one that it holds.

    ``masks`` is a folder with a picture for each image, of the same name, whose foreground is the object.

    Raises:
        ValueError: there are none, they are of several kinds, or what describes them is damaged; names the remedy.
    """
    from lchp.data.class_folders import class_folders
    from lchp.data.foreign import almost_coco, coco, voc
    from lchp.data.table_without_splits import no_table, table_without_splits
    from lchp.data.yolo import yolo

    readers: dict[str, Callable[[Path, Pictures], Collection | None]] = {
        "csv": table_without_splits, "coco": coco, "voc": voc, "yolo": yolo, "folders": class_folders,
    }  # fmt: skip
    assert tuple(readers) == KINDS_OF_COLLECTIONS
    pictures = require_pictures(folder, [masks] if masks else [])
    asked = [kind] if kind else [name for name in readers if name != "folders"]
    found = {name: collection for name in asked if (collection := readers[name](folder, pictures)) is not None}
    if not found and kind is None and (plain := class_folders(folder, pictures)) is not None:
        found = {"folders": plain}
    if len(found) > 1:
        raise ValueError(f"{folder}: holds {' and '.join(found)}: say with --from which one counts")
    if not found:
        others = [f"{file} {no_table(file)}" for file in sorted(folder.glob("*.csv"))] if kind in (None, "csv") else []
        others += almost_coco(folder) if kind in (None, "coco") else []
        beside = f"; {others[0]}" if others else ""
        raise ValueError(f"{folder}: found no {_EXPECTED[kind or 'folders']}{beside}: {_ARRANGE}")
    (collection,) = found.values()
    if not collection.images:
        told = f" ({'; '.join(collection.told)})" if collection.told else ""
        raise ValueError(
            f"{folder}: its {collection.kind} name no picture that is there, or give it no class{told}: {_ARRANGE}"
        )
    collection = with_test(collection)
    images = tuple(sorted(collection.images, key=lambda image: image.path))
    return _masked(folder, replace(collection, images=images), masks) if masks else replace(collection, images=images)


_EXPECTED = {
    "csv": "CSV file with the columns path and label",
    "coco": "JSON file of COCO (images, annotations, categories)",
    "voc": "XML files of Pascal VOC (annotation)",
    "yolo": "text files of YOLO in labels/ with data.yaml or classes.txt",
    "folders": "pictures in folders that name their classes",
}
_ARRANGE = "arrange them as FOLDER/<class>/<picture>, or see `lchp init --help`"


def _masked(folder: Path, collection: Collection, masks: Path) -> Collection:
    """The collection with the masks of ``masks``, which lies below its folder, in place of boxes."""
    try:
        inside = masks.resolve().relative_to(folder.resolve())
    except ValueError:
        raise ValueError(
            f"--masks {masks}: lies outside {folder}, which a table may not leave: move it there"
        ) from None
    if not masks.is_dir() or not inside.parts:
        fault = "is that of the pictures" if masks.is_dir() else "is no folder"
        raise ValueError(f"--masks {masks}: {fault}: give that of the masks")
    known: dict[str, list[str]] = defaultdict(list)
    for path in Pictures(masks).paths:
        known[Path(path).stem].append(path)
    # A mask that lies in a folder of the name of one with pictures belongs to a picture in that.
    folders = {part for image in collection.images for part in Path(image.path).parts[:-1]}
    images, without, of_mask = [], [], dict[str, str]()
    for image in collection.images:
        own = Path(image.path)
        alike = [path for path in known.get(own.stem, []) if folders.intersection(Path(path).parts) <= {*own.parts}]
        end = f"/{own.with_suffix('')}"
        near = [path for path in alike if end.endswith(f"/{Path(path).with_suffix('')}")] or alike
        if len(near) > 1:
            raise ValueError(f"--masks {masks}: {image.path} may have {first_of(near, _SHOWN, ' or ')}: keep one")
        if near:
            if (other := of_mask.setdefault(near[0], image.path)) != image.path:
                raise ValueError(
                    f"--masks {masks}: {near[0]} may be of {other} and {image.path}: put masks into folders as theirs"
                )
            images.append(replace(image, boxes=(), parts=(), mask=(inside / near[0]).as_posix()))
        else:
            without.append(image.path)
            images.append(replace(image, boxes=(), parts=()))
    if len(without) == len(images):
        raise ValueError(f"--masks {masks}: none is named as one of the pictures: name them alike")
    told = (*collection.told, *left_out(without, "pictures have no mask"))
    return replace(collection, images=tuple(images), told=told)
