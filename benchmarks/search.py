"""What a search finds for its cost: TPE with successive halving against random suggestions, on drawn creatures.

Both have the same space, data and budget: so many trials' worth of training, in the GFLOP of `lchp study plan`, each
with a store of its own; the last trial is trained to its end. A line for each search, and the mean over its seeds with
the sample standard deviation: the best on val, by which it chooses, what that trial has on test, and how many
suggestions were begun, finished and pruned. With ``--json`` also the best on val after every finished suggestion, over
the share of the budget that was spent; searches that the file holds already are not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from lchp.data.files import write_json
from lchp.data.kinds import Counts
from lchp.study.plan.cost import cost_of
from lchp.study.run.optuna_search import ContinuedSearch
from lchp.study.spec.load import Study, load_study
from lchp.training.config import TrialConfig
from lchp.training.environment import describe
from lchp.training.material import Material, Runtime
from lchp.training.trial import finished_trial, trial_epochs
from lchp.vocabulary import INITIALIZATION, TEST, VAL

STUDY = """
name: search
preset: quickstart
dataset: {kind: synthetic, train_per_class: 100}
split: {val_per_class: 20}
weights: {regressor: none}
initialization: {epochs: 5, regressor_start: 0}
refinement: {epochs: 3}
search:
  trials: 10000
  space:
    delta: {low: 0.2, high: 0.7}
    tau: {low: 0.0, high: 0.95}
    beta: {low: 0.5, high: 0.99}
    augmentation: [none, flip, scale, translation, scale+flip, scale+translation+flip]
    initialization.classifier_rate: {low: 0.001, high: 0.1, log: true}
    initialization.regressor_rate: {low: 0.0001, high: 0.01, log: true}
"""
SEARCHES = {
    "random": ["search.sampler=random"],
    "tpe and asha": ["search.sampler=tpe", "search.pruner={kind: asha, grace: 2, reduction: 2}"],
}


@dataclass
class Found:
    """What one search came to."""

    val: float = 0.0
    test: float = 0.0
    begun: int = 0
    finished: int = 0
    pruned: int = 0
    curve: list[tuple[float, float]] = field(default_factory=list)
    """Share of the budget, and the best on val until then."""


class Kept:
    """The searches that a file holds, of the same settings."""

    def __init__(self, file: Path | None, settings: dict[str, Any]) -> None:
        self.file, self.content = file, {**settings, "searches": {}}
        if file is not None and file.exists():
            before = json.loads(file.read_text(encoding="utf-8"))
            for name in ("trials", "set", "commit"):
                if before[name] != settings[name]:
                    raise SystemExit(f"{file}: made with {name} {before[name]}, not {settings[name]}: name another")
            self.content["searches"] = before["searches"]

    def get(self, name: str, seed: int) -> Found | None:
        """The search of that kind and seed."""
        plain = self.content["searches"].get(name, {}).get(str(seed))
        return None if plain is None else Found(**plain)

    def put(self, name: str, seed: int, found: Found) -> None:
        """Keep one that has ended."""
        self.content["searches"].setdefault(name, {})[str(seed)] = asdict(found)
        if self.file is not None:
            write_json(self.file, self.content)


def epoch_costs(config: TrialConfig, material: Material) -> dict[bool, float]:
    """GFLOP of an epoch, of initialization (True) and of refinement."""
    images = Counts(len(material.splits.train), 0, len(material.dataset.classes), "here")
    cost = cost_of([config], [config], [config], {config.dataset: images})
    return {True: cost.initialization / config.initialization.epochs, False: cost.refinement / config.refinement.epochs}


def searched(study: Study, folder: Path, cache: Path, trials: float) -> Found:
    """Search in ``folder`` until so many trials' worth of training is spent; the last trial is trained to its end."""
    folder.mkdir(parents=True)
    runtime, found = Runtime(folder / "store", cache), Found()
    material = Material.prepare(study.searched, runtime)
    costs = epoch_costs(study.searched, material)
    epochs = study.searched.initialization.epochs, study.searched.refinement.epochs
    budget, spent = trials * (costs[True] * epochs[0] + costs[False] * epochs[1]), 0.0
    assert study.search is not None, "it is written so"
    objective = study.search.objective
    searcher = ContinuedSearch(study, folder, lambda *told: None)
    while spent < budget and (trial := searcher.next()) is not None:
        found.begun += 1
        reason = None
        try:
            for report in trial_epochs(trial.config, runtime, material):
                spent += 0.0 if report.reused else costs[report.stage == INITIALIZATION]
                last = report.step == sum(epochs)
                reason = None if last else searcher.stops(trial, [asdict(report)])
                if reason is not None:
                    break
        except FloatingPointError:
            searcher.tell(trial, None)
            continue
        if reason is not None:
            searcher.prune(trial)
            found.pruned += 1
            continue
        result = finished_trial(trial.config, runtime, material)
        assert result is not None, "its epochs have ended"
        value = result.scores[objective.key]
        searcher.tell(trial, value)
        found.finished += 1
        if found.finished == 1 or value > found.val:
            found.val = value
            found.test = result.scores[objective.key.replace(f"/{VAL}/", f"/{TEST}/")]
        found.curve.append((spent / budget, found.val))
    return found


def main() -> None:
    """Search, and print a line for each search and for the mean of each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=float, default=16, help="trials' worth of training that each search has")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of sampler and training")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it")
    chosen = parser.parse_args()
    made = describe("cpu")
    print(f"{made['cpu']}, {os.cpu_count()} cores; commit {made['commit']}; {made['versions']}")
    print(f"{'':<16}{'seed':>6}{'val':>8}{'test':>8}{'begun':>8}{'finished':>10}{'pruned':>8}", flush=True)
    settings = {"trials": chosen.trials, "set": chosen.sets, "commit": made["commit"], "environment": made}
    kept = Kept(chosen.json, settings)
    with tempfile.TemporaryDirectory(prefix="lchp-search-") as scratch:
        file = Path(scratch) / "study.yaml"
        file.write_text(STUDY, encoding="utf-8")
        for name, sets in SEARCHES.items():
            several = []
            for seed in chosen.seeds:
                study = load_study(file, [*sets, f"search.seed={seed}", f"seeds=[{seed}]", *chosen.sets])
                one = kept.get(name, seed)
                if one is None:
                    one = searched(study, Path(scratch) / name / str(seed), Path(scratch) / "cache", chosen.trials)
                    kept.put(name, seed, one)
                several.append(one)
                counts = f"{one.begun:>8}{one.finished:>10}{one.pruned:>8}"
                print(f"{name:<16}{seed:>6}{one.val:>8.4f}{one.test:>8.4f}{counts}", flush=True)
            if len(several) > 1:
                columns = [[one.val for one in several], [one.test for one in several]]
                means = " ".join(f"{fmean(column):.4f} ± {stdev(column):.4f}" for column in columns)
                print(f"{name:<16}  mean val, test: {means} (n {len(several)})", flush=True)


if __name__ == "__main__":
    main()
