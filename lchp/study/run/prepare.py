"""Everything of a study that can be refused before a trial starts: its data, its weights, its search's objective."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path

from lchp.errors import Refusal
from lchp.study.plan.trials import PlannedTrial, plan
from lchp.study.run.options import Machine
from lchp.study.run.recorder import Materials
from lchp.study.run.trainable import Session
from lchp.study.spec.load import Study
from lchp.study.spec.schema import Range, Search
from lchp.study.spec.values import with_values
from lchp.training.config import TrialConfig
from lchp.training.initialization import make_networks
from lchp.training.material import Material
from lchp.training.trial import DONE
from lchp.vocabulary import METRICS, TOP1_CLS


def prepare(study: Study, output: Path, machine: Machine) -> tuple[Session, tuple[PlannedTrial, ...], Materials]:
    """Open the data, once, and try the weights of every trial that is not trained yet.

    Raises:
        Refusal: data, weights or the objective's true boxes are not there; names what, and the remedy.
    """
    trials = plan(study).trials
    if study.search:
        configs = {"": _absolute(study.base.model_copy(update={"seed": study.seeds[0]}))}
    else:
        configs = {trial.name: _absolute(trial.config) for trial in trials}
    session = Session(machine.runtime(output), configs, study.search.objective.key if study.search else None)
    materials = Materials(session)
    try:
        for config in configs.values():
            materials.of(config)
    except (ValueError, OSError) as error:
        raise Refusal(str(error)) from error
    if study.search:
        _require_objective(study.search, materials.of(configs[""]))
    tried = configs.values() if study.search is None else _suggested(study.search, configs[""])
    require_weights((config, materials.of(config)) for config in tried)
    planned = (PlannedTrial(t.name, configs[t.name], t.seed, t.varied) for t in trials)
    return session, tuple(planned), materials


def require_weights(trials: Iterable[tuple[TrialConfig, Material]]) -> None:
    """Make the networks of trials whose initialization is not trained, once for each choice of networks and weights.

    So that weights that do not fit are found before any process starts, and a download happens once.

    Raises:
        Refusal: weights that cannot be had or do not fit; names what, and the remedy.
    """
    seen = set()
    for config, material in trials:
        key = config.model_dump_json(include={"classifier", "backbone", "weights"})
        plain = config.weights.classifier == "none" and config.weights.regressor in ("none", "classifier")
        if plain or key in seen or (material.initialization_folder(config) / DONE).exists():
            continue
        seen.add(key)
        try:
            make_networks(config, len(material.dataset.classes))
        except (ValueError, OSError) as error:
            raise Refusal(str(error)) from error


def _suggested(search: Search, base: TrialConfig) -> list[TrialConfig]:
    """The configurations of a search that differ in networks or weights."""
    choices = {
        key: values
        for key, values in search.space.items()
        if key.split(".")[0] in {"classifier", "backbone", "weights"} and not isinstance(values, Range)
    }
    return [with_values(base, dict(zip(choices, values, strict=True))) for values in product(*choices.values())]


def _require_objective(search: Search, material: Material) -> None:
    """A search by boxes needs true boxes of every val image."""
    if not METRICS[search.objective.metric].needs_boxes:
        return
    boxes = material.true_boxes or {}
    without = [record.path for record in material.splits.val if record.path not in boxes]
    if without:
        raise Refusal(
            f"search.objective.metric = {search.objective.metric}: needs true boxes on val, which {len(without)} of "
            f"its {len(material.splits.val)} images do not have ({without[0]}): add them to the data, or choose by "
            f"{TOP1_CLS}"
        )


def _absolute(config: TrialConfig) -> TrialConfig:
    """The configuration with absolute paths: workers stand in other folders."""
    plain = config.model_dump(mode="json")
    path = plain["dataset"].get("path")
    if path is not None:
        plain["dataset"]["path"] = str(Path(path).absolute())
    for weights in plain["weights"].values():
        if isinstance(weights, dict):
            weights["file"] = str(Path(weights["file"]).absolute())
    return TrialConfig.model_validate(plain)
