"""A study removed: its folder, and the stages that no other study has."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lchp.errors import Refusal
from lchp.store.in_use import alone_in, require_unused
from lchp.store.leftovers import sweep_removed
from lchp.store.study_folder import StudyFolder, store_of
from lchp.study.kept.collect import remove_place, require_idle
from lchp.study.kept.needs import found_study, places_of, places_of_all, studies_in
from lchp.study.kept.sizes import bytes_of, shown_size
from lchp.study.run.ownership import alone


@dataclass(frozen=True)
class Removal:
    """What goes with a study."""

    study: Path
    own: int
    """Bytes of its folder."""
    stages: tuple[Path, ...]
    """The folders in the store that no other study has."""
    trained: int
    """Bytes of those."""
    shared: int
    """How many of its stages other studies have, which stay."""
    damaged: str | None = None
    """Why its trials cannot be told, and so no stage goes with it."""

    def __str__(self) -> str:
        if self.damaged is not None:
            return (
                f"{self.study} with all that lies in it ({shown_size(self.own)}), and no stage of the store, since its "
                f"trials cannot be told ({self.damaged}): `lchp study gc` then takes those that no study has"
            )
        stay = f"; {self.shared} stages stay, which other studies have" if self.shared else ""
        return (
            f"{self.study} with all that lies in it ({shown_size(self.own)}), and {len(self.stages)} stages of the "
            f"store that no other study has ({shown_size(self.trained)}){stay}"
        )


def study_folder(place: Path, output: Path) -> Path:
    """The folder of the study that is named, a folder or a name in ``output``.

    Raises:
        Refusal: no study was run there.
    """
    folder = found_study(place, output)
    if folder.is_symlink():
        raise Refusal(f"{folder}: is a link: name the folder itself")
    return folder.resolve()  # that of `..` has no parent of the same name


def removal(study: Path) -> Removal:
    """What goes with the study in a folder.

    Raises:
        Refusal: a study is running there, or anything else that uses the store; the trials of another cannot be told.
    """
    require_unused(store_of(study.parent))
    return _removal(study)


def _removal(study: Path) -> Removal:
    studies = studies_in(study.parent)
    require_idle({study, *studies})
    try:
        store, own = store_of(study.parent), places_of(study)
    except Refusal as error:
        return Removal(study, bytes_of(study), (), 0, 0, str(error))
    others = places_of_all(other for other in studies if other != study)
    stages = tuple(store / place for place in sorted(own - others) if (store / place).is_dir())
    shared = sum((store / place).is_dir() for place in own & others)
    return Removal(study, bytes_of(study), stages, sum(map(bytes_of, stages)), shared)


def remove_study(study: Path, say: Callable[[str], None], forget: Callable[[], None]) -> Removal:
    """Remove a study, after what ``forget`` removes of it elsewhere; gives what went, which need not be what
    :func:`removal` told before. After a kill in between the same command goes on: the list of its trials goes last.

    Raises:
        Refusal: as :func:`removal`; nothing was removed.
    """
    files = StudyFolder(study)
    with ExitStack() as stack:
        stack.enter_context(alone_in(store_of(study.parent)))
        what = _removal(study)
        stack.enter_context(alone(study))
        forget()
        sweep_removed(store_of(study.parent))
        for stage in what.stages:
            try:
                remove_place(stage)
            except BlockingIOError:
                say(f"{stage}: a process is at work on it: left")
        last = (files.ledger, files.lock)
        for path in study.iterdir():
            if path not in last:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for path in last:
            path.unlink(missing_ok=True)
        study.rmdir()
    return what
