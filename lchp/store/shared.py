"""What machines leave for each other of their stages, at a URI: in a bucket, or on a mount that all of them have.

Each machine trains in a store of its own and leaves copies here. Nothing is locked, since network file systems do not
honour locks, and nothing is changed in place: a file lies under its digest, and a *pointer*, the last to be written, in
one piece, lists the files of one stage with sizes and digests. Two machines that made the same leave files side by
side, and the pointer names those of one. What is brought from here is checked by its digest.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from lchp.data.files import as_json, replacing
from lchp.errors import shown as without_password
from lchp.store import file_system
from lchp.store.checks import Damaged, check_listed, described

Answer = TypeVar("Answer")
Listed = Mapping[str, Mapping[str, Any]]
"""Of every file ``bytes`` and ``sha256``."""

_PAUSES = (1.0, 5.0)
"""Seconds after which a store that is away is asked again."""
_LOOKS = 5
"""How often what a pointer lists is looked for while others replace that pointer."""
_DIGITS = 16
"""Of a digest, in the name of a file: who wants all of it reads the pointer."""


class StoreAway(OSError):
    """The shared store did not do what was asked, several times in a row; says which, and why."""


@dataclass(frozen=True)
class SharedFolder:
    """A folder of the shared store at ``uri``, ``place`` in it; it has no folder of a machine's own in mind."""

    uri: str
    place: str

    def has(self, pointer: str) -> bool:
        """Whether there is a pointer of that name. StoreAway where that cannot be told."""
        return _ask(self.uri, lambda files, root: file_system.is_there(files, f"{root}/{self.place}/{pointer}"))

    def names(self) -> list[str]:
        """The names of what lies in the folder. StoreAway as above."""
        return _ask(self.uri, lambda files, root: file_system.names(files, f"{root}/{self.place}"))

    def leave(self, folder: Path, pointer: str, names: Sequence[str]) -> None:
        """Copy these files of ``folder`` here, then the pointer to them; what an earlier one of its name pointed to and
        this one does not, goes.

        Raises:
            StoreAway: the store does not take them.
            OSError: one cannot be read here.
        """
        listed = {name: described(folder / name) for name in names}

        def copy(files: Any, root: str) -> None:
            here = f"{root}/{self.place}"
            files.create_dir(here, recursive=True)
            before = _listed(file_system.read(files, f"{here}/{pointer}"))
            for name, one in listed.items():
                target = f"{here}/{_stored(name, one)}"
                if files.get_file_info(target).size != one["bytes"]:
                    with file_system.replacing(files, target) as stream:
                        for block in file_system.blocks(folder / name):
                            stream.write(block)
            file_system.write(files, f"{here}/{pointer}", as_json(listed))
            file_system.sweep(files, here)
            for name, one in before.items():
                if listed.get(name) != one:
                    file_system.remove(files, f"{here}/{_stored(name, one)}")

        _ask(self.uri, copy)

    def bring(self, folder: Path, pointer: str, say: Callable[[str], None], with_pointer: bool = True) -> bool:
        """Copy what a pointer lists into ``folder``, the pointer itself last; gives whether it is there now.

        What is missing or not what was left is told of and set aside with its pointer: it is made again by whoever
        needs it.

        Raises:
            StoreAway: it cannot be read.
            OSError: it cannot be written here.
        """
        for _ in range(_LOOKS):
            text = self._text(pointer)
            if text is None:
                return False
            listed = _listed(text)
            try:
                if not listed:
                    raise Damaged(Path(pointer), "is no list of files")
                self._copy(listed, folder, (pointer, text) if with_pointer else None)
            except Damaged as damage:
                # The files of a pointer go when another takes its place: then those of that one are looked for.
                if self._text(pointer) == text:
                    self._set_aside(pointer, listed, damage.fault)
                    say(f"{shown(self.uri)}/{self.place}: {damage.fault}: set aside there, made again")
                    return False
            else:
                return True
        return False

    def drop(self, pointer: str) -> None:
        """Remove a pointer and its files, if they are there. StoreAway as above."""

        def remove(files: Any, root: str) -> None:
            here = f"{root}/{self.place}"
            listed = _listed(file_system.read(files, f"{here}/{pointer}"))
            file_system.remove(files, f"{here}/{pointer}")
            for name, one in listed.items():
                file_system.remove(files, f"{here}/{_stored(name, one)}")

        _ask(self.uri, remove)

    def _text(self, pointer: str) -> str | None:
        return _ask(self.uri, lambda files, root: file_system.read(files, f"{root}/{self.place}/{pointer}"))

    def _copy(self, listed: Listed, folder: Path, pointer: tuple[str, str] | None) -> None:
        """Every file under a temporary name; then, if all are what is listed, in place."""
        with ExitStack() as stack:
            # They take their places in reverse order.
            parts = {name: stack.enter_context(replacing(folder / name)) for name in [*(pointer or ())[:1], *listed]}
            if pointer is not None:
                parts[pointer[0]].write_text(pointer[1], encoding="utf-8", newline="")
            for name, one in listed.items():
                self._fetch(name, one, parts[name])

    def _fetch(self, name: str, one: Mapping[str, Any], part: Path) -> None:
        def copy(files: Any, root: str) -> None:
            path = f"{root}/{self.place}/{_stored(name, one)}"
            if not file_system.is_there(files, path):
                raise Damaged(Path(name), "is missing")
            with files.open_input_stream(path) as stream:
                file_system.keep(stream, part)

        _ask(self.uri, copy)
        try:
            check_listed(part, one, digest=True)
        except Damaged as damage:
            raise Damaged(Path(name), damage.fault.removeprefix(part.name).strip()) from None

    def _set_aside(self, pointer: str, listed: Listed, fault: str) -> None:
        """The pointer, and the file that is damaged, under other names; the files beside are found again by digest."""
        damaged = [_stored(name, one) for name, one in listed.items() if fault.startswith(f"{name} ")]

        def move(files: Any, root: str) -> None:
            here = f"{root}/{self.place}"
            for name in (pointer, *damaged):
                if file_system.is_there(files, f"{here}/{name}"):
                    aside = (f"{here}/{name}.damaged-{number}" for number in count(1))
                    files.move(f"{here}/{name}", next(path for path in aside if not file_system.is_there(files, path)))

        _ask(self.uri, move)


def shown(uri: str) -> str:
    """``uri`` without the keys that it may hold."""
    return without_password(uri).partition("?")[0].rstrip("/")


def resolved(uri: str) -> str:
    """The URI that is meant: the path of a folder is absolute, since other processes stand elsewhere."""
    return uri if "://" in uri else str(Path(uri).absolute())


def require_store(uri: str) -> None:
    """See that files can be written to a shared store, read and removed.

    Raises:
        ValueError: they cannot, or nothing installed here knows such URIs; names the remedy.
    """
    probe = f".probe-{uuid.uuid4().hex}"
    try:
        files, root = file_system.opened(uri)
        files.create_dir(root, recursive=True)
        file_system.write(files, f"{root}/{probe}", "lchp")
        if file_system.read(files, f"{root}/{probe}") != "lchp":
            raise OSError("what was written is not what is read")
        file_system.remove(files, f"{root}/{probe}")
    except Exception as error:  # libraries of object stores raise whatever they meet
        raise ValueError(
            f"--store {shown(uri)}: cannot be used ({_reason(error)}): give a folder that all machines have, or the "
            "URI of a bucket (s3://BUCKET/FOLDER, gs://..., or any that fsspec knows), its keys in the environment"
        ) from error


def _ask(uri: str, question: Callable[[Any, str], Answer]) -> Answer:
    """What a question says of the file system of a store and the path of its root; asked again where it is away."""
    for pause in (*_PAUSES, None):
        try:
            return question(*file_system.opened(uri))
        except Damaged:
            raise
        except file_system.Here as here:
            raise here.error from None
        except Exception as error:  # as in require_store
            if pause is None:
                raise StoreAway(f"the shared store {shown(uri)} cannot be used ({_reason(error)})") from error
        time.sleep(pause)
    raise AssertionError("the last try gives or raises")


def _listed(text: str | None) -> dict[str, dict[str, Any]]:
    """What a pointer lists; nothing where it is damaged."""
    try:
        plain = json.loads(text or "{}")
    except ValueError:
        return {}
    good = isinstance(plain, dict) and all(
        isinstance(one, dict) and one.keys() == {"bytes", "sha256"} and Path(name).name == name
        for name, one in plain.items()
    )
    return plain if good else {}


def _stored(name: str, one: Mapping[str, Any]) -> str:
    """The name under which a file lies."""
    return f"{one['sha256'][:_DIGITS]}.{name}"


def _reason(error: Exception) -> str:
    return without_password(str(error).strip() or type(error).__name__).splitlines()[0][:300]
