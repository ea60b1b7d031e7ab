"""What the runs of a study say from their first moment on: names, parameters and tags, by kind.

The runs of a study's trials, initializations and references lie side by side below the study's own. The tag
``lchp.kind`` tells them apart: ``tags.`lchp.kind` = 'trial'`` leaves the trials alone in the runs table.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lchp.study.run.cards import Card
from lchp.study.run.ledger import Entry
from lchp.study.spec.load import Study
from lchp.study.spec.trials import ResolvedTrial, trial_name
from lchp.training.given_paths import without_paths
from lchp.training.identity import REFINEMENT_ONLY, initialization_key, reference_key
from lchp.vocabulary import GT_KNOWN, INITIALIZATION, MEAN_IOU, METHODS, TEST, TOP1_LOC, VAL, Score, predicting

if TYPE_CHECKING:
    from lchp.training.material import Material  # reads images, which a plan does without

KIND_TAG = "lchp.kind"
"""The tag that says what a run is of: ``study``, ``trial``, ``initialization`` or ``reference``."""
STUDY, TRIAL, REFERENCE = "study", "trial", "reference"

WEIGHTS_TAG = "lchp.weights."
"""Before a role: the tag that holds the sha256 of its weight file."""
DATASET_TAG = "lchp.dataset"
"""The tag that holds the digest of a run's images."""
INITIALIZATION_TAG = "lchp.initialization"
"""The tag that trials have alike which share an initialization: the name of its folder in the store, and the key of its
run.
"""
REFERENCE_TAG = "lchp.reference"
"""The tag that says which method the run of a reference measured."""


def is_trial(card: Card) -> bool:
    """Whether a card is a trial's; before version 0.3 references alone had another kind of it."""
    return card.tags.get(KIND_TAG, TRIAL) == TRIAL and REFERENCE_TAG not in card.tags


def is_initialization(card: Card) -> bool:
    """Whether a card is of what its trials' runs keep the files of."""
    return card.tags.get(KIND_TAG) == INITIALIZATION


def weight_tags(material: Material) -> dict[str, str]:
    """The tags that say which weight files a trial started from."""
    return {f"{WEIGHTS_TAG}{role}": digest for role, digest in material.given_digests.items() if digest is not None}


def trials_view(study: Study) -> dict[str, list[str]]:
    """What the trials of a study are read by in the runs table: what varies, and how good the boxes of every method
    are; of a search its objective above all.
    """
    split = VAL if study.search else TEST
    methods = list(reversed(list(predicting())))
    scores = [Score(method, split, GT_KNOWN) for method in methods]
    scores += [Score(methods[0], split, metric) for metric in (MEAN_IOU, TOP1_LOC)]
    metrics = [*([study.search.objective.key] if study.search else []), *(score.key for score in scores)]
    parameters = [*study.varied, *(["seed"] if len(study.seeds) > 1 else [])]
    return {"parameters": parameters, "metrics": [*dict.fromkeys(metrics), "cost/seconds"]}


def trial_card(trial: ResolvedTrial, entry: Entry, material: Material, keeps_model: bool) -> Card:
    """The card of a trial, whose run keeps its model or not."""
    shared = {INITIALIZATION_TAG: Path(entry.initialization).name} if entry.initialization else {}
    tags = {**_tags(TRIAL, trial, material), **shared, **weight_tags(material)}
    classifier = entry.initialization if keeps_model else None
    return Card(
        Path(entry.folder).name, entry.name, trial.config.model_dump(mode="json"), tags, entry.folder,
        classifier=classifier,
    )  # fmt: skip


def initialization_card(trial: ResolvedTrial, place: str, material: Material) -> Card:
    """The card of the initialization of a trial, one however many trials share it."""
    varied = {key: value for key, value in trial.varied.items() if key.split(".")[0] not in REFINEMENT_ONLY}
    name = f"{INITIALIZATION} {trial_name(varied, trial.config.seed)}"
    params = without_paths(initialization_key(trial.config))
    tags = {**_tags(INITIALIZATION, trial, material), **weight_tags(material)}
    return Card(Path(place).name, name, params, tags, place)


def reference_card(trial: ResolvedTrial, method: str, place: str, material: Material) -> Card:
    """The card of a reference beside a trial, one however many trials share it."""
    name = f"{METHODS[method].title} seed={trial.config.seed}"
    tags = {**_tags(REFERENCE, trial, material), REFERENCE_TAG: method}
    return Card(Path(place).name, name, reference_key(trial.config, method), tags, place)


def _tags(kind: str, trial: ResolvedTrial, material: Material) -> dict[str, str]:
    return {KIND_TAG: kind, DATASET_TAG: material.digest.total, "lchp.seed": str(trial.config.seed)}
