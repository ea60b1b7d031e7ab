"""Which stages of a store the studies beside it need."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from lchp.data.fingerprint import fingerprint
from lchp.errors import Refusal
from lchp.shipped import study_file
from lchp.store.folder import StageFolder
from lchp.store.study_folder import StudyFolder, is_place, store_of, study_places
from lchp.study.run.cards import Card, Cards
from lchp.study.run.found import initialization_beside
from lchp.study.run.ledger import Entry, read
from lchp.study.run.ownership import is_running
from lchp.study.run.run_cards import DATASET_TAG, INITIALIZATION_TAG, WEIGHTS_TAG, is_trial
from lchp.training.identity import out_of_fold_key, stored_config, with_digests
from lchp.vocabulary import INITIALIZATION, OUT_OF_FOLD


def studies_in(output: Path) -> list[Path]:
    """The folders of the studies that were run into ``output``, by name."""
    if not output.is_dir():
        return []
    return sorted(folder for folder in output.iterdir() if StudyFolder(folder).ledger.is_file())


def _begun(place: Path, output: Path) -> Path | None:
    """The folder of the study that is named and was run, or that a process is preparing for its first run."""
    places = study_places(place, output)
    return next((folder for folder in places if StudyFolder(folder).ledger.is_file() or is_running(folder)), None)


def found_study(place: Path, output: Path) -> Path:
    """The folder of the study that is named, a folder or a name in ``output``; its first run may have no trials yet.

    Raises:
        Refusal: no study was run there.
    """
    folder = _begun(place, output)
    if folder is None:
        names = ", ".join(folder.name for folder in studies_in(output)) or "there is none"
        raise Refusal(
            f"{place}: is no folder of a study, nor the name of one in {output} ({names}): give one; "
            "a run that has just begun is there in some seconds"
        )
    return folder


def study_or_file(place: Path, output: Path, has_options: bool = False) -> tuple[Path | None, Path]:
    """What a person means who names a study or its file: its folder, None where it is the file; and that file. A file
    comes before a folder that was run, that before a name in ``output``, and that before a study that comes with
    lchp. Options say how a file was run: where there are some it is the file that is meant.

    Raises:
        Refusal: it is neither, or options are given beside a study's name or folder.
    """
    file = study_file(place)
    if place.is_file():
        return None, file
    folder = _begun(place, output)
    if folder is not None and not has_options:
        return folder.resolve(), file
    if folder is not None and not file.is_file():
        raise Refusal(
            f"{place}: is the study in {folder}, and --set, --seeds and --data go with the study's FILE: give that in "
            "its place, or leave them out"
        )
    if has_options or file.is_file() or (place.suffix in (".yaml", ".yml") and not place.is_dir()):
        return None, file
    return found_study(place, output), file


def places_of(study: Path) -> frozenset[str]:
    """Where in the store the stages lie that a study's trials have, finished or not: trials, initializations,
    references and the classifiers of ``out_of_fold``.

    Raises:
        Refusal: the list of its trials is damaged.
    """
    places = set[str]()
    for entry in read(study):
        places |= {entry.folder, *entry.references.values(), *_initialization(study, entry)}
    for card in Cards(study).all(OUT_OF_FOLD.encode()):
        if is_trial(card):
            places |= _out_of_fold(card)
    return frozenset(places)


def places_of_all(studies: Iterable[Path]) -> frozenset[str]:
    """As :func:`places_of`, of several studies.

    Raises:
        Refusal: the list of one's trials is damaged: then nobody knows what may go.
    """
    places = set[str]()
    for study in studies:
        try:
            places |= places_of(study)
        except Refusal as error:
            raise Refusal(f"{error}; or remove that study: `lchp study rm {shlex.quote(str(study))}`") from error
    return frozenset(places)


def _initialization(study: Path, entry: Entry) -> set[str]:
    """That of a trial. Version 0.2 did not write it down, and it is found among those that are there."""
    if entry.initialization is not None:
        return {entry.initialization}
    stage = StageFolder(store_of(study.parent) / entry.folder)
    found = initialization_beside(stage) if stage.done else None
    if found is not None:
        return {f"{INITIALIZATION}/{found.path.name}"}
    card = Cards(study).get(Path(entry.folder).name, lambda line: None)
    tag = card.tags.get(INITIALIZATION_TAG) if card is not None else None
    place = f"{INITIALIZATION}/{tag}"
    return {place} if tag and is_place(place) else set()


def _out_of_fold(card: Card) -> set[str]:
    """The classifiers that judge for a trial what they have not seen, where it has such."""
    config = stored_config(card.params)
    if not config.confidence.out_of_fold:
        return set()
    digests = {"images": card.tags[DATASET_TAG], "classifier": card.tags.get(f"{WEIGHTS_TAG}classifier")}
    return {f"{OUT_OF_FOLD}/{fingerprint(with_digests(out_of_fold_key(config), digests))}"}
