"""What ``lchp init`` does: pictures become a table, and what is proposed for them a study."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from lchp.data.class_folders import CLASS_FOLDERS
from lchp.data.collections import Collection, Pictures, collect, require_pictures
from lchp.data.config import FilesDataset
from lchp.data.files import write_text
from lchp.data.listing import ONE_CLASS, alike, is_image
from lchp.errors import first_of
from lchp.study.spec.load import load_study
from lchp.study.spec.proposal import Counted, name_of, proposed, study_text
from lchp.study.spec.schema import NAME, RESERVED
from lchp.training.file_faults import file_fault
from lchp.vocabulary import TEST

if TYPE_CHECKING:
    from lchp.data.records import Dataset, PixelBoxes

T = TypeVar("T")
_LOOKED_AT = 200
"""Pictures whose sizes are read."""
_CLASSES_SHOWN = 12
_FAULTS_SHOWN = 20


@dataclass(frozen=True)
class Begun:
    """What was written, the study's file last, and what a person should know."""

    written: tuple[Path, ...]
    told: tuple[str, ...]


def begin(
    given: Path | None, kind: str | None, masks: Path | None, name: str | None, study: Path | None,
    weights: Path | None, share: float,
) -> Begun:  # fmt: skip
    """Write the table of the pictures in a folder, where they have none, and a study of it.

    Without ``given`` the folder is the working folder, whose own folders must be those of classes.

    Raises:
        ValueError: there are no pictures, what describes them is damaged, something would be overwritten; names it and
            the remedy. Then nothing is written.
    """
    asked, given = given, given or Path()
    folder = given.parent if given.is_file() else given
    name = name_of(folder) if name is None else name
    file = study or Path(f"{name}.yaml")
    _require_fit(name, file, weights)
    _require_pictures(given)
    # NumPy and Pillow are imported by those alone who have something to read.
    from lchp.data.reading import open_dataset, read_pixel_boxes
    from lchp.data.table_writing import TABLE, of_unwritten

    if file.resolve() == (folder / TABLE).resolve():
        raise ValueError(f"--study {file}: is where the table of the pictures is written: name another")
    table = None if kind or masks else _table_of(given)
    written: list[Path] = []
    if table is None:
        found = _collection(given, kind, masks)
        _require_classes(found, folder, asked is not None)
        table, told = _written(_split(found, folder, share), folder)
        written.append(table)
    else:
        told = (f"the table {table} is taken as it is",)
    try:
        config = FilesDataset(kind="table", path=table)
        dataset = open_dataset(config, Path())
        boxes = read_pixel_boxes(config, dataset, dataset.images) or {}
        counted = _counted(dataset, table, boxes)
        preset, choices = proposed(counted, weights)
        text = study_text(name, table, counted, preset, choices)
        told += (
            *_of_dataset(dataset, counted),
            *_of_bad_boxes(dataset, boxes),
            f"preset {preset}; beside it:",
            *(f"  {', '.join(choice.values)}: {choice.why}" for choice in choices),
        )
        _write_study(file, text)  # the last that can fail
    except BaseException as error:
        for path in written:
            path.unlink()
        if written and isinstance(error, ValueError) and str(table) in str(error):
            raise of_unwritten(error, table) from error
        raise
    return Begun((*written, file), told)


def _require_pictures(given: Path) -> None:
    """See that what is given may hold pictures, or name them."""
    from lchp.data.archives import is_archive

    if not given.is_file():
        require_pictures(given)
    elif is_image(given.name):
        raise ValueError(f"{given}: is one picture: give the folder above the folders of its and other classes")
    elif is_archive(given):
        raise ValueError(f"{given}: is an archive: unpack it, and give the folder that it holds")


def _written(collection: Collection, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The table of a collection, which is written, and what a person should know of it."""
    from lchp.data.table_writing import write_table

    of_sizes = _of_other_sizes(collection, folder)
    told = (f"{len(collection.images)} pictures by {collection.kind}", *collection.told, *of_sizes)
    return write_table(collection, folder), told


def _require_fit(name: str, file: Path, weights: Path | None) -> None:
    """See that a study can have this name, file and weights. ValueError says which it cannot, and the remedy."""
    if not re.fullmatch(NAME, name):
        raise ValueError(f"--name {name}: must be letters, digits, `.`, `_` and `-`, the first a letter or digit")
    if name.lower() in RESERVED:
        raise ValueError(f"--name {name}: the folder of that name holds {RESERVED[name.lower()]}: choose another")
    if os.path.lexists(file):  # also where a link leads to nothing
        raise ValueError(f"{file}: is there already: give another with --study FILE, or remove it")
    if weights is not None and not weights.is_file():
        raise ValueError(f"--weights {weights}: does not exist: give the file of a MobileNetV2 state dict")
    if weights is not None and (fault := file_fault(weights)):
        raise ValueError(f"--weights {weights}: {fault}")


def _split(found: Collection, folder: Path, share: float) -> Collection:
    """The collection with the ``share`` of each class's pictures that is for testing, which must be one at least."""
    from lchp.data.table_writing import with_splits

    collection = with_splits(found, share)
    if all(image.split != TEST for image in collection.images):
        raise ValueError(
            f"{folder}: no class has two pictures, and a test split needs one that is not trained on: add pictures"
        )
    return collection


def _require_classes(collection: Collection, folder: Path, is_asked: bool) -> None:
    """Refuse class folders that are none: one alone, or in a folder that nobody named the folders around them."""
    if collection.kind != CLASS_FOLDERS:
        return
    labels = {image.label for image in collection.images}
    if len(labels) == 1:
        raise ValueError(
            f"{folder.resolve()}: all pictures are in one class folder, {labels.pop()}, and a study needs two classes: "
            f"give the folder right above the class folders, as in FOLDER/<class>/<picture>{_almost(folder)}"
        )
    around = next((image for image in collection.images if Path(image.path).parent.name != image.label), None)
    if around is not None and not is_asked:
        raise ValueError(
            f"{folder.resolve()}: {around.path} does not lie right in a class folder of the working folder: give the "
            "folder above the class folders: lchp init FOLDER"
        )


def _almost(folder: Path) -> str:
    """What else describes the pictures, perhaps, for the end of a message."""
    from lchp.data.foreign import almost_coco

    odd = almost_coco(folder)
    return f"; {odd[0]}" if odd else ""


def _of_dataset(dataset: Dataset, counted: Counted) -> tuple[str, ...]:
    """How many images there are, the classes with theirs, and what one class alone is good for."""
    val = f", {len(dataset.held_out)} val" if counted.own_val else ""
    images = (
        f"{counted.train} training{val} and {counted.test} test images of {counted.classes} classes, "
        f"{counted.boxes or 'none'} with true boxes"
    )
    count = Counter(record.label for record in dataset.images)
    named = first_of([f"{name} {count[label]}" for label, name in enumerate(dataset.classes)], _CLASSES_SHOWN)
    shown = f"classes, with their images: {named}"
    odd = [ONE_CLASS] if len(dataset.classes) == 1 else alike(dataset.classes)
    return images, shown, *(f"warning: {line}" for line in odd)


def _table_of(given: Path) -> Path | None:
    """The table that is there already: ``given``, or the only one right inside it."""
    from lchp.data.table import REQUIRED, columns_of

    files = [given] if given.is_file() else sorted(given.glob("*.csv"))
    found = [file for file in files if set(REQUIRED) <= set(columns_of(file))]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ValueError(f"{given}: holds several tables, {names}: give one in place of the folder")
    return found[0] if found else None


def _collection(given: Path, kind: str | None, masks: Path | None) -> Collection:
    from lchp.data.table_without_splits import no_table, table_without_splits
    from lchp.data.table_writing import TABLE

    if not given.is_file():
        return collect(given, kind, masks)
    collection = table_without_splits(given.parent, Pictures(given.parent), given)
    if collection is None:
        raise ValueError(f"{given}: {no_table(given)}: correct it")
    if given.name == TABLE:
        raise ValueError(f"{given}: lacks the column split, and is what would be written: rename it")
    return collection


def _counted(dataset: Dataset, table: Path, boxes: PixelBoxes) -> Counted:
    train = [record for record in dataset.train if record.path not in dataset.held_out]
    of_class = Counter(record.label for record in train)
    smallest = min(of_class[label] for label in range(len(dataset.classes)))
    if smallest == 0:
        without = next(name for label, name in enumerate(dataset.classes) if not of_class[label])
        raise ValueError(f"{table}: the class {without} has no training image: add some, or leave the class out")
    return Counted(
        len(train), len(dataset.test), len(dataset.classes), smallest, bool(dataset.held_out),
        _side(dataset.root, list(dataset.images.paths)), len(boxes),
    )  # fmt: skip


def _of_other_sizes(collection: Collection, folder: Path) -> tuple[str, ...]:
    """A warning of pictures that were enlarged or reduced since their boxes were drawn, of those that are looked at."""
    from lchp.data.headers import header

    said = [image for image in collection.images if image.size is not None and image.boxes]
    for image in _some(said):
        try:
            found = header(folder / image.path)
        except ValueError:  # is told where sizes are read
            continue
        if image.size not in ((found.width, found.height), found.seen):
            size = " x ".join(map(str, image.size or ()))
            sizes = f"{image.path} is {found.width} x {found.height}, and said to be {size}"
            return (
                f"warning: pictures are of another size than their annotations say ({sizes}): their boxes count in the "
                "pixels that are there: see that they fit, with `lchp data show`",
            )
    return ()


def _of_bad_boxes(dataset: Dataset, boxes: PixelBoxes) -> tuple[str, ...]:
    """A warning of the first box that is none, of the pictures that are looked at."""
    import numpy as np

    from lchp.data.headers import header
    from lchp.data.true_boxes import as_parts, fault

    for path in _some(list(boxes)):
        try:
            size = header(dataset.root / path)
        except ValueError:  # one that _side did not look at: `lchp data check` names them all
            continue
        sizes = np.tile(np.array([size.width, size.height], np.float64), (len(boxes[path]), 1))
        for box, is_sound in zip(boxes[path], as_parts(np.array(boxes[path], np.float64), sizes)[1], strict=True):
            if not is_sound:
                corners = ", ".join(f"{value:g}" for value in box)
                return (
                    f"warning: {path}: the box ({corners}) {fault(box, size.width, size.height)}: no study trains with "
                    "such boxes; `lchp data check` names them all",
                )
    return ()


def _some(of: Sequence[T]) -> Sequence[T]:
    """Those that are looked at."""
    return of[:: max(len(of) // _LOOKED_AT, 1)]


def _side(root: Path, paths: Sequence[str]) -> int:
    """The median of the shorter sides, by some of the pictures. ValueError names those of them that are none."""
    from lchp.data.headers import header

    sides, faults = [], []
    for path in _some(paths):
        try:
            size = header(root / path)
            sides.append(min(size.width, size.height))
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError(first_of(faults, _FAULTS_SHOWN, "\n"))
    return round(median(sides))


def _write_study(file: Path, text: str) -> None:
    """Write the study, which must be one."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{file}: would name a file by a path that is no text in UTF-8: rename the folder, or begin inside it"
        ) from error
    write_text(file, text)
    try:
        load_study(file)
    except (ValueError, ValidationError):
        file.unlink()
        raise
