"""The engine's training and evaluation against the reference's, interleaved, and both against the hardware's ceilings.

    python benchmarks/training.py --case mobilenet_160
    python benchmarks/training.py --device cuda --case paper --measure initialization refinement --seconds 40
    python benchmarks/training.py --device cuda --case paper --profile profile.txt

First both must compute the same losses and boxes (``check``). Then whole epochs of both are timed in turn: on images
that lie in memory (``held``: the steps alone), the engine's own cache of resized images (``cache``; on CUDA both lie on
the device, where they fit), and image files (``files``; the reference through a DataLoader). Results are written as
they come: ``training-<name>.json``, and the table ``training.md`` of all of those in the folder.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from agreement import compared, faults
from cases import CASES, Author, Engine, Repeated, configured, draw_images, prepared
from epochs import timed
from parts import timed_parts
from profiling import profile
from reference import evaluate, pseudo_label, regressed
from rooflines import Ceilings, ceilings, demands
from table import table

from lchp.training.environment import describe
from lchp.training.stages import set_up_torch

STAGES = ("initialization", "refinement")
MEASUREMENTS = ("check", *STAGES, "evaluation", "parts")


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--case", choices=tuple(CASES), default="quickstart")
    parser.add_argument("--measure", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--seconds", type=float, default=60, help="of each stage and of the evaluation, about")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--workers", type=int, help="of both loaders; default: 0, on cuda the cores")
    parser.add_argument("--compute", nargs="*", default=[], metavar="KEY=VALUE", help="of the engine's `compute`")
    parser.add_argument("--data", nargs="+", choices=("held", "cache", "files"), help="default: cpu cache, cuda all")
    parser.add_argument(
        "--references",
        nargs="*",
        choices=("fp32", "bf16"),
        help="default: fp32, on cuda both; none: the engine alone",
    )
    parser.add_argument("--train", type=int, help="training images; default: those of an epoch that is timed")
    parser.add_argument("--images", type=Path, default=Path("/tmp/lchp-benchmark"), help="folder for drawn images")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", help="of the result; default: the case and the device")
    parser.add_argument("--profile", type=Path, help="profile the engine's steps into this file, and nothing else")
    return parser.parse_args()


class Run:
    """One call: what is measured, and the file that the results go to."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen, self.device, self.case = chosen, chosen.device, CASES[chosen.case]
        cuda = self.device == "cuda"
        self.workers = chosen.workers if chosen.workers is not None else (os.cpu_count() or 1 if cuda else 0)
        self.data = chosen.data or (("held", "cache", "files") if cuda else ("cache",))
        compute = {"precision": "bf16", "channels_last": True} if cuda else {}
        self.compute = compute | dict(item.split("=", 1) for item in chosen.compute)
        self.compute = {key: yaml.safe_load(str(value)) for key, value in self.compute.items()}
        self.compute["cpu_threads"] = chosen.threads
        self.folder = chosen.images / (f"{chosen.case}-{chosen.train}" if chosen.train else chosen.case)
        draw_images(self.case, self.folder, os.cpu_count() or 1, chosen.train)
        self.config = configured(self.case, self.folder, self.compute)
        set_up_torch(self.config.compute, self.device)
        self.file = chosen.out / f"training-{chosen.name or f'{chosen.case}-{self.device}'}.json"
        self.found: dict[str, Any] = {
            "case": chosen.case,
            "device": self.device,
            "compute": {"precision": "fp32", **self.config.compute.model_dump(exclude_defaults=True)},
            "workers": self.workers,
            "batch": self.case.batch,
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "made": describe(self.device),
            "cuda": torch.version.cuda if cuda else None,
        }

    def engine(self, **changes: Any) -> Engine:
        """A fresh engine."""
        config = configured(self.case, self.folder, self.compute | changes.pop("compute", {}), **changes)
        return Engine(self.case, config, prepared(config, self.folder, self.device, self.workers), self.workers)

    def write(self) -> None:
        """What was found so far."""
        self.chosen.out.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
        part.replace(self.file)
        table(self.chosen.out)

    def measure(self) -> bool:
        """Everything that was asked for, written as it comes; whether all of it went well."""
        well = True
        limits = ceilings(self.device)
        self.found["ceilings"] = asdict(limits)
        self.write()
        for name in MEASUREMENTS:
            if name not in self.chosen.measure:
                continue
            started = time.perf_counter()
            try:
                self.found[name] = self.one(name, limits)
            except Exception as error:
                traceback.print_exc()
                self.found[name] = {"failed": f"{type(error).__name__}: {error}"}
                well = False
            print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
            self.write()
            gc.collect()
            if self.device == "cuda":
                torch.cuda.empty_cache()
        return well

    def one(self, name: str, limits: Ceilings) -> dict[str, Any]:
        """One measurement."""
        if name == "check":
            return self.check()
        if name == "evaluation":
            return self.evaluation()
        if name == "parts":
            return timed_parts(self.engine(), self.device)
        return self.stage(name, limits)

    def check(self) -> dict[str, Any]:
        """Both contenders' losses and boxes in full precision. Raises ValueError where they differ."""
        kept = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        try:
            engine = self.engine(rate=2e-4, tau=0.0, compute={"precision": "fp32"})
            found = compared(engine, Author(engine, bf16=False, workers=0))
        finally:
            torch.backends.cudnn.allow_tf32 = kept
        wrong = faults(found)
        if wrong:
            raise ValueError(f"engine and reference differ: {'; '.join(wrong)}")
        return found

    def authors(self, engine: Engine) -> dict[str, Author]:
        """The references: in full precision and, on CUDA, under bf16 autocast."""
        chosen = self.chosen.references
        if chosen is None:
            chosen = ["fp32", "bf16"] if self.device == "cuda" else ["fp32"]
        names = {"fp32": "reference", "bf16": "reference bf16"}
        return {names[kind]: Author(engine, kind == "bf16", self.workers) for kind in chosen}

    def stage(self, name: str, limits: Ceilings) -> dict[str, Any]:
        """Epochs of one stage in turn, and what a step asks for."""
        engine = self.engine()
        ours = engine.stage(name)
        sources = {
            "held": lambda: engine.held,
            "cache": lambda: engine.material.train,
            "files": lambda: engine.undecoded,
        }
        epochs: dict[str, Callable[[], object]] = {}
        for data in self.data:
            source = sources[data]()
            workers = 0 if data == "held" else self.workers
            epochs[f"engine {data}"] = lambda source=source, workers=workers: waiting(ours, source, workers)
        loader, kept = None, []
        for who, author in self.authors(engine).items():
            if loader is None:
                loader = author.loader(name)
                kept = kept_batches(loader, 3)
            theirs = author.stage(name)
            if "held" in self.data:
                held = Repeated(kept, self.case.steps)
                epochs[f"{who} held"] = lambda theirs=theirs, held=held: theirs.train_epoch(held)
            if self.data != ["held"]:
                epochs[f"{who} files"] = lambda theirs=theirs, loader=loader: theirs.train_epoch(loader)
        images = len(engine.material.train) // self.case.batch * self.case.batch
        counts = {who: self.case.steps * self.case.batch if who.endswith("held") else images for who in epochs}
        found: dict[str, Any] = {"contenders": timed(epochs, counts, self.device, self.chosen.seconds)}
        if kept:
            author = Author(engine, bf16=self.config.compute.precision == "bf16", workers=0)
            parts = [part.to(self.device) for part in kept[0]]
            found["demands"] = demands(lambda: author.stage(name).step(*parts), limits, self.case.batch)
        return found

    def evaluation(self) -> dict[str, Any]:
        """What either stage measures after an epoch, the engine's methods and the reference's."""
        engine = self.engine()
        first, second, split = engine.initialization, engine.refinement, [engine.material.test]
        first.epoch = 1
        epochs: dict[str, Callable[[], object]] = {
            "engine initialization": lambda: first.measure(engine.evaluator, split),
            "engine refinement": lambda: second.measure(engine.evaluator, split),
        }
        for who, author in self.authors(engine).items():
            stage, tests = author.initialization, author.test

            def after_first(stage: Any = stage, tests: Any = tests) -> None:
                for predict in (pseudo_label(stage, stage.momentum), regressed(stage, stage.regressor)):
                    evaluate(stage, predict, stage.momentum, tests)

            def after_second(stage: Any = author.refinement, tests: Any = tests) -> None:
                evaluate(stage, regressed(stage, stage.regressor), stage.classifier, tests)

            epochs[f"{who} initialization"], epochs[f"{who} refinement"] = after_first, after_second
        counts = dict.fromkeys(epochs, self.case.test)
        return {"contenders": timed(epochs, counts, self.device, self.chosen.seconds)}


def waiting(stage: Any, source: Any, workers: int) -> float:
    """Trains an epoch of the engine's stage; the share of its steps' time that was waiting for images, by its own
    watch.
    """
    stage.train_epoch(source, workers)
    return float(stage.watch.waited.share)


def kept_batches(loader: Any, count: int) -> list[list[torch.Tensor]]:
    """The first batches of a loader."""
    kept = []
    for batch in loader:
        kept.append(batch)
        if len(kept) == count:
            break
    return kept


def main() -> None:
    """Measure, print the table of this run, and end with 1 where something failed."""
    chosen = arguments()
    run = Run(chosen)
    if chosen.profile:
        stages = [name for name in STAGES if name in chosen.measure]
        profile(run.engine(), stages, chosen.profile, chosen.device)
        return
    well = run.measure()
    print((chosen.out / "training.md").read_text(encoding="utf-8"))
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
