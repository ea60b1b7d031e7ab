"""Whether the files that a configuration names are there, and the weights that it starts from."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from lchp.data.fingerprint import flatten
from lchp.errors import Refusal
from lchp.study.spec.source import Source
from lchp.training.config import TrialConfig
from lchp.training.downloads import unavailable, wanted
from lchp.training.file_faults import file_fault
from lchp.training.given_paths import DATA_PATH, PATHS, PathField, paths_of


def require_files(config: TrialConfig, source: Source, keys: Collection[str] = tuple(PATHS)) -> None:
    """Check that what lies at the paths of ``config``, which ``source`` writes, is there: all of them, or ``keys``.

    Raises:
        Refusal: what is missing, one line each: place, value, remedy.
    """
    mistakes = missing_files(config, source, keys)
    if mistakes:
        raise Refusal("\n".join(mistakes))


def missing_files(config: TrialConfig, source: Source, keys: Collection[str] = tuple(PATHS)) -> list[str]:
    """What of the configuration's files is missing, one line each."""
    mistakes = []
    for key, path in paths_of(config).items():
        field, place = PATHS[key], source.place(tuple(key.split(".")))
        it = f"the {config.dataset.kind} data" if key == DATA_PATH else "it"
        if key not in keys:
            continue
        if path is None:
            if field.required:
                mistakes.append(f"{place}: {key}: {it} has no path: give it with {field.option}")
        elif not _is_there(field, path):
            mistakes.append(f"{place}: {key} = {path}: does not exist: give {it} with {field.option}")
    return mistakes


def given_by_options(options: Source) -> list[str]:
    """The keys of paths that options give, alone or among the values that they vary."""
    given = flatten(options.values)
    return [key for key in PATHS if key in given or f"vary.{key}" in given]


def absent(config: TrialConfig) -> list[str]:
    """What lies not where ``config`` says that it does, one line each; a path that is not given lacks nothing."""
    return [
        f"{key} = {path}: does not exist: give it with {PATHS[key].option}"
        for key, path in paths_of(config).items()
        if path is not None and not _is_there(PATHS[key], path)
    ]


def _is_there(field: PathField, path: Path) -> bool:
    return path.exists() if field.folder else path.is_file()


def require_readable_weights(config: TrialConfig, source: Source | None = None) -> None:
    """Check that the weight files of ``config`` that are there are such files, as far as is seen without torch.

    Raises:
        Refusal: what else they are, one line each: the place in ``source``, where that is known, value, remedy.
    """
    mistakes = []
    for key, path in paths_of(config).items():
        if "weights" in key and path is not None and path.is_file() and (fault := file_fault(path)):
            place = f"{source.place(tuple(key.split('.')))}: " if source else ""
            mistakes.append(f"{place}{key} = {path}: {fault}")
    if mistakes:
        raise Refusal("\n".join(mistakes))


def missing_weights(config: TrialConfig, source: Source) -> list[str]:
    """What of the configuration's pretrained weights can be neither found nor fetched, one line each."""
    mistakes = []
    for key, url in wanted(config).items():
        reason = unavailable(url)
        if reason:
            word = "pretrained" if key.startswith("pseudo_boxes") else "imagenet"
            place = source.place(tuple(key.split(".")))
            mistakes.append(f"{place}: {key} = {word}: {reason}: give a local file with --set {key}.file=PATH")
    return mistakes
