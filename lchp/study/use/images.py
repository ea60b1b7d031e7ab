"""The image files that the words of a command line mean: files, folders, patterns, a list on standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lchp.data.listing import IMAGE_ENDINGS, near, scan
from lchp.errors import Refusal, first_of

LIST = "-"
"""The word for a list on standard input."""
_TOLD = 5


@dataclass(frozen=True)
class Given:
    """The paths of the images as they were named, each once, in the order in which they were, those of a folder in the
    order of their paths; and how many were named again.
    """

    images: tuple[str, ...]
    repeated: int


def given_images(words: Sequence[str], listed: Iterable[str] = ()) -> Given:
    """The images that words mean: a file, whatever its name; a folder, with those below it that are named like images,
    hidden ones left out; a pattern (``*``, ``?``, ``[...]``, ``**`` for folders of any depth); and ``-``, where the
    files of ``listed`` are.

    Raises:
        Refusal: something is not there or no plain file, a folder holds no image, a pattern fits nothing, or there is
            no image at all.
    """
    faults: list[str] = []
    found: dict[str, str] = {}
    count = 0
    for word in words:
        several = (image for name in listed for image in _file(name, faults)) if word == LIST else _meant(word, faults)
        for image in several:
            count += 1
            found.setdefault(os.path.abspath(image), image)  # noqa: PTH100 - a link stays another name
    if faults:
        raise Refusal("\n".join(faults[:_TOLD]) + (f"\nand {len(faults) - _TOLD} more" if len(faults) > _TOLD else ""))
    if not found:
        raise Refusal("no image is named: give files, folders, patterns in quotes, or `-` and a list on standard input")
    return Given(tuple(found.values()), count - len(found))


def _meant(word: str, faults: list[str]) -> Iterator[str]:
    if os.path.isdir(word):  # noqa: PTH112 - Path.is_dir raises where a name is too long for a file
        yield from _in_folder(word, faults)
    elif not os.path.lexists(word) and glob.has_magic(word):
        names = [name for name in glob.glob(word, recursive=True) if not os.path.isdir(name)]  # noqa: PTH112, PTH207
        if not names:
            faults.append(f"{word}: no file fits the pattern: look at it with ls, and keep it in quotes")
        # By way of a link that leads back `**` gives a file again, under a longer name.
        files: dict[str, str] = {}
        for name in sorted(names, key=lambda name: (name.count("/"), name)):
            files.setdefault(os.path.realpath(name), name)
        for name in sorted(files.values()):
            yield from _file(name, faults)
    else:
        yield from _file(word, faults)


def _file(name: str, faults: list[str]) -> Iterator[str]:
    if os.path.isfile(name):  # noqa: PTH113
        yield name
    elif os.path.isdir(name):  # noqa: PTH112
        faults.append(f"{name}: is a folder: a list names files")
    elif os.path.exists(name):  # noqa: PTH110
        faults.append(f"{name}: is no plain file: name one")
    else:
        faults.append(f"{name or repr(name)}: there is no such file{near(Path(name)) if name else ''}")


def _in_folder(word: str, faults: list[str]) -> Iterator[str]:
    try:
        names = sorted(_below(Path(word), PurePosixPath(), frozenset()))
    except OSError as error:
        faults.append(f"{error.filename}: {error.strerror}: make it readable, or name other images")
        return
    if not names:
        faults.append(f"{word}: the folder holds no image ({first_of(IMAGE_ENDINGS, len(IMAGE_ENDINGS))})")
    for name in names:
        yield os.path.join(word, name)  # noqa: PTH118 - Path would drop a leading ./


def _below(folder: Path, place: PurePosixPath, around: frozenset[str]) -> Iterator[str]:
    """The paths of the images below a folder, from there; a link that leads back is not followed again."""
    real = os.path.realpath(folder)
    if real in around:
        return
    found = scan(folder)
    yield from (str(place / name) for name in found.images if (folder / name).is_file())
    for name in found.folders:
        yield from _below(folder / name, place / name, around | {real})
