"""From a dataset's configuration to its images and labels, and, apart from them, to its true boxes as written.

``open_dataset`` never opens a box file: it works where those are deleted. Records are in the order of their paths,
whatever order the files or the file system have. Nothing here needs torch: a broken dataset is told in a moment.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lchp.data.archives import SUFFIXES, extracted, is_archive
from lchp.data.columns import Texts
from lchp.data.config import DatasetConfig, FilesDataset, SyntheticDataset
from lchp.data.kinds import KINDS, Kind
from lchp.data.listing import LINE_BREAKING, named_in, near
from lchp.data.once import build_once, made_once
from lchp.data.records import Boxes, Dataset, PixelBoxes, Records, boxes_of
from lchp.vocabulary import TEST, TRAIN


def open_dataset(config: DatasetConfig, cache: Path) -> Dataset:
    """The images and labels of a dataset; archives are extracted and synthetic sets drawn into ``cache`` once.

    Raises ValueError, naming kind, path and remedy, where the dataset is missing, its files contradict each other, or
    something is not as in every dataset: see :func:`_require_sound`.
    """
    kind = KINDS[config.kind]
    source = _drawn(config, cache) if isinstance(config, SyntheticDataset) else _source(config, kind, cache)
    try:
        dataset = kind.reader().read(source)
        if kind.drawn:
            dataset = replace(dataset, name=kind.name)
        _require_sound(dataset, kind)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{error}{_in_cache(source)}") from error
    return dataset


def read_boxes(config: DatasetConfig, dataset: Dataset, records: Records, cache: Path | None = None) -> Boxes | None:
    """The true boxes of ``records``, by their places, as written: in pixels with exclusive ends, neither clipped nor
    checked. Those that are dear to read are remembered in ``cache``, where one is given.

    None where the dataset has no box file at all. Tiny-ImageNet's inclusive ends are already moved by one, and a
    table's boxes on turned pictures are those of the stored pixels.
    """
    found = KINDS[config.kind].reader().read_boxes(dataset, records, cache)
    return boxes_of(records, found) if isinstance(found, dict) else found


def read_pixel_boxes(
    config: DatasetConfig, dataset: Dataset, records: Records, cache: Path | None = None
) -> PixelBoxes | None:
    """As :func:`read_boxes`, by path, of those images that have any."""
    found = read_boxes(config, dataset, records, cache)
    return None if found is None else found.by_path(records)


def _require_sound(dataset: Dataset, kind: Kind) -> None:
    """What every dataset must hold, whatever its kind: class names and image paths that are each there once and can be
    written down, paths that stay inside the root, labels that are classes, a file for every image, images in both
    splits.

    Raises:
        ValueError: names the file that says otherwise, its line where there is one, and the remedy.
    """
    images = _list_of(dataset, kind.images_listed_in)
    classes = _list_of(dataset, kind.classes_listed_in)
    for split in (TRAIN, TEST):
        if not getattr(dataset, split):
            raise ValueError(
                f"dataset {kind.name} at {dataset.source}: no {split} images; expected {kind.layout}"
                + ("" if kind.marker else "; it has no row" + ("" if not dataset.classes else f" of split {split}"))
            )
    _require_once(dataset.classes, "class", classes)
    broken = next((name for name in dataset.classes if LINE_BREAKING.search(name)), None)
    if broken is not None:
        raise ValueError(f"{_named(classes, broken)}: the class {broken!r} cannot be written in one line: rename it")
    labels, paths = dataset.images.labels, dataset.images.all_paths
    assert ((labels >= 0) & (labels < len(dataset.classes))).all(), "a reader gives the index of a class"
    unsound = next((path for path in paths if not _is_plain(path)), None)
    if unsound is not None:
        raise ValueError(
            f"{_named(images, unsound)}: the image {unsound!r} leaves the dataset's folder, or is no plain path: "
            "give a path relative to it, without '.', '..' and control characters"
        )
    if _may_repeat(paths):
        _require_once(paths, "image", images)
    _require_encodable(paths, images)
    if images.is_file():
        _require_files(dataset.root, paths, images)


def _is_plain(path: str) -> bool:
    """Whether a path is relative, stays inside its root, is written in one way alone, and stands in one line."""
    parts = f"/{path}/"
    if "//" in parts or "/./" in parts or "/../" in parts:
        return False
    return path.isprintable() or not LINE_BREAKING.search(path)


def _list_of(dataset: Dataset, listed_in: str | None) -> Path:
    """The file that names images or classes, or the folder whose entries do."""
    return dataset.root / listed_in if listed_in else dataset.source


def _named(file: Path, name: str) -> str:
    return named_in(file, name) if file.is_file() else str(file)


def _require_once(names: Sequence[str], what: str, file: Path) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"{_named(file, twice)}: the {what} {twice} is there twice: keep one")


def _may_repeat(paths: Texts) -> bool:
    """Whether two paths may be equal: their hashes, of which a million take little room, are."""
    hashes = np.sort(np.fromiter(map(hash, paths), np.int64, len(paths)))
    return bool((hashes[1:] == hashes[:-1]).any())


def _require_encodable(paths: Texts, file: Path) -> None:
    if paths.is_ascii:
        return
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{file}: the name of image {path!r} is not UTF-8: rename the file") from error


def _require_files(root: Path, paths: Iterable[str], file: Path) -> None:
    """See that what a list names is there. Folders have been read, so that what they gave is."""
    prefix = f"{root}/"
    for path in paths:
        if not os.path.isfile(prefix + path):  # noqa: PTH113 - called a hundred thousand times; Path takes thrice as long
            raise ValueError(
                f"{_named(file, path)}: the image {path} does not exist below {root}{near(root / path)}: "
                "put it back, or correct or remove the line"
            )


SYNTHETIC_TABLE = "dataset.csv"


def _drawn(config: SyntheticDataset, cache: Path) -> Path:
    from lchp.data import synthetic  # loaded only by those who draw

    # The drawing code is part of the identity: a set drawn by another version is never taken for this one.
    code = hashlib.sha256(Path(synthetic.__file__).read_bytes()).hexdigest()
    identity = json.dumps([code, config.model_dump(mode="json")], sort_keys=True)
    folder = cache / "synthetic" / hashlib.sha256(identity.encode()).hexdigest()[:16]
    return build_once(folder, lambda part: synthetic.draw_dataset(config, part)) / SYNTHETIC_TABLE


def _source(config: FilesDataset, kind: Kind, cache: Path) -> Path:
    """The file that lists the dataset, or its root: the configured folder or the only one right inside that has the
    kind's marker.
    """
    path = config.path
    if path is None or not path.exists():
        raise _missing(kind, "no path is given" if path is None else f"{path} does not exist")
    if kind.marker is None:
        if not path.is_file():
            raise _missing(kind, f"{path} is {'a folder' if path.is_dir() else 'no plain file'}")
        return path
    folder = path
    if path.is_file():
        if not (kind.archives and is_archive(path)):
            raise _missing(
                kind, f"{path} is none of {', '.join(SUFFIXES)}" if kind.archives else f"{path} is not a folder"
            )
        folder = extracted(path, cache)
    elif not path.is_dir():
        raise _missing(kind, f"{path} is neither a folder nor a plain file")
    if (folder / kind.marker).exists():
        return folder
    inner = [child for child in sorted(folder.iterdir()) if (child / kind.marker).exists()]
    if len(inner) != 1:
        found = f"{len(inner)} folders with" if inner else "no"
        raise _missing(kind, f"{path} holds {found} {kind.marker}{_in_cache(folder)}")
    return inner[0]


def _in_cache(source: Path) -> str:
    """What else may be wrong with a dataset that the cache holds, for messages."""
    folder = made_once(source)
    return (
        "" if folder is None else f"; if something was changed there since, delete {folder}, which is then made again"
    )


def _missing(kind: Kind, found: str) -> ValueError:
    return ValueError(f"dataset {kind.name}: {found}. Give --data PATH or dataset.path; expected {kind.layout}")
