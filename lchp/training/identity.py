"""Identity: the one normal form of a configuration that is hashed and compared, and what names a stage's result.

Stage folders, a study's folder and ``lchp reproduce`` all use it. A field that came after version 0.1 is left out while
it has the value that all results of before had, so that a new option changes the identity of nothing that is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from lchp.training.config import TrialConfig
from lchp.training.given_paths import PATHS, mapping_at, without_paths
from lchp.training.network_config import WeightsFile
from lchp.training.stage_config import DescentConfig

RESULT_VERSION = 1
"""Raised with every change of this package that changes the results of an unchanged configuration."""

REFINEMENT_ONLY = ("tau", "augmentation", "confidence", "refinement")
"""Keys of TrialConfig that the initialization does not read."""


def is_of_refinement(key: str) -> bool:
    """Whether a dotted key of TrialConfig is one that the initialization does not read."""
    return key.split(".")[0] in REFINEMENT_ONLY


OF_REFERENCES = ("dataset", "seed", "alpha", "backbone", "box_format", "regressor", "split", "view", "compute")
"""Keys of TrialConfig that a reference reads as they are."""

CLASSIFIER_ONLY = (
    "classifier_rate", "classifier_decay", "classifier_epochs", "regressor_start", "attention_maps", "bap_scale",
)  # fmt: skip
"""Keys of ``initialization`` that a reference does not read."""

OF_CLASSIFIERS = (
    "dataset", "seed", "delta", "beta", "classifier", "classes_from", "split", "view", "pseudo_boxes", "compute",
)  # fmt: skip
"""Keys of TrialConfig that the classifiers of ``out_of_fold`` read as they are; of ``pseudo_boxes`` that by which the
images of Eq. 1 are masked, whatever it is.
"""

REGRESSOR_ONLY = ("regressor_rate", "regressor_start", "augmentation", *DescentConfig.model_fields)
"""Keys of ``initialization`` that they do not read."""


@dataclass(frozen=True)
class Added:
    """A field that version 0.1 did not have."""

    since: str
    """The version that brought it."""
    before: Any
    """The plain value that says what every result of before was made with; most often the field's default."""
    idle: tuple[str, Any] | None = None
    """A key and its value with which the field changes nothing, so that results do not differ by it."""


ADDED: dict[str, Added] = {
    "pseudo_boxes.source": Added("0.3", "mask"),
    "pseudo_boxes.component": Added("0.3", "all"),
    "pseudo_boxes.enlargement": Added("0.3", "tiled"),
    "pseudo_boxes.mirror": Added("0.3", False),
    "pseudo_boxes.size": Added("0.3", 448),
    "pseudo_boxes.further_sizes": Added("0.3", []),
    "pseudo_boxes.weights": Added("0.3", "pretrained"),
    "pseudo_boxes.network": Added("0.3", "mobilenet_v2"),
    "pseudo_boxes.omit": Added("0.3", 0),
    "pseudo_boxes.axis": Added("0.3", "class"),
    "pseudo_boxes.axes": Added("0.3", 1),
    "pseudo_boxes.descriptors": Added("0.3", "raw"),
    "pseudo_boxes.threshold": Added("0.3", 0.0),
    "pseudo_boxes.transformer": Added("0.3", "dino_vits16"),
    "pseudo_boxes.similarity": Added("0.3", 0.2),
    "pseudo_boxes.patches": Added("0.3", 100),
    "pseudo_boxes.file": Added("0.3", None),
    "initialization.classifier_epochs": Added("0.3", None),
    "initialization.augmentation": Added("0.3", "none"),
    **{
        f"{stage}.{name}": Added("0.3", before)
        for stage in ("initialization", "refinement")
        for name, before in {
            "report": "last",
            "average_momentum": 0.99,
            "schedule": "constant",
            "warmup": 0,
            "clip": None,
        }.items()
    },
    "initialization.augmented_share": Added("0.3", 1.0, idle=("initialization.augmentation", "none")),
    "refinement.augmented_share": Added("0.3", 1.0, idle=("augmentation", "none")),
    "refinement.rejected": Added("0.3", "mask"),
    "regressor.head": Added("0.3", "pooled"),
    "regressor.maps": Added("0.3", "coarse"),
    "regressor.omit": Added("0.3", 0),
    "regressor.frozen": Added("0.3", False),
    "classes_from": Added("0.3", "momentum"),
    "confidence.score": Added("0.3", "max_softmax"),
    "confidence.keep": Added("0.3", None),
    "confidence.shrink": Added("0.3", 0.7),
    "confidence.folds": Added("0.3", 3),
    "search.first": Added("0.3", []),
    "search.grid": Added("0.3", []),
    "search.pruner": Added("0.3", None),
    "search.warm_start": Added("0.3", []),
    "search.group": Added("0.3", 1),
    "search.cost": Added("0.3", None),
    **{f"search.stop.{name}": Added("0.3", None) for name in ("hours", "gpu_hours", "patience")},
    "compute.compile": Added("0.3", "none"),
    "compute.onednn": Added("0.3", False),
    "compute.maps_precision": Added("0.3", "bf16", idle=("compute.precision", "fp32")),
}
"""Every field that came after version 0.1, by its dotted key in TrialConfig (``refinement.schedule``) or, of a study's
search, behind ``search.``. A new field without a line here would make every stored result another one's.
"""


def normal_form(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of a configuration as they are hashed and compared: without the fields of :data:`ADDED` that have
    the value of before or change nothing, and without the mappings that only held such.
    """
    form = deepcopy(dict(plain))
    for key, added in ADDED.items():
        *parents, last = key.split(".")
        around = [form]
        for parent in parents:
            inner = around[-1].get(parent)
            if not isinstance(inner, dict):
                break
            around.append(inner)
        unchanged = last in around[-1] and (_is_idle(plain, added) or around[-1][last] == added.before)
        if len(around) > len(parents) and unchanged:
            del around[-1][last]
            for parent, holder in reversed(list(zip(parents, around, strict=False))):
                if not holder[parent]:
                    del holder[parent]
    return form


def trial_form(config: TrialConfig) -> dict[str, Any]:
    """The configuration in its normal form, without paths: what the same study says on every machine."""
    return without_paths(normal_form(config.model_dump(mode="json")))


def stored_config(plain: Mapping[str, Any]) -> TrialConfig:
    """The configuration that a stored config.json says, fields that are younger than it with the value of before.

    Raises:
        pydantic.ValidationError: it is none of this version's.
    """
    config = TrialConfig.model_validate(plain)
    complete, known = deepcopy(dict(plain)), config.model_dump(mode="json")
    for key, added in ADDED.items():
        *parents, last = key.split(".")
        # A field of one kind of dataset alone is no key of the others.
        if last in mapping_at(known, parents):
            holder: Any = complete
            for parent in parents:
                holder = holder.setdefault(parent, {})
            holder.setdefault(last, added.before)
    return TrialConfig.model_validate(complete)


def _is_idle(plain: Mapping[str, Any], added: Added) -> bool:
    if added.idle is None:
        return False
    key, value = added.idle
    *parents, last = key.split(".")
    return bool(mapping_at(dict(plain), parents).get(last) == value)


def unread(config: TrialConfig) -> dict[str, str]:
    """The dotted keys of fields, all of them of :data:`ADDED`, that change nothing in this configuration, each with the
    key whose value is why.
    """
    keys = {f"pseudo_boxes.{name}": "pseudo_boxes.source" for name in config.pseudo_boxes.unread}
    if config.confidence.score != "contrast":
        keys["confidence.shrink"] = "confidence.score"
    if not config.confidence.out_of_fold:
        keys["confidence.folds"] = "confidence.score"
    for name, stage in (("initialization", config.initialization), ("refinement", config.refinement)):
        if stage.report == "last":
            keys[f"{name}.average_momentum"] = f"{name}.report"
    plain = config.model_dump(mode="json")
    keys.update({key: added.idle[0] for key, added in ADDED.items() if added.idle and _is_idle(plain, added)})
    return keys


def read_form(config: TrialConfig) -> dict[str, Any]:
    """The configuration in its normal form without what is :func:`unread`, with paths: what its results depend on."""
    plain = config.model_dump(mode="json")
    for key in unread(config):
        *parents, last = key.split(".")
        mapping_at(plain, parents).pop(last)
    return normal_form(plain)


def results_form(config: TrialConfig) -> dict[str, Any]:
    """What a trial's results depend on, wherever its data lie: :func:`read_form` without paths."""
    return without_paths(read_form(config))


def trial_key(config: TrialConfig) -> dict[str, Any]:
    """What determines a trial: all that it reads, with the paths of data and weights as people wrote them."""
    return {"result_version": RESULT_VERSION, **read_form(config)}


def initialization_key(config: TrialConfig) -> dict[str, Any]:
    """The part of :func:`trial_key` that determines the initialization: trials that share it share the stage."""
    return {name: value for name, value in trial_key(config).items() if name not in REFINEMENT_ONLY}


def initialization_course(config: TrialConfig) -> dict[str, Any]:
    """What initializations share that are alike but for their length: the longer one begins with the shorter one's
    bits. Where the rate looks ahead to the last epoch only the same key shares it.
    """
    return _without_length(initialization_key(config), "initialization", config.initialization)


def trial_course(config: TrialConfig) -> dict[str, Any]:
    """As :func:`initialization_course`, of the refinement after one initialization."""
    return _without_length(trial_key(config), "refinement", config.refinement)


def _without_length(key: dict[str, Any], name: str, stage: DescentConfig) -> dict[str, Any]:
    if stage.open_ended:
        del key[name]["epochs"]
    return key


def reference_key(config: TrialConfig, method: str) -> dict[str, Any]:
    """What of a configuration determines a reference (``lchp.training.references``): trials that share it share the
    reference.
    """
    form = read_form(config)
    stage = {name: value for name, value in form["initialization"].items() if name not in CLASSIFIER_ONLY}
    return {
        "result_version": RESULT_VERSION,
        "reference": method,
        **{name: form[name] for name in OF_REFERENCES if name in form},
        "weights": {"regressor": form["weights"][first_weights(config)]},
        "initialization": stage,
        "evaluation": {"batch_size": form["evaluation"]["batch_size"]},
    }


def out_of_fold_key(config: TrialConfig) -> dict[str, Any]:
    """What of a configuration determines the classifiers of the confidence ``out_of_fold``
    (``lchp.training.out_of_fold``): trials that share it share them.
    """
    form = read_form(config)
    stage = {name: value for name, value in form["initialization"].items() if name not in REGRESSOR_ONLY}
    return {
        "result_version": RESULT_VERSION,
        "folds": config.confidence.folds,
        **{name: form[name] for name in OF_CLASSIFIERS if name in form},
        "weights": {"classifier": form["weights"]["classifier"]},
        "initialization": stage,
        "evaluation": {"batch_size": form["evaluation"]["batch_size"]},
    }


def first_weights(config: TrialConfig) -> str:
    """The role whose weights a reference starts from: no classifier learns beside it, so that a regressor which starts
    from the classifier's blocks starts from that one's weights.
    """
    return "classifier" if config.weights.regressor == "classifier" else "regressor"


def with_digests(key: dict[str, Any], digests: dict[str, str | None]) -> dict[str, Any]:
    """The key with paths replaced by what lies there: ``digests`` names data, boxes and weight files.

    A mapping that says nothing but a file, and what it must hash to, becomes the word ``file``.
    """
    form = without_paths(key)
    for path in PATHS:
        *parents, name, _ = path.split(".")
        holder = mapping_at(form, parents)
        if isinstance(holder.get(name), dict) and holder[name].keys() == _FILE:
            holder[name] = "file"
    return {**form, "digests": digests}


_FILE = WeightsFile.model_fields.keys() - {"file"}
