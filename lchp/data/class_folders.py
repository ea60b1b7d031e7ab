"""Pictures in a folder for each class: what of a folder is a class, and what is not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lchp.data.collections import Collection, Found, Pictures, left_out
from lchp.data.listing import IMAGE_ENDINGS
from lchp.errors import first_of
from lchp.vocabulary import TEST, TRAIN, VAL

CLASS_FOLDERS = "class folders"
_SHOWN = 3
WRITTEN = frozenset({"analysis", "cache", "mlartifacts", "mlruns"})
"""Folders that hold what lchp and MLflow write, figures of results among it; hidden ones are never looked into."""
_SPLIT_FOLDERS = {
    TRAIN: TRAIN, "training": TRAIN, VAL: VAL, "valid": VAL, "validation": VAL, TEST: TEST, "testing": TEST,
}  # fmt: skip


def class_folders(folder: Path, pictures: Pictures) -> Collection | None:
    """Pictures in a folder for each class, which may lie in one for each split; None where none lie so.

    Raises:
        ValueError: some pictures lie below a split and others do not.
    """
    parts = {path: path.split("/") for path in pictures.paths}
    written = {path: names for path, names in parts.items() if not WRITTEN.isdisjoint(names[:-1])}
    deep = {path: names for path, names in parts.items() if len(names) > 1 and path not in written}
    if not deep:
        return None
    split_folders = {names[0] for names in deep.values() if names[0].lower() in _SPLIT_FOLDERS}
    if split_folders:
        others = sorted({names[0] for names in deep.values()} - split_folders)
        if others:
            raise ValueError(
                f"{folder}: holds {first_of(sorted(split_folders), _SHOWN)} and {first_of(others, _SHOWN)}: give every "
                "class folder a place below a split, or none"
            )
        found = [
            Found(path, names[1], _SPLIT_FOLDERS[names[0].lower()]) for path, names in deep.items() if len(names) > 2
        ]
    else:
        found = [Found(path, names[0]) for path, names in deep.items()]
    if not found:
        return None
    used = {image.path for image in found}
    above = 2 if split_folders else 1
    deeper = [path for path in sorted(used) if len(parts[path]) > above + 1]
    told = left_out((path for path in parts if path not in used | written.keys()), "pictures lie in no class folder")
    told += left_out(sorted(written), f"pictures lie in folders that lchp writes ({', '.join(sorted(WRITTEN))})")
    told += left_out(deeper, "pictures lie deeper than right in the folder of their class")
    told += left_out(
        _not_written(path for path in pictures.others if "/" in path),
        f"files have no ending of a picture ({', '.join(IMAGE_ENDINGS)})",
    )
    told += left_out(_not_written(pictures.bare), "folders hold no picture")
    return Collection(CLASS_FOLDERS, tuple(found), told=told)


def _not_written(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if WRITTEN.isdisjoint(path.split("/"))]
