from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from lchp.tracking.runs import (
    ensure_run,
    fail_run,
    find_run,
    finish_run,
    is_complete,
    log_history,
    log_result,
    set_tags,
)
from lchp.tracking.store import client, ensure_experiment
from lchp.tracking.stored import read_run
from lchp.vocabulary import Score
from tests.tracking.conftest import HISTORY, PICTURE, SCORES

PARAMS = {"delta": 0.7, "refinement": {"epochs": 4, "teacher": "online"}, "weights": {"sha256": None}}


def _points(store: str, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client(store).get_metric_history(run_id, name)]


def _run(store: str, experiment: str, key: str, parent: str | None = None) -> str:
    return ensure_run(store, ensure_experiment(store, experiment), f"run {key}", key, parent, PARAMS, {"commit": "abc"})


def test_ensure_run_params_and_tags_are_flat_text(store: str) -> None:
    parent = _run(store, "flat", "study")
    run = client(store).get_run(_run(store, "flat", "trial", parent))
    assert run.data.params == {
        "delta": "0.7",
        "refinement.epochs": "4",
        "refinement.teacher": "online",
        "weights.sha256": "null",
    }
    assert run.data.tags["commit"] == "abc"
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert (run.info.run_name, run.info.status) == ("run trial", "RUNNING")


def test_ensure_run_repeated_finds_the_same_run_and_sets_it_running(store: str) -> None:
    first = _run(store, "repeated", "trial")
    fail_run(store, first, "out of memory")
    experiment = ensure_experiment(store, "repeated")
    again = ensure_run(store, experiment, "other name", "trial", None, {"delta": 0.9, "tau": 0.5}, {"commit": "def"})
    run = client(store).get_run(again)
    assert again == first == find_run(store, experiment, "trial")
    assert len(client(store).search_runs([experiment])) == 1
    assert run.info.status == "RUNNING"
    assert run.data.tags["commit"] == "def"
    assert "lchp.error" not in run.data.tags
    assert run.data.params["delta"] == "0.7"
    assert run.data.params["tau"] == "0.5"


def test_ensure_run_that_fails_leaves_no_running_run(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt("SIGTERM")

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.tracking.MlflowClient.log_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _run(store, "interrupted", "trial")
    run_id = find_run(store, ensure_experiment(store, "interrupted"), "trial")
    assert run_id is not None
    run = client(store).get_run(run_id)
    assert (run.info.status, run.data.tags["lchp.error"]) == ("FAILED", "KeyboardInterrupt: SIGTERM")


def test_set_tags_are_set_changed_and_taken_away(store: str) -> None:
    run_id = _run(store, "tagged", "trial")
    set_tags(store, run_id, {"lchp.warnings": "0 selected", "lchp.counts": None})
    set_tags(store, run_id, {"lchp.counts": "x" * 6000})
    tags = client(store).get_run(run_id).data.tags
    assert (tags["lchp.warnings"], len(tags["lchp.counts"])) == ("0 selected", 5000)
    set_tags(store, run_id, {"lchp.warnings": None})
    assert "lchp.warnings" not in client(store).get_run(run_id).data.tags


def test_ensure_run_deleted_run_is_made_anew(store: str, tmp_path: Path) -> None:
    first = _run(store, "anew", "trial")
    client(store).delete_run(first)
    assert not is_complete(store, first, tmp_path)
    assert _run(store, "anew", "trial") != first


def test_ensure_run_many_and_long_params_are_kept_or_cut(store: str) -> None:
    params = {"many": {f"p{index}": index for index in range(250)}, "long": "x" * 7000}
    run_id = ensure_run(store, ensure_experiment(store, "long"), "run", "key", None, params, {})
    stored = client(store).get_run(run_id).data.params
    assert len(stored) == 251
    assert stored["long"] == "x" * 5997 + "..."


def test_ensure_run_name_and_tags_are_as_long_as_every_database_takes_them(store: str) -> None:
    experiment = ensure_experiment(store, "long")
    run_id = ensure_run(store, experiment, "x" * 251, "long", None, {}, {"lchp.counts": "y" * 9000})
    run = client(store).get_run(run_id)
    assert run.info.run_name == "x" * 247 + "..."
    assert run.data.tags["mlflow.runName"] == run.info.run_name
    assert run.data.tags["lchp.counts"] == "y" * 4997 + "..."
    set_tags(store, run_id, {}, name="z" * 300)
    assert client(store).get_run(run_id).info.run_name == "z" * 247 + "..."


def test_find_run_without_one_is_none(store: str) -> None:
    assert find_run(store, ensure_experiment(store, "empty"), "trial") is None


def test_log_history_part_then_whole_then_again_has_each_epoch_once(store: str) -> None:
    run_id = _run(store, "history", "trial")
    for reports in (HISTORY[:2], HISTORY, HISTORY, HISTORY[:1]):
        log_history(store, run_id, reports)
    assert _points(store, run_id, "epoch") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert _points(store, run_id, "lchp_i/val/gt_known") == [(1, 0.25), (2, 0.625), (3, 0.5), (4, 0.5)]
    assert _points(store, run_id, "train/loss") == [(step, 1.0 / step) for step in (1, 2, 3, 4)]
    assert _points(store, run_id, "seconds_reused") == [(1, 0.5), (2, 1.0)]
    assert _points(store, run_id, "seconds") == [(3, 1.5), (4, 2.0)]


def test_log_history_shows_what_an_epoch_used_of_its_machine(store: str) -> None:
    run_id = _run(store, "system", "trial")
    report = {"step": 1, "metrics": {}, "seconds": 1.0, "system": {"cpu_utilization_percentage": 99.0}}
    log_history(store, run_id, [report, {**report, "step": 2, "system": {}}])
    assert _points(store, run_id, "system/cpu_utilization_percentage") == [(1, 99.0)]


def test_log_history_shows_how_much_of_an_epoch_trained_here_was_waiting(store: str) -> None:
    run_id = _run(store, "waiting", "trial")
    report = {"metrics": {}, "seconds": 1.0, "waiting_share": 0.25}
    log_history(store, run_id, [{**report, "step": 1, "reused": True}, {**report, "step": 2, "reused": False}])
    # Of an epoch of before it was measured nothing is known.
    log_history(store, run_id, [{**report, "step": 3, "waiting_share": None}])
    assert _points(store, run_id, "waiting_share") == [(2, 0.25)]


def test_log_history_more_points_than_a_batch_holds_are_all_kept(store: str) -> None:
    reports = [
        {"step": step, "metrics": {f"train/m{index}": float(index) for index in range(400)}, "seconds": 1.0}
        for step in (1, 2, 3)
    ]
    run_id = _run(store, "batches", "trial")
    log_history(store, run_id, reports)
    assert _points(store, run_id, "train/m399") == [(1, 399.0), (2, 399.0), (3, 399.0)]


def test_log_result_twice_has_every_number_once_and_reads_back(
    store: str, finished: Callable[[], Path], tmp_path: Path
) -> None:
    folder = finished()
    (tmp_path / "note.txt").write_text("extra", encoding="utf-8")
    run_id = _run(store, "result", "trial")
    log_history(store, run_id, HISTORY[:3])
    assert not is_complete(store, run_id, folder)
    for _ in range(2):
        log_result(store, run_id, folder, [tmp_path / "note.txt"])
    assert is_complete(store, run_id, folder)
    assert _points(store, run_id, "lchp_i/test/gt_known") == [(4, 1 / 3)]
    assert _points(store, run_id, "lchp_i/val/gt_known") == [(1, 0.25), (2, 0.625), (3, 0.5), (4, 0.5)]
    assert _points(store, run_id, "best_lchp_i/val/gt_known") == [(4, 0.625)]
    stored = read_run(store, run_id, tmp_path / "copy")
    assert stored.scores == SCORES
    tracked = {name: value for name, value in SCORES.items() if Score.parse(name).is_tracked}
    assert {name: stored.metrics[name] for name in SCORES if name in stored.metrics} == tracked
    assert stored.metrics["GT-Known test/LCHP-I"] == SCORES["lchp_i/test/gt_known"]
    assert not any(name.startswith("best_") and "/test/" in name for name in stored.metrics)
    assert not any(name.startswith("confidence/") for name in stored.metrics)
    assert (stored.experiment, stored.name, stored.tags["lchp.key"]) == ("result", "run trial", "trial")
    assert stored.params["refinement.teacher"] == "online"
    assert {file.name for file in stored.folder.iterdir()} == {*(file.name for file in folder.iterdir()), "note.txt"}
    assert (stored.folder / "predictions.png").read_bytes() == PICTURE


def test_log_result_lost_artifact_is_noticed_and_repaired(
    store: str, finished: Callable[[], Path], tmp_path: Path
) -> None:
    folder = finished()
    run_id = _run(store, "repair", "trial")
    log_result(store, run_id, folder)
    location = client(store).get_run(run_id).info.artifact_uri.removeprefix("file://")
    (Path(location) / "per_image.csv").unlink()
    assert not is_complete(store, run_id, folder)
    with pytest.raises(ValueError, match=r"no finished trial, its artifacts lack per_image\.csv"):
        read_run(store, run_id, tmp_path / "copy")
    assert _run(store, "repair", "trial") == run_id
    log_result(store, run_id, folder)
    assert is_complete(store, run_id, folder)


def test_log_result_changed_metric_is_noticed_and_repaired(store: str, finished: Callable[[], Path]) -> None:
    folder = finished()
    run_id = _run(store, "changed", "trial")
    log_result(store, run_id, folder)
    client(store).log_metric(run_id, "lchp_i/test/gt_known", 0.99, step=77)
    client(store).log_metric(run_id, "best_lchp_i/val/gt_known", 0.99, step=4)
    assert not is_complete(store, run_id, folder)
    assert _run(store, "changed", "trial") == run_id
    log_result(store, run_id, folder)
    assert is_complete(store, run_id, folder)
    assert client(store).get_run(run_id).data.metrics["lchp_i/test/gt_known"] == 1 / 3


@pytest.mark.parametrize("text", ["path,label\na.png,1\n", "path,label\n"])
def test_log_result_changed_artifact_is_noticed_and_repaired(
    store: str, finished: Callable[[], Path], tmp_path: Path, text: str
) -> None:
    folder = finished()
    run_id = _run(store, f"other bytes {len(text)}", "trial")
    log_result(store, run_id, folder)
    location = client(store).get_run(run_id).info.artifact_uri.removeprefix("file://")
    (Path(unquote(location)) / "per_image.csv").write_text(text, encoding="utf-8")
    assert not is_complete(store, run_id, folder)
    log_result(store, run_id, folder)
    assert is_complete(store, run_id, folder)


def test_set_tags_finished_run_whose_parent_was_deleted(store: str, finished: Callable[[], Path]) -> None:
    experiment = ensure_experiment(store, "orphan")
    parent = _run(store, "orphan", "study")
    run_id = _run(store, "orphan", "trial", parent)
    log_result(store, run_id, finished())
    client(store).delete_run(parent)
    again = _run(store, "orphan", "study")
    assert again != parent
    for _ in range(2):
        set_tags(store, run_id, {"mlflow.parentRunId": again})
    below = client(store).search_runs([experiment], f"tags.`mlflow.parentRunId` = '{again}'")
    assert [run.info.run_id for run in below] == [run_id]
    assert below[0].info.status == "FINISHED"


def test_log_result_unfinished_folder_is_refused(store: str, finished: Callable[[], Path]) -> None:
    folder = finished()
    (folder / "scores.json").unlink()
    run_id = _run(store, "unfinished", "trial")
    with pytest.raises(ValueError, match=r"no finished trial, it lacks scores\.json"):
        log_result(store, run_id, folder)
    assert client(store).get_run(run_id).info.status == "RUNNING"


def test_fail_run_is_failed_with_its_message(store: str, tmp_path: Path) -> None:
    run_id = _run(store, "failed", "trial")
    fail_run(store, run_id, "loss is nan in refinement, epoch 2, batch 7" + "!" * 6000)
    run = client(store).get_run(run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["lchp.error"].startswith("loss is nan in refinement, epoch 2, batch 7")
    assert len(run.data.tags["lchp.error"]) == 5000
    assert not is_complete(store, run_id, tmp_path)


def test_finish_run_parent_holds_its_files(store: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("delta\n", encoding="utf-8")
    run_id = _run(store, "parent", "study")
    finish_run(store, run_id, [tmp_path / "table.csv"])
    assert [file.path for file in client(store).list_artifacts(run_id)] == ["table.csv"]
    assert client(store).get_run(run_id).info.status == "FINISHED"


def _whole_trial(store: str, experiment: str, key: str, folder: str) -> None:
    run_id = ensure_run(store, experiment, key, key, None, PARAMS, {})
    for count in range(1, len(HISTORY) + 1):
        log_history(store, run_id, HISTORY[:count])
    log_result(store, run_id, Path(folder))


def test_log_result_four_processes_at_once_are_all_complete(store: str, finished: Callable[[], Path]) -> None:
    folder, experiment = finished(), ensure_experiment(store, "at once")
    context = multiprocessing.get_context("spawn")
    keys = [f"trial {index}" for index in range(4)]
    processes = [context.Process(target=_whole_trial, args=(store, experiment, key, str(folder))) for key in keys]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    for key in keys:
        run_id = find_run(store, experiment, key)
        assert run_id is not None
        assert is_complete(store, run_id, folder)
        assert _points(store, run_id, "epoch") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert json.loads((folder / "scores.json").read_text(encoding="utf-8")) == SCORES


def test_log_result_tells_how_well_the_confidence_ranks(store: str, finished: Callable[[], Path]) -> None:
    folder = finished()
    (folder / "selection.csv").write_text(
        "tau,selected,gt_known,total,views,keep,auc,own\n"
        "0.5,9,0.5,40,training,,0.625,0\n0.9,8,0.75,40,training,,0.625,1\n0.9,10,,50,evaluated,,0.5,1\n",
        encoding="utf-8",
    )
    run_id = _run(store, "confidence", "trial")
    log_result(store, run_id, folder)
    metrics = client(store).get_run(run_id).data.metrics
    assert {name: value for name, value in metrics.items() if name.startswith("confidence/")} == {
        "confidence/train/auc": 0.625,
        "confidence/train/selected": 0.2,
        "confidence/train/gt_known": 0.75,
        "confidence/train/n": 40.0,
        "confidence/train/evaluated_views/auc": 0.5,
        "confidence/train/evaluated_views/selected": 0.2,
        "confidence/train/evaluated_views/n": 50.0,
    }
    assert is_complete(store, run_id, folder)


def test_finish_run_removes_what_a_killed_process_has_left_of_its_files(store: str, tmp_path: Path) -> None:
    run_id, file = _run(store, "killed", "study"), tmp_path / "results.csv"
    file.write_text("a\n", encoding="utf-8")
    finish_run(store, run_id, [file])
    folder = Path(unquote(client(store).get_run(run_id).info.artifact_uri.removeprefix("file://")))
    (folder / ".artifact.uploading.0abc").touch()
    finish_run(store, run_id, [file])
    assert [path.name for path in folder.iterdir()] == ["results.csv"]
