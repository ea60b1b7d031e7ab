"""A study as one file: a ZIP archive of its folder and of the stages of its trials, the same bytes for the same study.

``archive.json``, its last entry, lists every other with size and digest. Of the paths that a configuration gives, where
data or weights lie, the last part alone is kept, and digests say which they were. Whatever lies in the study's folder,
or in a folder there, goes along, whoever put it there: but for the log, what is hidden or was set aside as damaged, and
what :func:`is_placed` does not take, which is told.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from lchp.at_work import doing
from lchp.data.files import as_json, replacing
from lchp.data.fingerprint import fingerprint
from lchp.errors import Refusal
from lchp.store.checks import read_object
from lchp.store.folder import CONFIG, MANIFEST, StageFolder
from lchp.store.study_folder import WRITTEN, StudyFolder, store_of
from lchp.study.kept.collect import STAGES
from lchp.study.kept.needs import places_of
from lchp.study.run.ownership import require_unchanged, unchanging
from lchp.study.spec.load import load_study
from lchp.study.spec.parse import parse
from lchp.study.spec.source import as_yaml, read
from lchp.training.config import TrialConfig
from lchp.training.given_paths import DATA_PATH, PATHS
from lchp.training.presets import PRESETS

INDEX, FORMAT, SEAL = "archive.json", "lchp-study-1", "fingerprint"
STUDY, STORE, LISTS = "study", "store", "datasets"
"""What the names of entries begin with: the study's folder, its places in the store, and there lists of images."""
_NO_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest that a ZIP archive can say."""
_PACKED = (".csv", ".json", ".md", ".tex", ".html", ".svg", ".yaml", ".journal")
_BLOCK = 1 << 20
_PATHS = tuple(f".{key}" for key in PATHS)
"""How the dotted key of a path ends: in a trial's configuration, in a study's base, and where it varies."""


_PART = re.compile(r"[\w=+-][\w.=+ -]{0,199}")


def is_placed(name: str) -> bool:
    """Whether an entry lies where one of a study does: right in its folder, in a folder there, or in the store."""
    root, *parts = name.split("/")
    if not parts or not all(_PART.fullmatch(part) and ".." not in part for part in parts):
        return False
    if root == STORE:
        return (len(parts) == 2 and parts[0] == LISTS) or (len(parts) == 3 and parts[0] in STAGES)
    return root == STUDY and len(parts) <= 2


@dataclass(frozen=True)
class _Entry:
    """A file of the archive: as it lies there, or with other content."""

    name: str
    source: Path
    content: bytes | None = None

    def blocks(self) -> Iterator[bytes]:
        if self.content is not None:
            yield self.content
            return
        with self.source.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block


def write_archive(study: Path, written: str | None, out: Path, say: Callable[[str], None]) -> int:
    """Write the study in a folder into the archive ``out``; gives its bytes. ``written`` is its YAML, where that is
    known; ``say`` is told of files that stay out.

    Raises:
        Refusal: the study is running, or a file of a finished stage is damaged.
    """
    with unchanging(study), replacing(out) as part:
        listed: dict[str, dict[str, Any]] = {}
        told = doing(lambda: f"writing {out.name}, {sum(one['bytes'] for one in [*listed.values()]) >> 20:,} MB")
        with zipfile.ZipFile(part, "w") as archive, told:
            for entry in _entries(study, written, say):
                listed[entry.name] = _add(archive, entry)
            index = {"format": FORMAT, "study": study.name, "lchp": version("lchp"), "files": listed}
            text = as_json({**index, SEAL: fingerprint(index)})
            _add(archive, _Entry(INDEX, out, text.encode()))
        return part.stat().st_size


def _add(archive: zipfile.ZipFile, entry: _Entry) -> dict[str, Any]:
    """Add a file; gives its size and digest."""
    info = zipfile.ZipInfo(entry.name, _NO_TIME)
    info.create_system, info.external_attr = 3, 0o644 << 16
    info.compress_type = zipfile.ZIP_DEFLATED if entry.name.endswith(_PACKED) else zipfile.ZIP_STORED
    info.file_size = entry.source.stat().st_size if entry.content is None else len(entry.content)
    digest, size = hashlib.sha256(), 0
    with archive.open(info, "w") as file:
        for block in entry.blocks():
            file.write(block)
            digest.update(block)
            size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _entries(study: Path, written: str | None, say: Callable[[str], None]) -> Iterator[_Entry]:
    from lchp.store.datasets import dataset_of

    store, lists = store_of(study.parent), set[str]()
    yield from _of_study(study, written, say)
    for place in sorted(places_of(study)):
        stage = StageFolder(store / place)
        if not stage.path.is_dir():
            continue
        if (fault := stage.fault()) is not None:
            raise Refusal(f"{stage.path}: {fault}: `lchp study run` makes it again")
        yield from _of_stage(stage, f"{STORE}/{place}")
        if stage.done:
            lists.add(dataset_of(stage))
    for file in sorted((store / LISTS).glob("*")):
        if file.name.partition(".")[0] in lists:
            yield _Entry(f"{STORE}/{LISTS}/{file.name}", file)


def _of_study(study: Path, written: str | None, say: Callable[[str], None]) -> Iterator[_Entry]:
    files = StudyFolder(study)
    for path in sorted(study.rglob("*")):
        name = path.relative_to(study).as_posix()
        hidden = any(part.startswith(".") or ".damaged-" in part for part in PurePosixPath(name).parts)
        # What it said, and where, is this machine's.
        if hidden or path in (files.log, files.written) or not path.is_file():
            continue
        if not is_placed(f"{STUDY}/{name}"):
            say(f"{path}: its name or its depth is none of a study's files: left out")
            continue
        is_card = path.parent == files.runs and path.suffix == ".json"
        yield _Entry(f"{STUDY}/{name}", path, _placeless(read_object(path)) if is_card else None)
    if written is not None:
        yield _Entry(f"{STUDY}/{files.written.name}", files.written, written.encode())


def _of_stage(stage: StageFolder, place: str) -> Iterator[_Entry]:
    """The files of a stage, its configuration without paths, which its manifest tells."""
    manifest, config = stage.path / MANIFEST, stage.path / CONFIG
    content = _placeless(read_object(config)) if config.is_file() else b""
    for file in stage.files():
        if file == config:
            yield _Entry(f"{place}/{file.name}", file, content)
        elif file == manifest:
            changed = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            listed = {**read_object(manifest), CONFIG: changed}
            yield _Entry(f"{place}/{file.name}", file, as_json(listed).encode())
        else:
            yield _Entry(f"{place}/{file.name}", file)


def _placeless(plain: dict[str, Any]) -> bytes:
    return as_json(without_places(plain)).encode()


def without_places(value: Any, key: str = "") -> Any:
    """Plain values, of the paths at the keys of :data:`lchp.training.given_paths.PATHS`, wherever these lie, the last
    part alone. ``key`` is the dotted one of the value.
    """
    if isinstance(value, dict):
        return {inner: without_places(item, f"{key}.{inner}") for inner, item in value.items()}
    if isinstance(value, list):
        return [without_places(item, key) for item in value]
    if isinstance(value, str) and key.endswith(_PATHS):
        return PurePosixPath(value).name
    return value


def written_study(text: str) -> str:
    """The YAML of a study for another machine: its own text, unless that names a place."""
    values, _ = parse(text, WRITTEN)
    return text if without_places(values) == values else as_yaml(without_places(values))


def written_in(study: Path, file: Path) -> str | None:
    """The YAML of a study for another machine, by its folder: what its last run or an archive has left there, else that
    of ``file``; None where neither is that very study.

    Raises:
        Refusal: what was left there is no YAML, which would be refused where it arrives.
    """
    if (kept := StudyFolder(study).written).is_file():
        read(kept)
    for written in (kept, file):
        with suppress(Refusal):
            found = load_study(written, output=study.parent)
            if found.name == study.name:
                require_unchanged(found, study)
                return written_study(found.written)
    return None


def missing_options(values: Mapping[str, Any]) -> list[str]:
    """The options by which another machine says where the files of a study lie, ``values`` being those of its file;
    that of data among them, unless it says that these are drawn. What the working folder has under its name needs none.
    """
    preset: Mapping[str, Any] = PRESETS.get(str(values.get("preset")), {})
    layers = (values.get("dataset"), preset.get("dataset"), TrialConfig.model_fields["dataset"].default.model_dump())
    kinds = (dataset.get("kind") if isinstance(dataset, Mapping) else dataset for dataset in layers)
    drawn = next(filter(None, kinds)) == "synthetic"
    needed = []
    for key in sorted(PATHS, key=lambda key: key != DATA_PATH):
        value: Any = values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        here = isinstance(value, str) and Path(value).exists()
        wanted = not drawn if key == DATA_PATH else isinstance(value, str)
        if wanted and not here:
            needed.append(PATHS[key].option)
    return needed
