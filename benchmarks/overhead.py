"""What the study engine costs besides training: studies of do-nothing trials, and Ray's own floor beside them.

A trial here links the files of one that was trained before, and reports its epochs at once; all else is the study as it
always is: ledger, cards, MLflow in SQLite, tables, report. Four times for each number of trials: the study under Ray;
Ray Tune alone, with a Trainable that does nothing and the same options; the study with its workers in this process,
without Ray; and the finished study once more. CPU seconds are those of the study's own process, without Ray's.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from driven import drive

from lchp.store.folder import StageFolder
from lchp.study.run import cluster, ray_tune
from lchp.study.run.options import Machine, total_epochs
from lchp.study.run.pictures import keep_picture
from lchp.study.run.prepare import Materials
from lchp.study.run.queue import Job
from lchp.study.run.recorder import Recorder
from lchp.study.run.study import run_study
from lchp.study.spec.load import Study, load_study
from lchp.study.spec.trials import ResolvedTrial
from lchp.training.environment import describe
from lchp.training.material import Material

STUDY = """
name: nothing
preset: quickstart
dataset: {{kind: synthetic, train_per_class: 6, test_per_class: 2, size: 40}}
view: {{resize: 40, crop: 32}}
split: {{val_per_class: 1}}
initialization: {{epochs: 2, regressor_start: 0, batch_size: 16, attention_maps: 2}}
refinement: {{epochs: 2, batch_size: 16}}
vary: {{tau: [{taus}]}}
tables: [{{by: [], fixed: {{tau: 0.0}}}}]
"""
TEMPLATE = "LCHP_OVERHEAD_TEMPLATE"
"""The variable that says to workers where the trained trial lies."""
FLOOR = """
import logging, sys, time
import ray
from ray import tune
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
class Nothing(tune.Trainable):
    def setup(self, config): pass
    def step(self): return {"done": True}
    def reset_config(self, config): return True
ray.init(address="local", num_cpus=int(sys.argv[2]), include_dashboard=False, log_to_driver=False)
started = time.perf_counter()
tune.Tuner(
    tune.with_resources(Nothing, {"cpu": 1}),
    param_space={"number": tune.grid_search(list(range(int(sys.argv[1]))))},
    tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=int(sys.argv[2])),
    run_config=tune.RunConfig(
        storage_path=sys.argv[3], name="floor", verbose=0,
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
    ),
).fit()
print(time.perf_counter() - started)
"""


def finish(job: Job, material: Material) -> dict[str, Any]:
    """Put the files of the trained trial where those of this one belong; gives what a worker reports."""
    template, folder = Path(os.environ[TEMPLATE]), material.trial_folder(job.trial.config)
    folder.mkdir(parents=True, exist_ok=True)
    for file in template.iterdir():
        if not file.name.startswith("."):
            (folder / file.name).hardlink_to(file)
    reports = StageFolder(template).history()
    for report in reports:
        report["reused"] = report["stage"] == "initialization"
    return {"global_epoch": total_epochs(job.trial.config), "done": True, "reports": reports, "notes": []}


def child(requests: int, commands: int) -> None:
    """The process that talks to Ray, with workers that do nothing."""
    from lchp.study.run import ray_process

    class Nothing(ray_process.TrialTrainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any], session: Any) -> None:
            self.session, self.job = session, config["job"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.job = new_config["job"]
            return True

        def step(self) -> dict[str, Any]:
            from overhead import finish

            return finish(self.job, self.session.material(self.job.trial.config))

        def cleanup(self) -> None:
            """Nothing to let go."""

    ray_process.TrialTrainable = Nothing  # type: ignore[misc]
    ray_process.main(requests, commands)


def alone(study: Study, trials: Sequence[ResolvedTrial], recorder: Recorder) -> None:
    """The study's workers in this process."""
    drive(study, trials, recorder, lambda job, material: [finish(job, material)])


def written(folder: Path, trials: int) -> Study:
    """The study of so many trials."""
    file = folder / "nothing.yaml"
    taus = ", ".join(f"{(number + 1) / (trials + 2):.6f}" for number in range(trials))
    file.write_text(STUDY.format(taus=f"0.0, {taus}" if trials else "0.0"), encoding="utf-8")
    return load_study(file, ())


def prepared(folder: Path, machine: Machine) -> Path:
    """Train one trial; gives its folder, with its initialization beside it."""
    from lchp.training.trial import run_trial

    config = written(folder, 0).trials[0].config
    runtime = machine.runtime(folder / "first")
    material = Materials(runtime).of(config)
    trained = run_trial(config, runtime, lambda _: None, material).folder
    keep_picture(material, trained)
    return trained


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds and this process's CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def measured(
    folder: Path, template: Path, machine: Machine, trials: int, cores: int
) -> Iterator[tuple[str, tuple[float, float]]]:
    """The four measurements of a study of so many trials besides the trained one, as they come."""
    study = written(folder, trials)
    study = replace(study, resources=study.resources.model_copy(update={"concurrent": cores}))
    train = ray_tune.train
    for name, trainer in (("study", train), ("study without Ray", alone)):
        place = folder / f"{trials} {name}"
        shutil.copytree(template.parent.parent, place / "out/.store")

        def run(place: Path = place) -> None:
            uri = f"sqlite:///{place / 'mlflow.db'}"
            assert run_study(study, place / "out", uri, machine, lambda _: None) == 0

        ray_tune.train = trainer
        yield name, timed(run)
        if trainer is alone:
            yield "finished study again", timed(run)
        shutil.rmtree(place)
    ray_tune.train = train
    done = subprocess.run(
        [sys.executable, "-c", FLOOR, str(trials), str(cores), str(folder / "floor")],
        capture_output=True, text=True, check=True, env={**os.environ, **cluster.QUIET},
    )  # fmt: skip
    yield "Ray Tune alone", (float(done.stdout.split()[-1]), float("nan"))


def main() -> None:
    """Measure, and print a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--cores", type=int, default=2, help="trials at once")
    chosen = parser.parse_args()
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    cluster._CODE = "from overhead import child; child(int(sys.argv[1]), int(sys.argv[2]))"
    made = describe("cpu")
    print(f"{made['cpu']}, {os.cpu_count()} cores, {platform.system()}; commit {made['commit']}; {made['versions']}")
    print(f"{'':<24}{'trials':>8}{'seconds':>10}{'ms a trial':>12}{'CPU ms a trial':>16}", flush=True)
    with tempfile.TemporaryDirectory(prefix="lchp-overhead-") as scratch:
        folder = Path(scratch)
        machine = Machine(folder / "cache", "cpu")
        template = prepared(folder, machine)
        os.environ[TEMPLATE] = str(template)
        for trials in chosen.trials:
            for name, (wall, cpu) in measured(folder, template, machine, trials, chosen.cores):
                each, own = 1000 * wall / trials, 1000 * cpu / trials
                print(f"{name:<24}{trials:>8}{wall:>10.1f}{each:>12.1f}{own:>16.1f}", flush=True)


if __name__ == "__main__":
    main()
