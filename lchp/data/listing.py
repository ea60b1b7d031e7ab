"""Lists and folders of the original layouts: the lines of a text file, and what of a folder is an image."""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lchp.data.files import read_utf8

IMAGE_ENDINGS = (".jpeg", ".jpg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
"""Endings, in any case, by which a folder's images are known; decoding then follows the content."""

LITTER = ("__macosx", "thumbs.db", "desktop.ini")
"""Names in lower case that systems leave behind without hiding them by a dot."""


KINDS_OF_COLLECTIONS = ("csv", "coco", "voc", "yolo", "folders")
"""How people have pictures of their own, in the order in which they are looked for: see ``lchp.data.collections``."""

ONE_CLASS = "one class alone teaches a classifier nothing: give pictures of a second class, too"


NOT_IN_A_LINE = r"\x00-\x1f\x7f\x85\u2028\u2029"
"""What no line of a list can hold, for a regular expression's brackets: control characters and ends of lines."""
LINE_BREAKING = re.compile(f"[{NOT_IN_A_LINE}]")
"""One of these characters."""


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden (``._cat.JPEG``, ``.ipynb_checkpoints``), or left behind by a system."""
    return name.startswith(".") or name.lower() in LITTER


def is_image(name: str) -> bool:
    """Whether a file is named like an image."""
    return name.lower().endswith(IMAGE_ENDINGS)


@dataclass
class Folder:
    """The names right inside a folder, each sorted."""

    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Litter, and files that are not named like images."""


def scan(folder: Path) -> Folder:
    """What lies right inside ``folder``. Nothing is opened: ImageNet has more than a million entries."""
    found = Folder()
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if is_litter(name):
                found.others.append(name)
            elif _is_folder(entry):
                found.folders.append(name)
            else:
                (found.images if is_image(name) else found.others).append(name)
    for names in (found.images, found.folders, found.others):
        names.sort()
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False  # a link that leads to itself is a broken one


def lines(file: Path, origin: str) -> list[tuple[int, str]]:
    """Number and text of every line that is not empty, without its line end, a byte order mark and outer spaces.

    Raises:
        ValueError: it is missing (``origin`` says where to take it from), a folder, or not UTF-8.
    """
    if not file.is_file():
        fault = "is a folder" if file.is_dir() else "is no plain file" if os.path.lexists(file) else "is missing"
        raise ValueError(f"{file} {fault}: restore it from {origin}")
    text = read_utf8(file).removeprefix("\ufeff")
    found = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(number, line.strip()) for number, line in enumerate(found, 1) if line.strip()]


def columns_are(names: Sequence[str]) -> str:
    """``column x1 is``, or ``columns x1 and y1 are``: how a message begins that goes on with what is wrong."""
    *first, last = names
    return f"columns {', '.join(first)} and {last} are" if first else f"column {last} is"


def named_in(file: Path, name: str) -> str:
    """``<file>, lines 3 and 7``: where a text file names an image or class, for messages; else the file alone.

    Lists give paths from a folder of their own: the longest end of ``name`` that the file holds counts. Of a class that
    is ``<id> <name>`` a list may hold the id alone.
    """
    parts = name.split("/")
    text = lines(file, "its source")
    for end in (*("/".join(parts[start:]) for start in range(len(parts))), name.split(" ")[0]):
        word = re.compile(rf"(?<![\w./-]){re.escape(end)}(?![\w./-])")
        found = [str(number) for number, line in text if word.search(line)]
        if found:
            return f"{file}, line{'s' if len(found) > 1 else ''} {' and '.join(found[:3])}"
    return str(file)


def near(file: Path) -> str:
    """Why a file that a list names is not found, where that can be seen; for messages, else empty."""
    if os.path.isdir(file):  # noqa: PTH112 - Path.is_dir raises where the name is too long for a file
        return " (a folder of that name is there)"
    if "\\" in file.name and (file.parent / file.name.replace("\\", "/")).is_file():
        return " (write / for \\)"
    try:
        names = sorted(other.name for other in file.parent.iterdir())
    except OSError:
        return ""
    if file.name in names:
        return " (what is there is a broken link, or no plain file)"
    alike = {
        "upper and lower case, or the way of writing accents, differ": lambda name: _folded(name) == _folded(file.name),
        "the ending differs": lambda name: Path(name).stem == file.stem,
    }
    for why, is_alike in alike.items():
        found = next(filter(is_alike, names), None)
        if found is not None:
            return f" ({found!r} is: {why})"
    return ""


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def alike(classes: Sequence[str]) -> list[str]:
    """A line for classes that are perhaps one."""
    of_one: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        of_one[" ".join(_folded(name).split())].append(name)
    how = "case, spaces or the way of writing accents"
    return [
        f"classes that differ in {how} alone: {', '.join(map(_told_apart(names), names))}"
        for names in of_one.values()
        if len(names) > 1
    ]


def _told_apart(names: Sequence[str]) -> Callable[[str], str]:
    """How names are shown, so that no two look alike."""
    return repr if len({unicodedata.normalize("NFC", name) for name in names}) == len(names) else ascii
