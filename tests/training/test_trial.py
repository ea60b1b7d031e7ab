from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lchp.data.loader import ImageSource
from lchp.errors import Refusal
from lchp.store.datasets import list_file, read_list
from lchp.store.folder import StageFolder
from lchp.store.in_use import require_unused
from lchp.store.selection import own_rule
from lchp.training import trial
from lchp.training.config import TrialConfig
from lchp.training.evaluation import Evaluator
from lchp.training.initialization import Initialization, trained_networks
from lchp.training.material import Material, Runtime
from lchp.training.refinement import Refinement
from lchp.training.stages import EpochReport
from lchp.training.trial import finished_trial, run_trial, trial_epochs
from lchp.vocabulary import METRICS, Score

from ..data.layouts import draw_cub, draw_table
from .old import as_of_old
from .tiny import assert_same_results, folders, history, same_tensors, same_weights, tiny, train, values

# Every kind of state that a checkpoint must hold: schedules, averages, blocks copied in the middle, a teacher of its
# own. With every box selected, another teacher gives other weights.
STATEFUL: dict[str, Any] = {
    "tau": 0.0,
    "weights": {"classifier": "none", "regressor": "classifier"},
    "initialization": {"report": "average", "schedule": "cosine", "warmup": 4, "clip": 1.0, "augmentation": "flip"},
    "refinement": {"teacher": "ema", "teacher_momentum": 0.5, "report": "average", "schedule": "cosine", "warmup": 3},
}
EPOCHS = 5
SECONDS = 120


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, Path]:
    """The folders of a stateful trial that was never stopped."""
    runtime = Runtime(tmp_path_factory.mktemp("through"), cache)
    assert [report.reused for report in train(tiny(**STATEFUL), runtime)] == [False] * EPOCHS
    return folders(tiny(**STATEFUL), runtime)


def stop_after(count: int, config: TrialConfig, runtime: Runtime) -> None:
    """Trains until ``count`` epochs are reported, and lets go."""
    epochs = trial_epochs(config, runtime)
    for _ in range(count):
        next(epochs)
    epochs.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("boundary", range(1, EPOCHS + 1))
def test_trial_stopped_at_a_boundary_and_continued_has_the_same_bits(
    boundary: int, through: tuple[Path, Path], runtime: Runtime
) -> None:
    config = tiny(**STATEFUL)
    stop_after(boundary, config, runtime)
    assert finished_trial(config, runtime) is None
    reports = train(config, runtime)
    assert [report.reused for report in reports] == [True] * boundary + [False] * (EPOCHS - boundary)
    assert [report.step for report in reports] == list(range(1, EPOCHS + 1))
    for stopped, whole in zip(folders(config, runtime), through, strict=True):
        assert_same_results(stopped, whole)


def test_trial_stopped_at_every_boundary_has_the_same_bits(through: tuple[Path, Path], runtime: Runtime) -> None:
    config = tiny(**STATEFUL)
    for boundary in range(1, EPOCHS + 1):
        stop_after(boundary, config, runtime)
    train(config, runtime)
    for stopped, whole in zip(folders(config, runtime), through, strict=True):
        assert_same_results(stopped, whole)


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Python in a process of its own, which prints JSON."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    )


KILLED = """
import json, os, signal, sys
from pathlib import Path
from lchp.training.config import TrialConfig
from lchp.training.material import Runtime
from lchp.training.refinement import Refinement
from lchp.training.trial import run_trial

store, cache, config = sys.argv[1:]
step, steps = Refinement._step, 0

def dying(self, *batch):
    global steps
    steps += self.epoch == 1
    if steps == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *batch)

Refinement._step = dying
run_trial(TrialConfig(**json.loads(config)), Runtime(Path(store), Path(cache)), lambda report: None)
"""


def test_trial_killed_within_an_epoch_and_continued_has_the_same_bits(
    through: tuple[Path, Path], runtime: Runtime
) -> None:
    process = start(KILLED, str(runtime.store), str(runtime.cache), json.dumps(values(**STATEFUL)))
    process.communicate(timeout=SECONDS)
    assert process.returncode == -signal.SIGKILL
    config = tiny(**STATEFUL)
    assert [report.reused for report in train(config, runtime)] == [True] * 4 + [False]
    for stopped, whole in zip(folders(config, runtime), through, strict=True):
        assert_same_results(stopped, whole)


def test_trial_again_in_another_store_has_the_same_bits_and_another_seed_does_not(
    finished: TrialConfig, shared: Runtime, runtime: Runtime
) -> None:
    train(finished, runtime)
    assert_same_results(folders(finished, runtime)[1], folders(finished, shared)[1])
    other = tiny(seed=1)
    train(other, runtime)
    for first, second in zip(folders(finished, runtime), folders(other, runtime), strict=True):
        assert not same_weights(first, second)


def test_trial_reports_stores_and_refines_the_average(finished: TrialConfig, shared: Runtime, runtime: Runtime) -> None:
    last = {"report": "average", "average_momentum": 0.0}
    train(tiny(initialization=last, refinement=last), runtime)
    same = folders(tiny(initialization=last, refinement=last), runtime)
    for mine, theirs in zip(same, folders(finished, shared), strict=True):
        assert_same_results(mine, theirs)
    config = tiny(initialization={"report": "average"})
    reports = {report.step: report.metrics for report in train(config, runtime)}
    average, plain = (StageFolder(folder).networks() for folder in (folders(config, runtime)[0], same[0]))
    assert same_tensors(average["momentum"], plain["momentum"])
    assert not same_tensors(average["regressor"], plain["regressor"])
    scores = StageFolder(folders(config, runtime)[0]).scores()
    assert reports[3]["lchp_i/val/mean_iou"] == scores["lchp_i/val/mean_iou"]
    assert scores["lchp_i/val/mean_iou"] != StageFolder(same[0]).scores()["lchp_i/val/mean_iou"]
    start = Refinement(config, trained_networks(config, 8, average), "cpu")
    assert same_tensors(dict(start.regressor.state_dict()), average["regressor"])


def test_trial_done_is_read_not_trained(
    finished: TrialConfig, shared: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = finished_trial(finished, shared)
    assert before is not None
    for stage in ("Initialization", "Refinement"):
        monkeypatch.delattr(trial, stage)
    reports = train(finished, shared)
    assert [(report.stage, report.epoch, report.step, report.reused) for report in reports] == [
        ("initialization", 1, 1, True),
        ("initialization", 2, 2, True),
        ("initialization", 3, 3, True),
        ("refinement", 1, 4, True),
        ("refinement", 2, 5, True),
    ]
    assert finished_trial(finished, shared) == before


def test_trials_that_share_an_initialization_train_it_once(
    finished: TrialConfig, shared: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(trial, "Initialization")
    other = tiny(tau=0.0, augmentation="flip", refinement={"rate": 1e-3})
    assert [report.reused for report in train(other, shared)] == [True] * 3 + [False] * 2
    (first, one), (second, two) = folders(finished, shared), folders(other, shared)
    assert first == second
    assert one != two
    assert not same_weights(one, two)
    assert history(two)[:3] == history(first)
    assert selected(one, tau="0.2") == selected(two, tau="0.2")
    assert not (first / "selection.csv").exists()


def test_trial_keeps_its_initialization_where_it_is_until_it_ends(finished: TrialConfig, shared: Runtime) -> None:
    epochs = trial_epochs(tiny(tau=0.55), shared)
    refined = next(epoch for epoch in epochs if epoch.stage == "refinement")
    with folders(finished, shared)[0].joinpath(".lock").open() as free:
        fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(Refusal, match="a process trains, imports or removes there"):
        require_unused(shared.store)
    epochs.close()  # type: ignore[attr-defined]
    require_unused(shared.store)
    assert not refined.reused


def selected(folder: Path, tau: str) -> list[tuple[str, str, str]]:
    """How many boxes pass a threshold, of how many, with the AUC, on either kind of views."""
    rows = StageFolder(folder).selection() or []
    return [(row["selected"], row["total"], row["auc"]) for row in rows if row["tau"] == tau]


AT_ONCE = """
import json, sys, time
from pathlib import Path
from lchp.training.config import TrialConfig
from lchp.training.material import Runtime
from lchp.training.trial import run_trial

own, other, store, cache, config = sys.argv[1:]
Path(own).touch()
while not Path(other).exists():
    time.sleep(0.005)
reports = []
run_trial(TrialConfig(**json.loads(config)), Runtime(Path(store), Path(cache)), reports.append)
print(json.dumps([report.reused for report in reports]))
"""


def test_trials_at_the_same_time_train_a_shared_initialization_once(tmp_path: Path, finished: TrialConfig) -> None:
    # A cache of its own: the processes meet there too.
    ready = [str(tmp_path / name) for name in ("one", "two")]
    processes = [
        start(AT_ONCE, *names, str(tmp_path / "store"), str(tmp_path / "cache"), json.dumps(values(tau=tau)))
        for names, tau in ((ready, 0.2), (ready[::-1], 0.0))
    ]
    said = [json.loads(process.communicate(timeout=SECONDS)[0]) for process in processes]
    assert sorted(said) == [[False] * 5, [True] * 3 + [False] * 2]
    assert len(list((tmp_path / "store/initialization").iterdir())) == 1
    assert len(list((tmp_path / "store/trial").iterdir())) == 2


def test_trials_by_another_confidence_share_the_initialization_and_report_their_own(
    finished: TrialConfig, shared: Runtime
) -> None:
    others = [tiny(confidence={"score": score, "keep": 0.5}) for score in ("contrast", "equivariance")]
    for other in others:
        assert [report.reused for report in train(other, shared)] == [True] * 3 + [False] * 2
    first, *rest = (folders(config, shared)[1] for config in (finished, *others))
    rows = [StageFolder(folder).selection_rows() for folder in (first, *rest)]
    own = [own_rule(of_trial) for of_trial in rows]
    assert [(row.tau, row.keep, row.selected) for row in own if row][1:] == [(None, 0.5, 20), (None, 0.5, 20)]
    assert len({row.auc for row in own if row}) == 3
    assert not any(same_weights(first, folder) for folder in rest)


def test_trial_with_the_classifiers_own_classes_judges_by_it(finished: TrialConfig, shared: Runtime) -> None:
    config = tiny(classes_from="classifier", beta=0.99)
    train(config, shared)
    first, folder = folders(config, shared)
    weights = StageFolder(first).networks()
    assert weights.keys() == {"momentum", "regressor", "classifier"}
    material = Material.prepare(config, shared)
    networks = trained_networks(config, 8, weights)
    assert same_tensors(dict(networks.judge.state_dict()), weights["classifier"])
    assert not same_tensors(weights["classifier"], weights["momentum"])
    logits = Evaluator(config, "cpu", 0).logits(networks.judge, material.test.source)
    right = float((logits.argmax(1) == material.test.source.labels).double().mean())
    scores = StageFolder(folder).scores()
    assert {scores[f"{method}/test/top1_cls"] for method in ("pseudo_label", "lchp_i", "lchp_r")} == {right}


def without_boxes(path: Path) -> None:
    """Takes the true boxes of a drawn dataset away."""
    if path.is_dir():
        (path / "bounding_boxes.txt").unlink()
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("".join(",".join(line.split(",")[:3]) + "\n" for line in lines), encoding="utf-8")


@pytest.mark.parametrize(("kind", "draw"), [("cub", draw_cub), ("table", draw_table)])
def test_trial_without_true_boxes_trains_the_same_bits_and_has_no_localization_metrics(
    kind: str, draw: Any, tmp_path: Path, runtime: Runtime
) -> None:
    path = draw(tmp_path / "data", train=7)
    config = tiny(dataset={"kind": kind, "path": path})
    train(config, runtime)
    known = folders(config, runtime)
    without_boxes(path)
    train(config, runtime)
    unknown = folders(config, runtime)
    for first, second in zip(known, unknown, strict=True):
        assert first != second
        assert same_weights(first, second)
    scores = json.loads((unknown[1] / "scores.json").read_text(encoding="utf-8"))
    methods = ("pseudo_label", "lchp_i", "lchp_r", "whole_image")
    assert set(scores) == {f"{method}/{split}/top1_cls" for method in methods for split in ("val", "test")}
    whole = json.loads((known[1] / "scores.json").read_text(encoding="utf-8"))
    assert {name: whole[name] for name in scores} == scores
    assert "lchp_r/test/gt_known" in whole
    assert not (unknown[1] / "selection.csv").exists()
    losses = [
        [{name: value for name, value in epoch["metrics"].items() if name.startswith("train/")} for epoch in epochs]
        for epochs in (history(known[1]), history(unknown[1]))
    ]
    assert losses[0] == losses[1]


def test_trial_trains_on_no_image_of_val_or_test(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()

    def recorded(stage: type[Initialization] | type[Refinement]) -> None:
        train_epoch = stage.train_epoch

        def recording(self: Any, source: ImageSource, workers: int) -> dict[str, float]:
            seen.update(record.path for record in source.records)
            return train_epoch(self, source, workers)

        monkeypatch.setattr(stage, "train_epoch", recording)

    recorded(Initialization)
    recorded(Refinement)
    config = tiny(split={"val_per_class": 2})
    train(config, runtime)
    splits = Material.prepare(config, runtime).splits
    assert seen == {record.path for record in splits.train}
    assert len(splits.val) == 16
    assert not seen & {record.path for record in (*splits.val, *splits.test)}


@pytest.mark.parametrize(
    ("changes", "message", "done"),
    [
        ({"initialization": {"classifier_rate": 1e30}}, r"^initialization: the loss of epoch 1, batch 2 is nan", 0),
        ({"refinement": {"rate": 1e30}}, r"^refinement: the loss of epoch 1, batch 2 is (nan|inf)", 1),
        (
            {"refinement": {"rate": 1e30, "backend": "imgaug"}},
            r"^refinement: the loss of epoch 1, batch 2 is (nan|inf)",
            1,
        ),
        # The only step of the only epoch: no later loss tells.
        (
            {"refinement": {"rate": 1e30, "batch_size": 512, "epochs": 1}},
            r"^refinement, after epoch 1: the networks' answer to .*\.png is not finite: lower",
            1,
        ),
    ],
)
def test_trial_that_diverges_ends_with_the_place_and_is_not_finished(
    changes: dict[str, Any], message: str, done: int, runtime: Runtime
) -> None:
    config = tiny(tau=0.0, **changes)
    with pytest.raises(FloatingPointError, match=message):
        train(config, runtime)
    assert finished_trial(config, runtime) is None
    assert [(folder / "scores.json").exists() for folder in folders(config, runtime)] == [bool(done), False]


@pytest.mark.parametrize("backend", ["batched", "imgaug"])
@pytest.mark.parametrize(
    ("teacher", "statistics"),
    [("online", "batch"), ("online", "running"), ("frozen", "running"), ("ema", "batch"), ("ema", "running")],
)
def test_trial_of_every_teacher_and_backend_trains(
    teacher: str, statistics: str, backend: str, finished: TrialConfig, shared: Runtime
) -> None:
    config = tiny(refinement={"teacher": teacher, "weak_statistics": statistics, "backend": backend})
    reports = train(config, shared)
    first, folder = folders(config, shared)
    assert reports[-1].metrics["train/refinement/selected"] > 0
    before, after = (torch.load(at / "networks.pt", weights_only=True)["regressor"] for at in (first, folder))
    assert not torch.equal(before["head.weight"], after["head.weight"])


@pytest.mark.parametrize(
    "changes",
    [
        {"box_format": "centre_size"},
        {"regressor": {"head": "profiles", "maps": "fine", "omit": 1, "frozen": True}},
        {"pseudo_boxes": {"maps": "attention"}},
        {"pseudo_boxes": {"normalization": "max"}},
        {"view": {"evaluation": "centre_crop"}},
        {"compute": {"precision": "bf16"}},
        {"compute": {"channels_last": True}},
        {"compute": {"onednn": True}},
        {"compute": {"deterministic": True}},
        {"split": {"val_per_class": 0}},
        {"evaluation": {"every": 2}},
    ],
    ids=str,
)
def test_trial_of_every_option_ends_with_scores_of_its_own(
    changes: dict[str, Any], finished: TrialConfig, shared: Runtime
) -> None:
    config = tiny(**changes)
    reports = train(config, shared)
    result = finished_trial(config, shared)
    assert result is not None
    assert result.folder != folders(finished, shared)[1]
    splits = {"test"} if config.split.val_per_class == 0 else {"val", "test"}
    methods = {"pseudo_label", "lchp_i", "lchp_r", "whole_image", "centred_box"}
    assert {tuple(name.split("/")[:2]) for name in result.scores} == {(m, s) for m in methods for s in splits}
    shares = {name for name in result.scores if METRICS[Score.parse(name).metric].share}
    assert all(0 <= result.scores[name] <= 1 for name in shares)
    assert np.isfinite(list(result.scores.values())).all()
    measured = [report.step for report in reports if any("/val/" in name for name in report.metrics)]
    every = {1: [1, 2, 3, 4, 5], 2: [2, 3, 5]}[config.evaluation.every]
    assert measured == (every if "val" in splits else [])


def test_trial_reports_lchp_i_only_once_its_regressor_learns(finished: TrialConfig, shared: Runtime) -> None:
    reports = train(finished, shared)
    has = [any(name.startswith("lchp_i/") for name in report.metrics) for report in reports]
    assert has == [False, True, True, False, False]
    assert reports[0].metrics["train/initialization/loss_reg"] == 0
    assert reports[1].metrics["train/initialization/loss_reg"] > 0


def test_trial_runs_with_the_threads_of_its_config(runtime: Runtime) -> None:
    epochs = trial_epochs(tiny(compute={"cpu_threads": 2}), runtime)
    next(epochs)
    assert torch.get_num_threads() == 2
    epochs.close()  # type: ignore[attr-defined]
    epochs = trial_epochs(tiny(compute={"cpu_threads": 1}), runtime)
    next(epochs)
    assert torch.get_num_threads() == 1
    epochs.close()  # type: ignore[attr-defined]


def test_trial_does_not_depend_on_loader_workers_or_cache_budget(
    finished: TrialConfig, shared: Runtime, tmp_path: Path
) -> None:
    elsewhere = Runtime(tmp_path / "store", shared.cache, loader_workers=2, cache_bytes=0)
    train(finished, elsewhere)
    assert_same_results(folders(finished, elsewhere)[1], folders(finished, shared)[1])


def test_trial_leaves_every_file_and_no_checkpoint(finished: TrialConfig, shared: Runtime) -> None:
    names = {"config.json", "environment.json", "history.json", "per_image.csv", "dataset.json", "scores.json"}
    for folder, own in zip(folders(finished, shared), (set(), {"selection.csv"}), strict=True):
        found = {path.name for path in folder.iterdir()}
        assert found == {*names, *own, "networks.pt", "manifest.json", ".lock"}
        images = read_list(list_file(shared.store, StageFolder(folder).dataset_digest()))
        assert images is not None
        assert images == Material.prepare(finished, shared).digest.files
    config = json.loads((folders(finished, shared)[1] / "config.json").read_text(encoding="utf-8"))
    assert TrialConfig(**config) == finished


def test_trial_prepares_its_data_once_and_not_at_all_with_material(
    finished: TrialConfig, shared: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[TrialConfig] = []
    prepare = Material.prepare

    def counting(config: TrialConfig, runtime: Runtime) -> Material:
        prepared.append(config)
        return prepare(config, runtime)

    monkeypatch.setattr(Material, "prepare", counting)
    result = run_trial(finished, shared, lambda report: None)
    assert len(prepared) == 1
    material = prepare(finished, shared)
    assert run_trial(finished, shared, lambda report: None, material) == result
    assert finished_trial(finished, shared, material) == result
    assert [epoch.step for epoch in trial_epochs(finished, shared, material)] == [1, 2, 3, 4, 5]
    assert len(prepared) == 1


def flip(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])


def cut(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (cut, "scores.json"),
        (cut, "history.json"),
        (flip, "per_image.csv"),
        (flip, "networks.pt"),
        (Path.unlink, "scores.json"),
        (Path.unlink, "environment.json"),
        (cut, "manifest.json"),
    ],
)
def test_trial_damaged_is_set_aside_and_trained_to_the_same_bits(
    damage: Callable[[Path], object], name: str, finished: TrialConfig, shared: Runtime, runtime: Runtime
) -> None:
    shutil.copytree(shared.store, runtime.store, ignore=shutil.ignore_patterns("milestones"))
    folder = folders(finished, runtime)[1]
    damage(folder / name)
    assert finished_trial(finished, runtime) is None
    said: list[str] = []
    reports: list[EpochReport] = []
    run_trial(finished, runtime, reports.append, say=said.append)
    assert [report.reused for report in reports] == [True] * 3 + [False] * 2
    assert len(said) == 1
    assert said[0].startswith(f"{folder}: {name} ")
    assert said[0].endswith(f": set aside as {folder.name}.damaged-1, made again")
    assert folder.with_name(f"{folder.name}.damaged-1").is_dir()
    assert_same_results(folder, folders(finished, shared)[1])


@pytest.mark.parametrize(
    ("damage", "name"),
    [(flip, "networks.pt"), (cut, "history.json"), (cut, "scores.json"), (Path.unlink, "networks.pt")],
)
def test_trial_damaged_initialization_is_trained_again_to_the_same_bits(
    damage: Callable[[Path], object], name: str, finished: TrialConfig, shared: Runtime, runtime: Runtime
) -> None:
    shutil.copytree(shared.store / "initialization", runtime.store / "initialization")
    first = folders(finished, runtime)[0]
    damage(first / name)
    said: list[str] = []
    run_trial(finished, runtime, lambda report: None, say=said.append)
    assert [line.startswith(f"{first}: {name} ") for line in said] == [True]
    for again, before in zip(folders(finished, runtime), folders(finished, shared), strict=True):
        assert_same_results(again, before)


@pytest.mark.parametrize("damage", [flip, cut])
@pytest.mark.parametrize("epochs", [2, 4])
def test_trial_damaged_checkpoint_starts_its_stage_anew_to_the_same_bits(
    damage: Callable[[Path], object], epochs: int, through: tuple[Path, Path], runtime: Runtime
) -> None:
    config = tiny(**STATEFUL)
    stop_after(epochs, config, runtime)
    stage = folders(config, runtime)[epochs > 3]
    damage(stage / "checkpoint.pt")
    said: list[str] = []
    reports: list[EpochReport] = []
    run_trial(config, runtime, reports.append, say=said.append)
    assert [report.reused for report in reports] == [epochs > 3] * 3 + [False] * 2
    assert [line.endswith("damaged-1, the stage begins anew") for line in said] == [True]
    assert said[0].startswith(f"{stage}: checkpoint.pt ")
    for again, whole in zip(folders(config, runtime), through, strict=True):
        assert_same_results(again, whole)


def test_trial_of_a_store_without_manifests_is_kept(finished: TrialConfig, shared: Runtime, runtime: Runtime) -> None:
    shutil.copytree(shared.store, runtime.store)
    for folder in folders(finished, runtime):
        as_of_old(folder, runtime.store)
    said: list[str] = []
    reports: list[EpochReport] = []
    run_trial(finished, runtime, reports.append, say=said.append)
    assert all(report.reused for report in reports)
    assert said == []
