"""The model that somebody means: of a run, of a trial's folder, or in a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lchp.data.scratch import scratch_folder
from lchp.errors import Refusal, refusing, shown
from lchp.store.folder import StageFolder
from lchp.store.model import Design, Model, is_model, judge_weights, read_model
from lchp.store.model_file import read_file
from lchp.store.study_folder import study_named, study_places
from lchp.study.run.found import found_run, initialization_beside
from lchp.tracking.address import REMEDY, is_server, require_runs, resolved, silence
from lchp.vocabulary import INITIALIZATION, LCHP_I, LCHP_R, METHODS, Score

if TYPE_CHECKING:
    from lchp.store.localizer import Localizer

_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,255}")
_GIVE = (
    "give the id of a run, the folder of a finished trial, a study's name or folder (its first trial), or a file that "
    "`lchp export` has written"
)
_DATA = "data"


def model_of(word: str, output: Path, tracking_uri: str | None) -> Model:
    """The model that a word names: a file, a folder, a run of a study in ``output`` (which need no tracking store), or
    else a run of the tracking store.

    Raises:
        Refusal: there is none, it is not finished, or its files are damaged.
    """
    if not word.strip():
        raise Refusal(f"no model is named: {_GIVE}")
    path = Path(word)
    with refusing():
        if path.is_file():
            return read_file(path)
        study = study_named(word, output)
        if path.is_dir() and study != path.absolute() and (study is None or _is_trained(path)):
            return _of_folder(path.absolute(), output)
        if path.exists():
            return _of_run(word, output)
        if tracking_uri is None:
            try:
                return _of_run(word, output)
            except Refusal as refusal:
                if not _RUN.fullmatch(word) or len(word) < 32:
                    raise Refusal(f"{refusal}; or {_GIVE}") from refusal
        return _tracked(word, tracking_uri, output)


def localizer_of(model: Model, word: str, device: str) -> Localizer:
    """The networks of the model that ``word`` names, on a device.

    Raises:
        Refusal: they are none that can answer; names ``word``.
    """
    from lchp.store.localizer import Localizer

    try:
        return Localizer(model, device)
    except ValueError as error:
        raise Refusal(f"{word}: {error}: train or export it again, or use the version of lchp that wrote it") from error


def _of_run(word: str, output: Path) -> Model:
    entry, store = found_run(word, output)
    first = StageFolder(store / entry.initialization) if entry.initialization else None
    return _of_trial(StageFolder(store / entry.folder), first, {"trial": entry.name, "run": entry.run_id or ""})


def _is_trained(folder: Path) -> bool:
    """Whether a folder is a trial's, an initialization's or a model's, finished or not."""
    stage = StageFolder(folder)
    return (folder / "MLmodel").is_file() or is_model(folder) or stage.done or stage.has_checkpoint


def _of_folder(folder: Path, output: Path) -> Model:
    given = folder
    if (folder / "MLmodel").is_file():
        folder = folder / _DATA
    if is_model(folder):
        return read_model(folder)
    stage = StageFolder(folder)
    if not stage.done:
        if stage.has_checkpoint:
            raise Refusal(f"{folder}: holds no finished trial: its training is not finished: run it to its end")
        _, named = study_places(given.name, output)
        raise Refusal(f"{folder}: holds no finished trial, and {named} no study: {_GIVE}")
    return _of_trial(stage, None, {})


def _of_trial(stage: StageFolder, first: StageFolder | None, origin: Mapping[str, str]) -> Model:
    """The model of a finished stage: LCHP-R, or LCHP-I where it is an initialization; ``first`` is its initialization,
    where that is known.
    """
    # Imports Pillow, which a word that names nothing does without.
    from lchp.store.datasets import dataset_of, read_classes

    if (fault := stage.fault()) is not None:
        raise Refusal(f"{stage.path}: {fault}: `lchp study run` makes it again")
    config, methods = stage.config(), {Score.parse(key).method for key in stage.scores()}
    method = next((name for name in (LCHP_R, LCHP_I) if name in methods), None)
    if method is None:
        names = ", ".join(METHODS[name].title for name in METHODS if name in methods) or "no boxes"
        wanted = f"neither {METHODS[LCHP_R].title} nor {METHODS[LCHP_I].title}"
        raise Refusal(f"{stage.path}: holds {names}, and {wanted}: {_GIVE}")
    networks = stage.networks()
    if "momentum" in networks:
        judge = judge_weights(networks)
    else:
        judge = judge_weights((first or _initialization_of(stage)).networks())
    classes = read_classes(stage.path.parent.parent, dataset_of(stage))
    made = stage.environment()["versions"]
    about = {**origin, "dataset": str(config["dataset"]["kind"]), "images": dataset_of(stage), "lchp": made["lchp"]}
    return Model(Design.of(config), classes, networks["regressor"], judge, method, about)


def _initialization_of(trial: StageFolder) -> StageFolder:
    found = initialization_beside(trial)
    if found is None or not found.whole:
        raise Refusal(
            f"{trial.path}: the initialization that it went on from, whose classifier gives the classes, is not in "
            f"{trial.path.parent.parent / INITIALIZATION}: name the folder in the store in which it was trained, or "
            "its run, or run the study again"
        )
    return found


def _tracked(run_id: str, tracking_uri: str | None, output: Path) -> Model:
    """The model that a tracking store holds of a run."""
    if not _RUN.fullmatch(run_id):
        raise Refusal(f"{run_id}: there is no such file or folder, and it is no run id: {_GIVE}")
    uri = resolved(tracking_uri, Path.cwd())
    try:
        require_runs(uri)
    except ValueError as error:
        raise Refusal(f"{run_id}: is no finished run of a study in {output}, and {error}") from error
    if is_server(uri) and (reason := silence(uri)) is not None:
        raise Refusal(f"tracking store {shown(uri)!r} {reason}: {REMEDY}")

    from lchp.tracking.models import fetch_model
    from lchp.tracking.store import impatient

    with scratch_folder() as scratch, impatient():
        fetch_model(uri, run_id, scratch)
        return read_model(scratch / _DATA)
