"""What sharing stages saves: Tables 3 to 6 of the paper at a CPU's size, as one study and row by row.

The study is studies/paper-cub.yaml with small networks in place of its own, on drawn creatures, shorter. As one study
it is what `lchp study run` makes of it, but that its workers are in this process. Row by row, each row of the four
tables is a trial in a store of its own: 20 of them, the paper's own setting four times among them. Both ways must
come to the same bits, and to the same tables. The ratio of their CPU seconds stands beside the one that the arithmetic
of `lchp study plan` gives, and beside what the runs say of themselves: `cost/seconds_alone` over `cost/seconds`.

The same command goes on where it was ended; ``--folder`` keeps what is trained, and is not to be there of another
commit.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from driven import drive

from lchp.data.files import write_json
from lchp.store.folder import StageFolder
from lchp.store.study_folder import StudyFolder, store_of
from lchp.study.plan.cost import cost_of
from lchp.study.plan.trials import initialization_name, plan
from lchp.study.run import ray_tune
from lchp.study.run.cards import Card, Cards
from lchp.study.run.options import Machine
from lchp.study.run.prepare import Materials
from lchp.study.run.queue import Job
from lchp.study.run.recorder import Recorder
from lchp.study.run.results import table_specs
from lchp.study.run.run_cards import is_trial
from lchp.study.run.scribe import costs
from lchp.study.run.study import run_study
from lchp.study.spec.load import Study, load_study
from lchp.study.spec.trials import ResolvedTrial
from lchp.training.environment import describe
from lchp.training.material import Material
from lchp.training.trial import finished_trial, run_trial, trial_epochs

SHIPPED = Path(__file__).parents[1] / "studies/paper-cub.yaml"
SMALL = {"inception_v3": "small_cnn", "vgg19_bn": "mobilenet_v2", "resnet50": "fine_cnn"}
"""What stands for the networks of the paper: one as dear as the classifier, a dearer and a cheaper one."""
SETS = (
    "classifier=small_cnn",
    "backbone=small_cnn",
    "weights={classifier: none, regressor: none}",
    "dataset={kind: synthetic, train_per_class: 24, test_per_class: 20}",
    "view={resize: 72, crop: 64}",
    "initialization={epochs: 6, batch_size: 16, classifier_rate: 0.05, attention_maps: 8, bap_scale: 10}",
    "refinement={epochs: 6, batch_size: 16}",
    "compute={channels_last: true}",
)


def written(folder: Path, sets: Sequence[str]) -> Study:
    """The study as it is measured."""
    text = SHIPPED.read_text(encoding="utf-8")
    for network, small in SMALL.items():
        text = text.replace(network, small)
    file = folder / SHIPPED.name
    file.write_text(text, encoding="utf-8")
    return load_study(file, [*SETS, *sets])


def rows_of(study: Study) -> list[tuple[str, ResolvedTrial]]:
    """The rows of the paper's tables, each with the trial that fills it."""
    return [
        (table.name, trial)
        for table in table_specs(study)
        if table.paper
        for trial in study.trials
        if all(trial.varied[key] == value for key, value in table.fixed.items())
    ]


def train_here(job: Job, material: Material) -> Iterator[dict[str, Any]]:
    """Trains a trial; gives what its worker would report after every epoch."""
    for report in trial_epochs(job.trial.config, material.runtime, material):
        yield {"global_epoch": report.step, "done": False, "reports": [asdict(report)]}


class Measurements:
    """CPU seconds by name, kept in a file as they come."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.seconds: dict[str, float] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def keep(self, name: str, seconds: float) -> None:
        """One more."""
        self.seconds[name] = seconds
        write_json(self.file, self.seconds)
        print(f"{name:<100}{seconds:>8.1f} CPU s", flush=True)


def as_one_study(study: Study, folder: Path, machine: Machine, measured: Measurements) -> Path:
    """Run the study, unless that is measured; gives its output folder."""
    output = folder / "together"
    if "study" in measured.seconds:
        return output
    shutil.rmtree(output, ignore_errors=True)
    training = 0.0

    def train(study: Study, trials: Sequence[ResolvedTrial], recorder: Recorder) -> None:
        nonlocal training
        begin = time.process_time()
        drive(study, trials, recorder, train_here)
        training = time.process_time() - begin

    ray_tune.train = train
    begin = time.process_time()
    assert run_study(study, output, f"sqlite:///{output / 'mlflow.db'}", machine, lambda line: None) == 0
    whole = time.process_time() - begin
    measured.keep("training", training)
    measured.keep("study", whole)
    return output


def row_by_row(study: Study, folder: Path, machine: Machine, measured: Measurements) -> Path:
    """Train every row in a store of its own, unless that is measured; gives an output folder that holds each trial once
    in its store, after it was seen that rows of one trial have the same bits.
    """
    output = folder / "alone"
    for table, trial in rows_of(study):
        name = f"{table} {trial.name}"
        place = folder / "rows" / name.replace(" ", "_")
        runtime = machine.runtime(place)
        if name not in measured.seconds:
            shutil.rmtree(place, ignore_errors=True)
            begin = time.process_time()
            run_trial(trial.config, runtime, lambda report: None)
            measured.keep(name, time.process_time() - begin)
        result = finished_trial(trial.config, runtime)
        assert result is not None, f"{place} holds its trial no more: delete {folder}"
        for kept in store_of(place).glob("*/*/manifest.json"):
            there = store_of(output) / kept.parent.relative_to(store_of(place))
            if not there.exists():
                shutil.copytree(kept.parent, there)
        same = store_of(output) / result.folder.relative_to(store_of(place))
        assert bits(same) == bits(result.folder), f"{name}: the same trial in another table has other bits"
    return output


def bits(folder: Path) -> tuple[dict[str, float], str]:
    """All that was measured of a finished trial."""
    stage = StageFolder(folder)
    return stage.scores(), stage.per_image_text()


def same_tables(study: Study, together: Path, alone: Path, machine: Machine) -> list[str]:
    """Make the tables of the trials of ``alone`` as the study makes its own, and see that they are equal, byte by byte;
    gives their names.
    """
    uri = f"sqlite:///{together / 'of-alone.db'}"

    def train(study: Study, trials: Sequence[ResolvedTrial], recorder: Recorder) -> None:
        raise AssertionError(f"{len(trials)} trials were not trained by themselves")

    ray_tune.train = train
    assert run_study(study, alone, uri, machine, lambda line: None) == 0
    names = [table.name for table in study.tables]
    for one in (StudyFolder(output / study.name) for output in (together, alone)):
        assert one.ledger.exists()
    for name in names:
        ours, theirs = (StudyFolder(output / study.name).table(name) for output in (together, alone))
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.read_bytes() == other.read_bytes(), f"{mine} and {other} differ"
    for trial in study.trials:
        place = Materials(machine.runtime(together)).folder(trial.config)
        assert bits(store_of(together) / place) == bits(store_of(alone) / place), trial.name
    return names


def gflop(study: Study) -> tuple[float, float]:
    """By the arithmetic of the plan: of the study, and of its rows one by one."""
    planned = plan(study)
    assert planned.cost is not None, "drawn creatures are counted"
    images = {dataset: counts for dataset, counts in planned.images.items() if counts is not None}
    alone = sum(cost_of([c], [c], [c], images).total for c in (trial.config for _, trial in rows_of(study)))
    return planned.cost.total, alone


def classifiers_gflop(study: Study) -> float:
    """By the same arithmetic: what classifiers cost that are trained beside a twin of theirs, since their
    initialization has another backbone alone, with which they share no parameter: one might be trained for all.
    """
    images = {dataset: counts for dataset, counts in plan(study).images.items() if counts is not None}
    first, found = {initialization_name(trial.config): trial.config for trial in study.trials}, 0.0
    seen = set()
    for config in first.values():
        alike = initialization_name(config.model_copy(update={"backbone": study.base.backbone}))
        if alike in seen:
            stage = config.initialization
            half = stage.model_copy(update={"classifier_epochs": stage.epochs // 2})
            shorter = config.model_copy(update={"initialization": half})
            found += 2 * sum(
                sign * cost_of([], [one], [], images).initialization for sign, one in ((1, config), (-1, shorter))
            )
        seen.add(alike)
    return found


def told(study: Study, output: Path) -> tuple[float, float]:
    """By what the runs say of their epochs, in seconds: of the study, and of its rows one by one."""
    cards = {card.name: costs(card) for card in Cards(output / study.name).all() if _of_trial(card)}
    together = sum(cost["cost/seconds"] for cost in cards.values())
    return together, sum(cards[trial.name]["cost/seconds_alone"] for _, trial in rows_of(study))


def _of_trial(card: Card) -> bool:
    return card.folder is not None and is_trial(card)


def main() -> None:
    """Train both ways, compare, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    chosen = parser.parse_args()
    folder = chosen.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    made = describe("cpu")
    print(f"{made['cpu']}, {os.cpu_count()} cores; commit {made['commit']}; {made['versions']}", flush=True)
    study, machine = written(folder, chosen.sets), Machine(folder / "cache", "cpu")
    Materials(machine.runtime(folder)).of(study.trials[0].config).open_images()
    measured = Measurements(folder / "seconds.json")
    together = as_one_study(study, folder, machine, measured)
    alone = row_by_row(study, folder, machine, measured)
    names, planned = same_tables(study, together, alone, machine), plan(study)
    rows = [f"{table} {trial.name}" for table, trial in rows_of(study)]
    apart = sum(measured.seconds[name] for name in rows)
    print(f"{len(study.trials)} trials over {planned.initializations} initializations; {len(rows)} rows trained alone")
    print(f"equal to the byte: {', '.join(names)}; every score and every box of {len(study.trials)} trials")
    lines = {
        "CPU seconds of training": (measured.seconds["training"], apart),
        "the same, and all that the study does besides": (measured.seconds["study"], apart),
        "seconds of epochs, by the runs' own cost/seconds": told(study, together),
        "GFLOP, by lchp study plan": gflop(study),
    }
    print(f"{'':<52}{'study':>12}{'alone':>12}{'ratio':>8}")
    for name, (ours, theirs) in lines.items():
        print(f"{name:<52}{ours:>12.1f}{theirs:>12.1f}{theirs / ours:>8.2f}")
    paper = gflop(load_study(SHIPPED, ()))
    print(
        f"{'GFLOP of studies/paper-cub.yaml itself':<52}{paper[0]:>12.0f}{paper[1]:>12.0f}{paper[1] / paper[0]:>8.2f}"
    )


if __name__ == "__main__":
    main()
