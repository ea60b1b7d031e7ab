"""The words of results have one owner: what it says, that a new row needs nothing else, and that nobody types them."""

from __future__ import annotations

import ast
import doctest
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lchp import vocabulary
from lchp.study.run.options import epoch_line
from lchp.training.stages import EpochReport
from lchp.vocabulary import METHODS, METRICS, Method, Score, best_on_val

ROOT = Path(__file__).resolve().parents[1]


def test_vocabulary_examples_run() -> None:
    assert doctest.testmod(vocabulary) == doctest.TestResults(failed=0, attempted=3)


def test_scripts_are_promised_the_methods_and_metrics_of_the_vocabulary() -> None:
    page = " ".join((ROOT / "docs/scripts.md").read_text(encoding="utf-8").split())
    assert f"Methods: `{', '.join(METHODS)}`" in page
    assert f"`{', '.join(METRICS)}`" in page


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", METRICS)
def test_score_key_reads_back(method: str, metric: str) -> None:
    score = Score(method, "val", metric)
    assert score.key == f"{method}/val/{metric}"
    assert Score.parse(score.key) == score


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("lchp_q/test/gt_known", r"there is no method 'lchp_q': known are pseudo_label, lchp_i, lchp_r, whole_image"),
        ("lchp_r/train/gt_known", r"there is no split 'train': known are val, test"),
        ("lchp_r/test/iou", r"there is no metric 'iou': known are gt_known, top1_loc"),
        ("train/refinement", r"train/refinement: is no score: they are named <method>/<split>/<metric>"),
    ],
)
def test_score_unknown_name_is_refused_with_the_known_ones(key: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Score.parse(key)


def test_score_places_are_in_the_order_of_results() -> None:
    keys = ["lchp_r/test/top1_loc", "lchp_r/test/gt_known", "lchp_r/val/top1_cls", "pseudo_label/test/gt_known"]
    assert sorted(keys, key=lambda key: Score.parse(key).place) == keys[::-1]


def test_best_on_val_sees_no_test_split_and_no_training_value() -> None:
    epochs = [
        {"train/refinement/loss": 9.0, "lchp_r/val/gt_known": value, "lchp_r/test/gt_known": 1.0}
        for value in (0.25, 0.75, 0.5)
    ]
    assert best_on_val(epochs) == {"lchp_r/val/gt_known": 0.75}


def test_best_on_val_of_a_bias_is_the_nearest_to_nothing() -> None:
    epochs = [{"lchp_r/val/log_area_mean": value} for value in (-0.75, 0.5, -0.25, 0.375)]
    assert best_on_val(epochs) == {"lchp_r/val/log_area_mean": -0.25}


def test_epoch_line_new_method_is_named_in_the_order_of_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "oracle", Method("Oracle", "O"))
    report = EpochReport("refinement", 1, 3, {"oracle/val/gt_known": 0.75, "lchp_r/val/gt_known": 0.5}, 1.0)
    assert "val GT-Known LCHP-R 0.500, Oracle 0.750" in epoch_line(report)


ENTRY = '    "oracle": Method("Oracle", "O", "#ff00ff", "#ff00ff", needs_boxes=True),\n'
FLOWS = """
import json, sys
from pathlib import Path
import matplotlib.image
from lchp.reporting.figures import curve, save
from lchp.reporting.predictions import COLOURS
from lchp.reporting.frame import TrialRow, collect, results_text
from lchp.reporting.table import TableSpec
from lchp.reporting.tables import make_table
from lchp.reporting.writing import to_markdown
from lchp.study.spec.search import Objective

folder = Path(sys.argv[1])
trials = []
for delta in (0.5, 0.7):
    here = folder / str(delta)
    here.mkdir()
    (here / "scores.json").write_text(json.dumps({"oracle/test/gt_known": delta, "lchp_r/test/gt_known": 0.25}))
    epochs = [{"stage": "refinement", "epoch": 1, "step": 1, "seconds": 1.0, "metrics": {}}]
    (here / "history.json").write_text(json.dumps(epochs))
    made = {"commit": "c", "versions": {}, "cpu": "c", "device": "cpu"}
    (here / "environment.json").write_text(json.dumps(made))
    trials.append(TrialRow(str(delta), 0, {"delta": delta}, here))
frame = collect("s", trials)
(folder / "results.csv").write_text(results_text(frame), encoding="utf-8")
table = make_table(TableSpec(by=("delta",)), frame, trials)
save(curve(table), folder / "curve.png")
drawn = (matplotlib.image.imread(folder / "curve.png")[..., :3] == (1, 0, 1)).all(-1).sum()
print(to_markdown(make_table(TableSpec(fixed={"delta": 0.7}), frame, trials)))
print(to_markdown(table))
print((folder / "results.csv").read_text())
print(Objective(method="oracle").key, COLOURS["oracle"], drawn > 100, sorted({"torch"} & set(sys.modules)))
"""


def test_vocabulary_new_method_is_one_entry_for_rows_tables_figures_and_keys(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "lchp", tmp_path / "lchp", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "lchp" / "vocabulary.py"
    text = file.read_text(encoding="utf-8")
    before = "    WHOLE_IMAGE: Method("
    assert text.count(before) == 1
    file.write_text(text.replace(before, ENTRY + before), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", FLOWS, str(tmp_path)], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "| Oracle | 70.00 (1) |" in said
    assert "| delta | Pseudo Label | LCHP-I | LCHP-R | Oracle | Whole image | Best centred box |" in said
    assert "s,0.7,0,0.7,lchp_r,test,gt_known,0.25\ns,0.7,0,0.7,oracle,test,gt_known,0.7\n" in said
    assert "oracle/val/gt_known #ff00ff True []" in said


def test_names_of_methods_and_metrics_are_typed_in_the_vocabulary_alone() -> None:
    words = [*METHODS, *METRICS, *(one.title for one in (*METHODS.values(), *METRICS.values()))]
    pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, words))})(?!\w)")
    found = []
    for path in sorted((ROOT / "lchp").rglob("*.py")):
        if path.name == "vocabulary.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        found += [
            f"{path.relative_to(ROOT)}, line {node.lineno}: {node.value!r}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            # A string that is a statement of its own is a docstring.
            if pattern.search(node.value) and not isinstance(parents[node], ast.Expr)
        ]
    assert found == []
