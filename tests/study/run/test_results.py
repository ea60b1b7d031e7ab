"""A study's tables from its ledger and the files of its finished trials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tests.study.written as written
from lchp.cli import run
from lchp.store.folder import StageFolder, StageResult
from lchp.study.run.ledger import Entry, Ledger, State
from lchp.study.run.results import as_text, make_tables
from lchp.study.spec.load import Study
from tests.reporting.test_evidence import CONFIG, history_of, rows_of, spread

SEARCH = written.TINY + "search: {trials: 5, space: {tau: {low: 0.0, high: 0.9}}}\n"


def _write(study: Study, folder: Path, finished: int) -> Path:
    """The output folder of a study of which only the first trials were finished."""
    ledger = Ledger(folder / "out" / study.name)
    trials = study.trials or [trial for at in range(finished + 1) for trial in study.suggested(at, {"tau": 0.5})]
    for number, trial in enumerate(trials):
        here = folder / "out" / ".store" / "trial" / str(number)
        state: State = "finished" if number < finished else "running"
        place, run_id = f"trial/{number}", f"run{number}"
        ledger.put(
            Entry(trial.name, trial.config.seed, trial.varied, place, 4, trial.number, state=state, run_id=run_id)
        )
        if number < finished:
            StageFolder(here).finish(
                StageResult(
                    config=CONFIG,
                    environment={"commit": "c", "versions": {}, "cpu": "c", "device": "cpu"},
                    history=history_of(0.5, 0.0),
                    scores={f"lchp_r/{split}/gt_known": 0.5 for split in ("val", "test")},
                    per_image=rows_of({"lchp_r": spread}).to_csv(index=False),
                    selection=None,
                    dataset="0" * 64,
                    networks={},
                )
            )
    return folder / "out"


def test_make_tables_of_a_stopped_grid_say_how_many_trials_they_show(tmp_path: Path) -> None:
    study = written.load(tmp_path, written.GRID + "seeds: [0, 1, 2]\n")
    output = _write(study, tmp_path, 6)
    (table,) = make_tables(study, output)
    assert table.counts == (
        "16 test images; one image is worth 6.25 points.",
        f"6 of 12 trials; not finished: {', '.join(trial.name for trial in study.trials[6:11])} and 1 more.",
    )
    text = as_text([table], output / study.name)
    assert "\n6 of 12 trials; not finished: " in text
    assert (output / study.name / "table.md").read_text(encoding="utf-8") in text


def test_make_tables_of_a_stopped_search_count_what_is_not_suggested_yet(tmp_path: Path) -> None:
    study = written.load(tmp_path, SEARCH)
    (table,) = make_tables(study, _write(study, tmp_path, 2))
    assert table.counts[-2].startswith("2 of 5 trials; not finished: #2 ")
    assert table.counts[-2].endswith(", #3, #4.")
    assert table.counts[-1] == "The search chooses by GT-Known of LCHP-R on val (with true boxes)."


def test_make_tables_of_a_search_for_two_objectives_show_costs_and_front(tmp_path: Path) -> None:
    study = written.load(tmp_path, SEARCH.replace("trials: 5", "trials: 5, sampler: nsga2, cost: gflop"))
    output = _write(study, tmp_path, 2)
    best = {"front": [{"number": 1}], "gflop": {"0": 12.345, "1": 12.345}, "reached": {"0": 0.5, "1": 0.5}}
    (output / study.name / "best.json").write_text(json.dumps(best), encoding="utf-8")
    (table,) = make_tables(study, output)
    assert [column.key for column in table.columns[-3:]] == ["objective", "gflop", "front"]
    assert [row[-3:] for row in table.rows] == [("0.5000", "12.35", "yes")]
    assert table.counts[-1].endswith("(with true boxes) and by cost, GFLOP for each training image.")
    assert "| 12.35 | yes |" in (output / study.name / "table.md").read_text(encoding="utf-8")


def test_make_tables_of_a_box_free_search_show_what_it_judges_by(tmp_path: Path) -> None:
    study = written.load(tmp_path, SEARCH.replace("trials: 5", "trials: 5, objective: {metric: crop_cls}"))
    output = _write(study, tmp_path, 2)
    assert "objective" not in [column.key for column in make_tables(study, output)[0].columns]
    (output / study.name / "best.json").write_text('{"reached": {"0": 0.25, "1": 0.25}}', encoding="utf-8")
    (table,) = make_tables(study, output)
    assert table.column("objective") == ["0.2500"]
    assert "gflop" not in [column.key for column in table.columns]


def test_make_tables_of_a_search_leave_out_suggestions_of_which_a_seed_is_not_finished(tmp_path: Path) -> None:
    study = written.load(tmp_path, SEARCH + "seeds: [3, 4]\n")
    (table,) = make_tables(study, _write(study, tmp_path, 3))
    assert table.counts[-2].startswith("2 of 10 trials; not finished: #1 tau=0.5 seed=3, #1 tau=0.5 seed=4, ")


def test_study_table_of_a_stopped_study_prints_how_many_trials_it_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = written.load(tmp_path, written.GRID)
    output = _write(study, tmp_path, 1)
    monkeypatch.setattr("lchp.study.run.ownership.require_unchanged", lambda *_: None)
    assert run(["study", "table", str(tmp_path / "study.yaml"), "--output", str(output)]) == 0
    assert "1 of 4 trials; not finished: " in capsys.readouterr().out


def test_make_tables_results_are_the_finished_trials_alone(tmp_path: Path) -> None:
    study = written.load(tmp_path, written.GRID)
    output = _write(study, tmp_path, 2)
    make_tables(study, output)
    frame = (output / study.name / "results.csv").read_text(encoding="utf-8").splitlines()
    assert len(frame) == 1 + 2 * 2


def test_make_tables_other_claims_are_judged_again_and_change_no_result(tmp_path: Path) -> None:
    plain = written.load(tmp_path, written.GRID)
    output = _write(plain, tmp_path, 4)
    folder = output / plain.name

    def report(text: str) -> dict[str, bytes]:
        make_tables(written.load(tmp_path, written.GRID + text), output, redraw=False)
        return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix != ".png"}

    without = report("")
    one = report("claims: [lchp_r > lchp_i]\n")
    other = report("claims: [lchp_i > lchp_r]\n")
    assert b"`lchp_r > lchp_i` is open" in one["claims.md"]
    assert b"lchp_i &gt; lchp_r" in other["report.html"]
    assert {name for name in one if one[name] != other[name]} == {
        "claims.md",
        "claims.csv",
        "report.html",
        "report.json",
    }
    assert as_text([], folder).startswith("Of 1 claim 1 is open.\n")
    assert report("") == without
