"""Where the records of a report's trials are: in the store beside the study's folder, or packed with it in records.zip.

The archive holds what the tables, figures and statistics are made from, and no network: it is small enough to be kept
with a study's tables where the store is not, and its bytes depend on nothing but the records.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lchp.data.files import replacing
from lchp.data.scratch import scratch_folder
from lchp.reporting.contents import Contents
from lchp.store.folder import StageFolder
from lchp.store.study_folder import StudyFolder, store_of

_NO_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest that a ZIP archive can say."""


def pack(contents: Contents, store: Path, out: Path) -> None:
    """Write the records of all trials, and the first one's picture, into one archive.

    Raises:
        ValueError: a trial lacks one.
    """
    with replacing(out) as part, zipfile.ZipFile(part, "w") as archive:
        for number, place in enumerate(contents.places()):
            stage = StageFolder(store / place)
            for file in stage.records():
                if file != stage.picture or number == 0:
                    entry = zipfile.ZipInfo(f"{place}/{file.name}", _NO_TIME)
                    archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)


@contextmanager
def opened(folder: Path, contents: Contents) -> Iterator[Path]:
    """The folder below which the places of a report's trials lie; a packed one is there as long as the block runs.

    Raises:
        ValueError: the records of a trial are in neither, or damaged.
    """
    store, packed = store_of(folder.parent), StudyFolder(folder).records
    missing = [place for place in contents.places() if not StageFolder(store / place).done]
    if not missing:
        lines = [line for place in contents.places() if (line := StageFolder(store / place).complaint) is not None]
        if lines:
            raise ValueError("\n".join(lines))
        yield store
    elif packed.is_file():
        with scratch_folder() as unpacked:
            try:
                with zipfile.ZipFile(packed) as archive:
                    archive.extractall(unpacked)
            except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
                raise ValueError(f"{packed} is damaged ({error}): restore it") from error
            yield unpacked
    else:
        raise ValueError(
            f"{store / missing[0]}: holds no finished trial, and there is no {packed}: bring the store of the study "
            "back, or run it again"
        )
