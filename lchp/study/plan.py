"""What a study will train: its trials, the initializations they share, and roughly what that costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lchp.data.config import DatasetConfig, SyntheticDataset
from lchp.data.fingerprint import canonical, fingerprint
from lchp.study.source import Refusal
from lchp.study.spec import Study
from lchp.study.values import config_value
from lchp.training.config import TrialConfig
from lchp.training.identity import initialization_key

CLASSIFIER_GFLOP = {"inception_v3": 21.9, "resnet50": 50.0, "vgg19_bn": 156.2, "mobilenet_v2": 4.43, "small_cnn": 0.99}
"""One forward pass of the classifier on one image of 448 x 448, two operations per multiply-add. InceptionV3
to Mixed_6e with 32 maps; the others counted with ``torch.utils.flop_counter`` on this package's networks (32 maps,
200 classes)."""

REGRESSOR_GFLOP = {"inception_v3": 26.3, "resnet50": 32.7, "vgg19_bn": 156.1, "mobilenet_v2": 2.40, "small_cnn": 1.13}
"""The same of the regressor."""

TRAINING = 3.0
"""Forward and backward pass over the forward pass alone (counted: 65.5 / 21.9, 79.0 / 26.3, 97.2 / 32.7)."""

GFLOPS = {"one CPU core": 40.0, "one GPU": 50_000.0}
"""Speeds at which the hours are stated, in GFLOP a second. The core, of an AMD EPYC at fp32: measured 90 in whole
trials of small_cnn, 50 to 75 in training passes of the large networks, 27 in MobileNetV2's. The GPU: an assumption, a
twentieth of an H200's bf16 ceiling."""


@dataclass(frozen=True)
class Images:
    """Images of a dataset: all training images (val is drawn from them), test images, and classes."""

    train: int
    test: int
    classes: int
    source: str


KNOWN_IMAGES = {
    "cub": Images(5_994, 5_794, 200, "the published size of CUB-200-2011"),
    "tiny-imagenet": Images(100_000, 10_000, 200, "the published size of Tiny-ImageNet-200"),
    "imagenet": Images(1_281_167, 50_000, 1_000, "the published size of ImageNet-1k (the paper's text says 1,281,197)"),
}


@dataclass(frozen=True)
class PlannedTrial:
    """One trial: a name of what varies, its configuration (the seed is in it), and the values of the varied keys."""

    name: str
    config: TrialConfig
    seed: int
    varied: dict[str, Any]


@dataclass(frozen=True)
class Cost:
    """GFLOP a stage over the whole study, an initialization counted once for all trials that share it.

    ``unshared`` is the total if every trial trained its own.
    """

    initialization: float
    refinement: float
    evaluation: float
    unshared: float

    @property
    def total(self) -> float:
        """All stages together, in GFLOP."""
        return self.initialization + self.refinement + self.evaluation

    def hours(self) -> dict[str, float]:
        """Hours by device, at the speeds of :data:`GFLOPS`."""
        return {device: self.total / speed / 3600 for device, speed in GFLOPS.items()}


@dataclass(frozen=True)
class Plan:
    """What a study trains. A search knows no trials in advance: its ``trials`` are empty; ``count`` says how many."""

    study: Study
    trials: tuple[PlannedTrial, ...]
    count: int
    initializations: int
    images: Images | None
    cost: Cost | None

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain values, for ``lchp study plan --json``."""
        cost = self.cost
        return {
            "study": self.study.name,
            "question": self.study.question,
            "trials": self.count,
            "initializations": self.initializations,
            "varied": list(self.study.varied),
            "seeds": list(self.study.seeds),
            "images": asdict(self.images) if self.images else None,
            "gflop": {**asdict(cost), "total": cost.total} if cost else None,
            "hours": cost.hours() if cost else None,
            "trial_list": [
                {"name": t.name, "seed": t.seed, "values": t.varied, "initialization": initialization_name(t.config)}
                for t in self.trials
            ],
        }


def plan(study: Study, images: Images | None = None) -> Plan:
    """Plan a study. ``images`` are the true counts where the data is at hand; without them published sizes are used."""
    trials = tuple(_trials(study))
    counts = images or known_images(study.base.dataset)
    if study.search:
        return _plan_search(study, counts)
    shared = {initialization_name(trial.config): trial.config for trial in trials}
    cost = _cost([trial.config for trial in trials], list(shared.values()), counts) if counts else None
    return Plan(study, trials, len(trials), len(shared), counts, cost)


def _plan_search(study: Study, images: Images | None) -> Plan:
    """A search: at most so many initializations, at the cost of the configuration below the suggestions."""
    assert study.search is not None, "a study without trials is a search"
    count = study.search.trials
    config = study.base.model_copy(update={"seed": study.seeds[0]})
    shares = all(key.split(".")[0] in {"tau", "augmentation", "refinement"} for key in study.varied)
    initializations = 1 if shares else count
    cost = _cost([config] * count, [config] * initializations, images) if images else None
    return Plan(study, (), count, initializations, images, cost)


def initialization_name(config: TrialConfig) -> str:
    """A short name of the initialization that a trial needs: trials with the same name share it."""
    return fingerprint(initialization_key(config))


def trial_name(varied: Mapping[str, Any], seed: int) -> str:
    """What varies, and the seed: ``delta=0.5 seed=0``."""
    return " ".join(f"{key}={_word(value)}" for key, value in {**varied, "seed": seed}.items())


def suggestion_name(number: int, varied: Mapping[str, Any]) -> str:
    """A search's suggestion: its number and its values, shortened."""
    short = {key: float(f"{value:.3g}") if isinstance(value, float) else value for key, value in varied.items()}
    return " ".join([f"#{number}", *(f"{key}={_word(value)}" for key, value in short.items())])


def _word(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value).replace('"', "")


def in_training_order(trials: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """The trials with those first that are the first to need their initialization, so that none waits without need."""
    seen: set[str] = set()
    first: list[PlannedTrial] = []
    later: list[PlannedTrial] = []
    for trial in trials:
        name = initialization_name(trial.config)
        (later if name in seen else first).append(trial)
        seen.add(name)
    return first + later


def _trials(study: Study) -> list[PlannedTrial]:
    found: dict[str, PlannedTrial] = {}
    for config in study.grid:
        for seed in study.seeds:
            seeded = config.model_copy(update={"seed": seed})
            varied = {key: config_value(seeded, key) for key in study.varied}
            trial = PlannedTrial(trial_name(varied, seed), seeded, seed, varied)
            found.setdefault(canonical(seeded.model_dump(mode="json")), trial)
    return list(found.values())


def known_images(dataset: DatasetConfig) -> Images | None:
    """The published size of an original dataset, the drawn size of a synthetic one, None for people's own."""
    if isinstance(dataset, SyntheticDataset):
        return Images(8 * dataset.train_per_class, 8 * dataset.test_per_class, 8, "as drawn")
    return KNOWN_IMAGES.get(dataset.kind)


def count_images(dataset: DatasetConfig, cache: Path) -> Images | None:
    """The true counts of a dataset whose files are at hand, None where they are not.

    Raises:
        Refusal: the files are there and not what the dataset's kind says, or cannot be read or extracted.
    """
    path = getattr(dataset, "path", None)
    if path is None or not path.exists():
        return None
    from lchp.data.reading import open_dataset

    try:
        found = open_dataset(dataset, cache)
    except (ValueError, OSError) as error:
        raise Refusal(str(error)) from error
    return Images(len(found.train), len(found.test), len(found.classes), f"counted in {path}")


def _cost(trials: Sequence[TrialConfig], initializations: Sequence[TrialConfig], images: Images) -> Cost:
    first = sum(_initialization_gflop(config, images) for config in initializations)
    unshared = sum(_initialization_gflop(config, images) for config in trials)
    refinement = sum(_refinement_gflop(config, images) for config in trials)
    evaluation = sum(_evaluation_gflop(config, images) for config in trials)
    return Cost(first, refinement, evaluation, unshared + refinement + evaluation)


def _networks_gflop(config: TrialConfig) -> tuple[float, float]:
    """One forward pass of classifier and regressor on one image of this configuration."""
    area = (config.view.crop / 448) ** 2
    return CLASSIFIER_GFLOP[config.classifier] * area, REGRESSOR_GFLOP[config.backbone] * area


def _splits(config: TrialConfig, images: Images) -> tuple[int, int]:
    """Training images and val images of a trial."""
    val = min(config.split.val_per_class * images.classes, images.train)
    return images.train - val, val


def _initialization_gflop(config: TrialConfig, images: Images) -> float:
    """A step trains the classifier on raw and masked images, asks the momentum network, trains the regressor."""
    classifier, regressor = _networks_gflop(config)
    train, val = _splits(config, images)
    stage = config.initialization
    learning = stage.epochs * 2 * (TRAINING + 1) * classifier
    boxes = (stage.epochs - stage.regressor_start) * TRAINING * regressor
    checks = val * (stage.epochs // config.evaluation.every) * (3 * classifier + regressor)
    return train * (learning + boxes) + checks


def _refinement_gflop(config: TrialConfig, images: Images) -> float:
    """A step predicts weak views, classifies their crops and trains the regressor on strong views."""
    classifier, regressor = _networks_gflop(config)
    train, val = _splits(config, images)
    checks = val * (config.refinement.epochs // config.evaluation.every) * (classifier + regressor)
    return train * config.refinement.epochs * (classifier + (1 + TRAINING) * regressor) + checks


def _evaluation_gflop(config: TrialConfig, images: Images) -> float:
    """At the end: all methods on test and val, and the selection under tau on the training images."""
    classifier, regressor = _networks_gflop(config)
    train, val = _splits(config, images)
    return (images.test + val) * (4 * classifier + 2 * regressor) + train * (classifier + regressor)


def as_text(planned: Plan) -> str:
    """The plan for people."""
    study = planned.study
    lines = [f"study {study.name}" + (f": {study.question}" if study.question else "")]
    at_most = "at most " if study.search else ""
    lines.append(f"{planned.count} trials, {at_most}{planned.initializations} distinct initializations")
    if planned.images and planned.cost:
        cost = planned.cost
        saved = 100 * (1 - cost.total / cost.unshared)
        lines.append(f"images: {planned.images.train} train, {planned.images.test} test ({planned.images.source})")
        lines.append(
            f"cost: about {_amount(cost.total)} (initialization {_amount(cost.initialization)}, refinement "
            f"{_amount(cost.refinement)}, evaluation {_amount(cost.evaluation)}; sharing saves {saved:.0f}%)"
        )
        hours = (f"{_hours(value)} on {device} at {GFLOPS[device]:g} GFLOP/s" for device, value in cost.hours().items())
        lines.append("roughly " + ", ".join(hours))
    else:
        lines.append("cost: unknown until the data is at hand (--data PATH)")
    lines += [f"  {trial.name}  (initialization {initialization_name(trial.config)})" for trial in planned.trials]
    if study.search:
        space = study.search.model_dump(mode="json")["space"]
        lines += [f"  {key}: {json.dumps(values)}" for key, values in space.items()]
    return "\n".join(lines)


def _hours(hours: float) -> str:
    return f"{hours:,.0f} h" if hours >= 10 else f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.2g} min"


def _amount(gflop: float) -> str:
    for unit, size in (("EFLOP", 1e9), ("PFLOP", 1e6), ("TFLOP", 1e3)):
        if gflop >= size:
            return f"{gflop / size:.3g} {unit}"
    return f"{gflop:.3g} GFLOP"
