"""What the runs of a study say from their first moment on: names, parameters and tags, by kind.

The runs of a study's trials, initializations and references lie side by side below the study's own. The tag
``lchp.kind`` tells them apart: ``tags.`lchp.kind` = 'trial'`` leaves the trials alone in the runs table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lchp.data.fingerprint import flatten
from lchp.study.run.cards import Card
from lchp.study.run.ledger import Entry
from lchp.study.spec.load import Study
from lchp.study.spec.trials import ResolvedTrial, trial_name
from lchp.surroundings import user
from lchp.tracking.shown import HEADLINE
from lchp.training.config import TrialConfig
from lchp.training.given_paths import without_paths
from lchp.training.identity import REFINEMENT_ONLY, initialization_key, read_form, reference_key
from lchp.vocabulary import INITIALIZATION, METHODS, METRICS, VAL, Score, headline

if TYPE_CHECKING:
    from lchp.training.material import Material  # reads images, which a plan does without

KIND_TAG = "lchp.kind"
"""The tag that says what a run is of: ``study``, ``trial``, ``initialization``, ``reference`` or ``reproduction``."""
STUDY, TRIAL, REFERENCE, REPRODUCTION = "study", "trial", "reference", "reproduction"

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
ORIGIN = {"mlflow.source.name": "lchp", "mlflow.source.type": "LOCAL"}
"""MLflow's own tags for what made a run."""
_RECIPE = (
    *("delta", "tau", "alpha", "beta", "augmentation", "backbone", "classifier"),
    *("initialization.epochs", "refinement.epochs"),
)
"""Keys by which people compare trials of several studies, even where all of them have the paper's values."""


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
    """What the trials of a study are read by in the runs table: what varies, and their headline."""
    parameters = [*study.varied, *(["seed"] if len(study.seeds) > 1 else [])]
    titles = [Score.parse(key).title for key in headline_of(study)]
    return {"parameters": parameters, "metrics": [*titles, "cost/seconds"]}


def headline_of(study: Study) -> tuple[str, ...]:
    """The keys of the scores by which the trials of a study are read first: of a search its objective, and val."""
    if study.search is None:
        return HEADLINE
    objective = study.search.objective
    return tuple(dict.fromkeys([*([objective.key] if objective.metric in METRICS else []), *headline(VAL)]))


def shown_parameters(plain: Mapping[str, Any], form: Mapping[str, Any], varied: Iterable[str]) -> dict[str, Any]:
    """What of a configuration a run shows as parameters: what its study varies and the seed, what people know trials
    by, the dataset, and whatever is not the paper's. The rest is the same everywhere, and stands in its config.json.

    Args:
        plain: all of it.
        form: what of it results depend on.
    """
    flat, papers = {**flatten(plain), **flatten(form)}, _papers()
    led = [*varied, "seed", *_RECIPE, *(key for key in flat if key.startswith("dataset."))]
    other = [key for key, value in flatten(form).items() if key not in papers or papers[key] != value]
    return {key: flat[key] for key in dict.fromkeys([*led, *other]) if key in flat}


@cache
def _papers() -> dict[str, Any]:
    """The paper's recipe, which is the configuration's defaults; what no default says is not in it."""
    config = TrialConfig.model_validate({"dataset": {"kind": "synthetic"}})
    return {key: value for key, value in flatten(read_form(config)).items() if not key.startswith("dataset.")}


def trial_card(
    trial: ResolvedTrial, entry: Entry, material: Material, keeps_model: bool, first: tuple[str, ...] = HEADLINE
) -> Card:
    """The card of a trial, whose run keeps its model or not, and has these scores as its headline."""
    shared = {INITIALIZATION_TAG: Path(entry.initialization).name} if entry.initialization else {}
    tags = {**_tags(TRIAL, trial, material), **shared, **weight_tags(material)}
    plain = trial.config.model_dump(mode="json")
    return Card(
        Path(entry.folder).name, entry.name, plain, tags, entry.folder,
        classifier=entry.initialization if keeps_model else None,
        shown=shown_parameters(plain, read_form(trial.config), trial.varied), first=first,
    )  # fmt: skip


def initialization_card(trial: ResolvedTrial, place: str, material: Material) -> Card:
    """The card of the initialization of a trial, one however many trials share it."""
    varied = {key: value for key, value in trial.varied.items() if key.split(".")[0] not in REFINEMENT_ONLY}
    name = f"{INITIALIZATION} {trial_name(varied, trial.config.seed)}"
    params = without_paths(initialization_key(trial.config))
    tags = {**_tags(INITIALIZATION, trial, material), **weight_tags(material)}
    return Card(Path(place).name, name, params, tags, place, shown=shown_parameters(params, params, varied))


def reference_card(trial: ResolvedTrial, method: str, place: str, material: Material) -> Card:
    """The card of a reference beside a trial, one however many trials share it."""
    name = f"{METHODS[method].title} seed={trial.config.seed}"
    tags = {**_tags(REFERENCE, trial, material), REFERENCE_TAG: method}
    params = reference_key(trial.config, method)
    return Card(Path(place).name, name, params, tags, place, shown=shown_parameters(params, params, trial.varied))


def _tags(kind: str, trial: ResolvedTrial, material: Material) -> dict[str, str]:
    seed = str(trial.config.seed)
    return {KIND_TAG: kind, DATASET_TAG: material.digest.total, "lchp.seed": seed, **made_by()}


def made_by() -> dict[str, str]:
    """MLflow's own tags of who made a run, and with what."""
    return {"mlflow.user": user(), **ORIGIN}
