"""Everything of a study that can be refused before a trial starts: its data, its weights, its search's objective."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import product
from typing import Any

from lchp.data.given_boxes import read_given_boxes
from lchp.errors import Refusal, refusing
from lchp.store.folder import StageFolder
from lchp.study.run.materials import Materials
from lchp.study.spec.load import Study
from lchp.study.spec.search import Range
from lchp.study.spec.values import with_values
from lchp.training.config import TrialConfig
from lchp.training.material import Material, Runtime
from lchp.vocabulary import AGREEMENT, CROP_CLS, INITIALIZATION, OUT_OF_FOLD, REFINEMENT, TOP1_CLS


def prepare(study: Study, runtime: Runtime) -> Materials:
    """Open the data, once, and try the images and weights of every trial that is not trained yet.

    Raises:
        Refusal: data, an image, weights or the objective's true boxes are not there; names what, and the remedy.
    """
    materials = Materials(runtime)
    configs = [study.searched] if study.search else [trial.config for trial in study.trials]
    for config in configs:
        materials.of(config)
    if study.search:
        _require_objective(study, materials.of(study.searched))
        if study.search.stop.gpu_hours is not None and runtime.device == "cpu":
            raise Refusal("search.stop.gpu_hours: no GPU is at hand (--device): use search.stop.hours")
        require_batches((config, materials.of(config)) for config in _largest(study))
        configs = _suggested(study)
    else:
        _require_differences(study, materials)
        require_batches((config, materials.of(config)) for config in configs)
    if study.references:
        _require_true_boxes(materials.of(config) for config in configs)
    require_readable([(config, materials.of(config)) for config in configs])
    return materials


def _require_differences(study: Study, materials: Materials) -> None:
    """Two files that hold the same are one value, whatever they are called: one result would stand for two trials."""
    seen: dict[str, str] = {}
    for trial in study.trials:
        first = seen.setdefault(materials.folder(trial.config), trial.name)
        if first != trial.name:
            raise Refusal(
                f"trials `{first}` and `{trial.name}` are one: what they differ by are names of files that hold the "
                "same: vary one of them"
            )


def require_readable(trials: Sequence[tuple[TrialConfig, Material]]) -> None:
    """Try everything that trials which are not trained yet will read: boxes of one's own, weights, images.

    Raises:
        Refusal: something cannot be used; names it and the remedy.
    """
    require_boxes(trials)
    require_weights(trials)
    require_images(trials)


def _require_true_boxes(materials: Iterable[Material]) -> None:
    """References learn from true boxes."""
    for material in materials:
        boxes = material.true_boxes
        if boxes is None or not boxes.counts[material.splits.train.rows].any():
            raise Refusal(
                "references: need true boxes of training images, and the "
                f"{material.config.dataset.kind} data have none: add them to the data, or leave `references` out"
            )


def require_batches(trials: Iterable[tuple[TrialConfig, Material]]) -> None:
    """See that no batch of a trial that is not finished holds more images than there are: it would be a smaller one.

    Raises:
        Refusal: it holds more; names the key, its value and the number of training images.
    """
    for config, material in trials:
        if StageFolder(material.trial_folder(config)).done:
            continue
        count, folds = len(material.splits.train), config.confidence.folds
        for stage, size in (
            (INITIALIZATION, config.initialization.batch_size),
            (REFINEMENT, config.refinement.batch_size),
        ):
            if size > count:
                raise Refusal(
                    f"{stage}.batch_size = {size}: there are {count} training images (val is drawn from them, "
                    f"split.val_per_class = {config.split.val_per_class}): write at most {count}"
                )
        seen = count - -(-count // folds)
        if config.confidence.out_of_fold and config.initialization.batch_size > seen:
            raise Refusal(
                f"{INITIALIZATION}.batch_size = {config.initialization.batch_size}: a classifier of confidence.score = "
                f"{OUT_OF_FOLD} is trained on {seen} images, all {count} but a fold of confidence.folds = {folds}: "
                f"write at most {seen}"
            )


def require_images(trials: Iterable[tuple[TrialConfig, Material]]) -> None:
    """Decode the images of trials that are not finished, once for each size: none that is broken ends a trial later.

    Raises:
        Refusal: an image does not decode, or the cache cannot be written; names it and the remedy.
    """
    opened = set()
    for config, material in trials:
        key = (config.dataset, config.split, config.view.resize)
        if key in opened or StageFolder(material.trial_folder(config)).done:
            continue
        opened.add(key)
        with refusing():
            material.open_images()


def require_weights(trials: Iterable[tuple[TrialConfig, Material]]) -> None:
    """Make the networks of trials whose initialization, or whose confidence's classifiers, are not trained, once for
    each choice of networks and weights, frozen ones that give boxes included.

    So that weights that do not fit are found before any process starts, and a download happens once.

    Raises:
        Refusal: weights that cannot be had or do not fit; names what, and the remedy.
    """
    tried = set()
    for config, material in trials:
        key = (config.classifier, config.backbone, config.weights, config.pseudo_boxes.kept)
        drawn = config.weights.classifier == "none" and config.weights.regressor in ("none", "classifier")
        plain = drawn and not config.pseudo_boxes.frozen
        folders = [material.initialization_folder(config)]
        if config.confidence.out_of_fold:
            folders.append(material.out_of_fold_folder(config))
        if plain or key in tried or all(StageFolder(folder).done for folder in folders):
            continue
        tried.add(key)
        # They import torch: a study that is finished does without.
        from lchp.training.frozen import frozen_network
        from lchp.training.initialization import make_networks

        with refusing():
            make_networks(config, len(material.dataset.classes))
            if config.pseudo_boxes.frozen:
                frozen_network(config)


def require_boxes(trials: Iterable[tuple[TrialConfig, Material]]) -> None:
    """Read the boxes that trials are given in files, where their initialization is not trained.

    Raises:
        Refusal: a training image has none, or a line is none; names file, line and remedy.
    """
    read = set()
    for config, material in trials:
        key, file = Material.key(config), config.pseudo_boxes.file
        needed = config.pseudo_boxes.source == "file" and key not in read
        if not needed or file is None or StageFolder(material.initialization_folder(config)).done:
            continue
        read.add(key)
        with refusing():
            read_given_boxes(file, material.dataset)


def _suggested(study: Study) -> list[TrialConfig]:
    """The configurations of a search that differ in networks, weights or the source of boxes."""
    assert study.search is not None, "only a search suggests"
    configs: dict[TrialConfig, None] = {}
    for part in study.search.parts():
        choices = {
            key: values
            for key, values in part.items()
            if key.split(".")[0] in {"classifier", "backbone", "weights", "pseudo_boxes"}
            and not isinstance(values, Range)
        }
        for values in product(*choices.values()):
            # Together with other keys of the search they may be legal: the study's file was checked for that.
            with suppress(Refusal):
                configs[study.suggested(0, dict(zip(choices, values, strict=True)))[0].config] = None
    return list(configs)


def _largest(study: Study) -> list[TrialConfig]:
    """The configurations of a search with the largest batches that it may suggest."""
    assert study.search is not None, "only a search suggests"
    sizes: dict[str, Any] = {}
    for part in study.search.parts():
        for key in part.keys() & {f"{INITIALIZATION}.batch_size", f"{REFINEMENT}.batch_size"}:
            values = part[key]
            largest = values.high if isinstance(values, Range) else max(values)
            sizes[key] = max(largest, sizes.get(key, largest))
    return [with_values(study.searched, sizes)]


def _require_objective(study: Study, material: Material) -> None:
    """A search by boxes needs true boxes of every val image."""
    assert study.search is not None, "only a search has an objective"
    metric = study.search.objective.metric
    if metric == AGREEMENT and study.searched.pseudo_boxes.source == "file":
        raise Refusal(
            f"search.objective.metric = {metric}: the boxes of pseudo_boxes.file are those of training images, and val "
            f"has none: choose by {TOP1_CLS}"
        )
    if not study.search.objective.needs_boxes:
        return
    boxes, val = material.true_boxes, material.splits.val
    without = val if boxes is None else val.at(val.rows[boxes.counts[val.rows] == 0])
    if len(without):
        raise Refusal(
            f"search.objective.metric = {metric}: needs true boxes on val, which {len(without)} of "
            f"its {len(val)} images do not have ({without[0].path}): add them to the data, or choose by "
            f"{TOP1_CLS}, {AGREEMENT} or {CROP_CLS}"
        )
