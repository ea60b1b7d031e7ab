"""What no study needs any more: found, told, removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from lchp.data.files import left_parts
from lchp.data.locks import locked
from lchp.data.scratch import LOCK, is_left
from lchp.errors import Refusal
from lchp.store.folder import REMOVED, StageFolder
from lchp.store.in_use import alone_in, require_unused
from lchp.store.leftovers import left_in
from lchp.store.study_folder import REPETITION, StudyFolder, store_of
from lchp.study.kept.needs import places_of_all, studies_in
from lchp.study.kept.sizes import bytes_of, shown_size
from lchp.study.run.ledger import ENDED, read
from lchp.study.run.ownership import is_running
from lchp.vocabulary import INITIALIZATION, OUT_OF_FOLD

STAGES = ("trial", INITIALIZATION, "reference", OUT_OF_FOLD)
"""The folders of a store that hold stages."""
MILESTONES = "milestones"
_ASIDE = "*.damaged-*"
_LEFT = "left by a process that was killed"
_SHOWN = 20


@dataclass(frozen=True)
class Unneeded:
    """A file or folder that nobody needs, why, and its bytes."""

    path: Path
    why: str
    size: int
    lock: Path | None = None
    """Held by who may be writing it, of another machine, too: a temporary file does not say whether it still is."""


def unneeded(output: Path, keep_milestones: bool = False) -> list[Unneeded]:
    """What lies in ``output`` that no study there needs: stages that no study has, the states of finished trainings
    that longer ones would go on from (unless ``keep_milestones``, or a trial is unfinished), lists of images that no
    stage was trained on, what was set aside as damaged, and what killed processes have left.

    Raises:
        Refusal: a study is running, or anything else that uses the store; the list of a study's trials is damaged.
    """
    require_unused(store_of(output))
    return _unneeded(output, keep_milestones)


def _unneeded(output: Path, keep_milestones: bool) -> list[Unneeded]:
    studies, store = studies_in(output), store_of(output)
    require_idle(studies)
    needed = places_of_all(studies)
    found = [*_of_studies(studies), *_of_stages(store, needed), *_lists(store, needed)]
    for folder in sorted(output.glob(f"{REPETITION}*/")):
        if folder.name.endswith(REMOVED) or is_left(folder):
            found += _of([folder], _LEFT, folder / LOCK)
    unfinished = any(entry.state not in ENDED for study in studies for entry in read(study))
    for folder in sorted(store.glob(f"{MILESTONES}/*/")):
        if folder.name.endswith(REMOVED):
            found += _of([folder], _LEFT)
        elif keep_milestones or unfinished:
            found += _of(sorted(folder.glob(_ASIDE)), "set aside as damaged")
        else:
            found += _of([folder], "for longer trainings alone: every trial is finished")
    return found


def require_idle(studies: Iterable[Path]) -> None:
    """See that no study is running. Refusal names one that is."""
    for study in studies:
        if is_running(study):
            raise Refusal(f"{study}: a process is running this study: wait for it, or stop it")


def _of(paths: Iterable[Path], why: str, lock: Path | None = None) -> list[Unneeded]:
    return [Unneeded(path, why, bytes_of(path), lock) for path in paths]


def _of_studies(studies: Sequence[Path]) -> Iterator[Unneeded]:
    for study in studies:
        for folder in (study, StudyFolder(study).runs):
            yield from _of(sorted(folder.glob(_ASIDE)), "set aside as damaged")
            yield from _of(left_parts(folder), _LEFT, StudyFolder(study).lock)


def _of_stages(store: Path, needed: frozenset[str]) -> Iterator[Unneeded]:
    for folder in sorted(folder for kind in STAGES for folder in store.glob(f"{kind}/*/")):
        if ".damaged-" in folder.name:
            yield from _of([folder], "set aside as damaged")
        elif f"{folder.parent.name}/{folder.name}" not in needed:
            yield from _of([folder], "no study has it")
        else:
            yield from _of(left_in(folder), _LEFT, StageFolder(folder).lock_file)


def _lists(store: Path, needed: frozenset[str]) -> list[Unneeded]:
    """The lists of datasets of which no needed stage is; none while one of them does not say which it is of."""
    from lchp.store.datasets import dataset_of

    kept = set[str]()
    for place in needed:
        stage = StageFolder(store / place)
        if stage.path.is_dir():
            try:
                kept.add(dataset_of(stage))
            except ValueError:
                return []
    files = sorted((store / "datasets").glob("*"))
    return _of([file for file in files if file.name.partition(".")[0] not in kept], "no study has its images")


def remove(several: Sequence[Unneeded], output: Path, say: Callable[[str], None], keep_milestones: bool = False) -> int:
    """Remove what nobody needed when :func:`unneeded` told of it, and nobody needs now; gives the bytes. What a process
    holds, or cannot be removed, is told of and left.

    Raises:
        Refusal: as :func:`unneeded`.
    """
    freed = 0
    with alone_in(store_of(output)):
        now = {one.path for one in _unneeded(output, keep_milestones)}
        for one in several:
            try:
                if one.path in now:
                    with nullcontext() if one.lock is None else locked(one.lock, wait=False):
                        remove_place(one.path)
                    freed += one.size
                else:
                    say(f"{one.path}: is needed by now, or gone: left")
            except BlockingIOError:
                say(f"{one.path}: a process is at work on it: left")
            except OSError as error:  # another user's, for instance
                say(f"{one.path}: cannot be removed ({error}): left")
    return freed


def remove_place(path: Path) -> None:
    """Remove a file, or a folder of a store, which is held meanwhile.

    Raises:
        BlockingIOError: another process holds the folder.
    """
    if path.is_dir() and not path.is_symlink():
        StageFolder(path).remove()
    else:
        path.unlink(missing_ok=True)
    with suppress(OSError):  # others lie beside it
        path.parent.rmdir()


def told(several: Sequence[Unneeded], output: Path) -> str:
    """What nobody needs, for people: the largest first, and the sum."""
    if not several:
        return f"{output}: there is nothing that no study needs"
    ordered = sorted(several, key=lambda one: -one.size)
    lines = [f"{shown_size(one.size):>10}  {one.path}: {one.why}" for one in ordered[:_SHOWN]]
    if len(ordered) > _SHOWN:
        rest = sum(one.size for one in ordered[_SHOWN:])
        lines.append(f"{shown_size(rest):>10}  {len(ordered) - _SHOWN} more")
    return "\n".join([*lines, f"{shown_size(sum(one.size for one in several)):>10}  in all"])
