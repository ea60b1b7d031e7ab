"""A study that was edited: what it keeps of its folder, what it trains, and what is refused."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

import tests.study.small as small
from lchp.cli import run
from lchp.errors import Refusal
from lchp.study.run.growth import Growth
from lchp.study.run.ledger import read
from lchp.study.run.ownership import outlook, require_continuable, require_unchanged
from lchp.study.run.recorder import Recorder
from lchp.study.spec.load import Study
from lchp.study.spec.trials import ResolvedTrial
from lchp.tracking.store import client
from tests.study.planted import plant

GRID = small.TINY + "vary: {tau: [0.0, 0.5]}\n"
TWO = ("tau=0.0 seed=0", "tau=0.5 seed=0")
SEARCH = small.TINY + "search: {trials: 2, sampler: random, space: {tau: {low: 0.0, high: 1.0}}}\n"
SUGGESTIONS = ({"tau": 0.25}, {"tau": 0.75})
SUGGESTED = ("#0 tau=0.25", "#1 tau=0.75")


def after(folder: Path, text: str, *sets: str, before: str = GRID, finished: int | None = None) -> Growth:
    """What becomes of the planted folder of ``before`` with the study ``text``."""
    plant(small.load(folder, before), folder / "out", finished, SUGGESTIONS)
    found = outlook(small.load(folder, text, *sets), folder / "out/tiny")
    assert found is not None
    return found


def vary(values: str) -> str:
    return small.TINY + f"vary: {values}\n"


def test_growth_unchanged_study_reuses_what_is_finished(tmp_path: Path) -> None:
    assert after(tmp_path, GRID, finished=1) == Growth(2, reused=TWO[:1])
    assert after(tmp_path, GRID).trained == 0


def test_growth_more_seeds_and_values_are_trained(tmp_path: Path) -> None:
    found = after(tmp_path, vary("{tau: [0.0, 0.5, 0.7]}"), "seeds=[0, 1]")
    assert (found.reused, found.trained, found.dropped, found.refused) == (TWO, 4, (), ())
    assert found.changes[-1] == "seeds: [0] -> [0,1]"


def test_growth_removed_value_is_dropped(tmp_path: Path) -> None:
    found = after(tmp_path, vary("{tau: [0.5]}"))
    assert (found.reused, found.trained, found.dropped, found.refused) == (TWO[1:], 0, TWO[:1], ())
    assert str(found) == (
        "reuses 1 finished trial; trains 0 of 1; drops 1 finished trial, whose runs and files stay (tau=0.0 seed=0)"
    )


def test_growth_added_key_keeps_trials_at_the_old_value_under_their_new_names(tmp_path: Path) -> None:
    found = after(tmp_path, vary("{alpha: [3.0, 20.0], tau: [0.0, 0.5]}"))
    assert found.reused == ("alpha=20.0 tau=0.0 seed=0", "alpha=20.0 tau=0.5 seed=0")
    assert (found.trained, found.dropped, found.refused) == (2, (), ())


def test_growth_added_key_without_the_old_value_leaves_nothing_and_is_refused(tmp_path: Path) -> None:
    assert after(tmp_path, vary("{alpha: [3.0], tau: [0.0, 0.5]}")).refused[-1] == "no finished trial would stay"


def test_growth_key_taken_from_vary_drops_its_other_values(tmp_path: Path) -> None:
    found = after(
        tmp_path, vary("{tau: [0.0, 0.5]}"), "alpha=3.0", before=vary("{alpha: [3.0, 20.0], tau: [0.0, 0.5]}")
    )
    assert found.reused == TWO
    assert found.dropped == ("alpha=20.0 tau=0.0 seed=0", "alpha=20.0 tau=0.5 seed=0")
    assert found.refused == ()


def test_growth_more_epochs_are_trained_and_fewer_refused(tmp_path: Path) -> None:
    for stage in ("initialization", "refinement"):
        found = after(tmp_path, GRID, f"{stage}.epochs=3")
        assert (found.longer, found.trained, found.reused, found.refused) == (TWO, 2, (), ())
        assert "trains 2 of 2, 2 of them finished but to go on to more epochs (tau=0.0 seed=0, tau" in str(found)
        assert after(tmp_path, GRID, f"{stage}.epochs=1").refused == (f"base.{stage}.epochs: 2 -> 1",)


def test_growth_more_epochs_under_a_rate_that_looks_ahead_are_said_to_begin_anew(tmp_path: Path) -> None:
    text = GRID.replace("epochs: 2, batch", "epochs: 2, schedule: cosine, batch")
    found = after(tmp_path, text, "refinement.epochs=3", before=text)
    assert (found.longer, found.anew, found.trained, found.refused) == ((), TWO, 2, ())
    assert "2 of them finished but to be trained anew for more epochs, to whose last one their rate" in str(found)


def test_growth_of_a_study_whose_ledger_is_damaged_is_known_by_its_cards(own: Path, asked: list[str]) -> None:
    (own / "out/tiny/trials.json").write_text("[", encoding="utf-8")
    with pytest.raises(Refusal, match=r"base\.alpha: 20\.0 -> 3\.0"):
        require_continuable(small.load(own, GRID, "alpha=3"), own / "out/tiny")
    before, said = runs(own), list[str]()
    assert small.run(small.load(own, vary("{alpha: [3.0, 20.0], tau: [0.5]}")), own, said) == 1
    assert said[0].endswith("set aside as trials.json.damaged-1")
    assert "reuses 1 finished trial; trains 1 of 2; drops 1 finished trial" in said[1]
    assert asked == ["alpha=3.0 tau=0.5 seed=0"]
    assert runs(own)["alpha=20.0 tau=0.5 seed=0"] == before[TWO[1]]


def test_growth_of_a_search_whose_ledger_is_damaged_is_known_by_its_cards(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    study, ledger = small.load(tmp_path, SEARCH, "search.trials=3"), tmp_path / "out/tiny/trials.json"
    before = outlook(study, tmp_path / "out/tiny")
    ledger.unlink()
    assert before is not None
    assert len(before.reused) == 2
    assert outlook(study, tmp_path / "out/tiny") == before


def test_growth_base_value_that_trials_read_is_refused_by_field(tmp_path: Path) -> None:
    found = after(tmp_path, GRID, "alpha=3", "refinement.epochs=3", "seeds=[0, 1]")
    assert found.refused == ("base.alpha: 20.0 -> 3.0",)
    assert str(found) == "refuses the change, for what is finished there:\n  base.alpha: 20.0 -> 3.0"
    with pytest.raises(Refusal, match=r"holds another configuration of tiny:\n  base\.alpha: 20\.0 -> 3\.0\nname"):
        require_continuable(small.load(tmp_path, GRID, "alpha=3"), tmp_path / "out/tiny")


@pytest.mark.parametrize(
    "text", [GRID.replace("vary", "tau: 0.7\nvary"), GRID + "confidence: {folds: 5}\n"], ids=["varied", "not read"]
)
def test_growth_base_value_that_no_trial_reads_changes_nothing(tmp_path: Path, text: str) -> None:
    found = after(tmp_path, text)
    assert len(found.changes) == 1
    assert (found.reused, found.trained, found.refused) == (TWO, 0, ())


def test_growth_other_rows_alone_are_another_study(tmp_path: Path) -> None:
    found = after(tmp_path, vary("{tau: [0.7, 0.8]}"))
    assert found.refused[-1] == "no finished trial would stay"


def test_growth_nothing_finished_may_be_changed_freely(tmp_path: Path) -> None:
    for text in (vary("{delta: [0.7, 0.8]}") + "alpha: 3\n", SEARCH):
        found = after(tmp_path, text, finished=0)
        assert found.is_free
        assert (found.trained, found.refused) == (2, ())


def test_growth_trial_whose_files_are_gone_keeps_the_study_from_changing(tmp_path: Path) -> None:
    assert after(tmp_path, GRID, "seeds=[0, 1]").refused == ()
    (tmp_path / "out/.store/trial/1/config.json").unlink()
    found = outlook(small.load(tmp_path, GRID, "seeds=[0, 1]"), tmp_path / "out/tiny")
    assert found is not None
    assert found.refused == (f"{TWO[1]}: what it was trained with is not known, its files are damaged or gone",)
    require_continuable(small.load(tmp_path, GRID), tmp_path / "out/tiny")


def test_growth_tables_and_resources_are_no_change(tmp_path: Path) -> None:
    assert after(tmp_path, GRID + "tables: [{metrics: [mean_iou]}]\nresources: {concurrent: 1}\n").changes == ()


def test_growth_search_may_have_more_trials_or_fewer_than_were_planned(tmp_path: Path) -> None:
    found = after(tmp_path, SEARCH, "search.trials=5", before=SEARCH)
    assert (found.reused, found.trained, found.refused) == (SUGGESTED, 3, ())
    assert after(tmp_path, SEARCH, "search.trials=1", before=SEARCH).refused == ("search.trials: 2 -> 1",)
    fewer = after(tmp_path, SEARCH, "search.trials=2", before=SEARCH.replace("trials: 2", "trials: 7"))
    assert (fewer.reused, fewer.trained, fewer.refused) == (SUGGESTED, 0, ())


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ("search.sampler=tpe", ('search.sampler: "random" -> "tpe"',)),
        ("search.seed=1", ("search.seed: 0 -> 1",)),
        ("seeds=[0, 1]", ("seeds: [0] -> [0,1]",)),
        ("alpha=3", ("base.alpha: 20.0 -> 3.0",)),
        ("refinement.epochs=3", ("base.refinement.epochs: 2 -> 3",)),
        ("tau=0.7", ()),
        ("search.stop.patience=2", ()),
    ],
)
def test_growth_search_is_otherwise_as_it_was(tmp_path: Path, change: str, fields: tuple[str, ...]) -> None:
    text = SEARCH.replace("search:", "tau: 0.7\nsearch:") if change == "tau=0.7" else SEARCH
    found = after(tmp_path, text, *(() if text != SEARCH else (change,)), "search.trials=3", before=SEARCH)
    assert found.refused == fields


def test_growth_search_in_place_of_a_finished_grid_is_refused(tmp_path: Path) -> None:
    assert 'search.sampler: (absent) -> "random"' in after(tmp_path, SEARCH).refused


@pytest.mark.parametrize("text", [GRID, small.TINY], ids=["varies", "varies nothing"])
def test_folder_of_a_run_with_options_is_refused_with_the_options_to_repeat(tmp_path: Path, text: str) -> None:
    sets = ("alpha=3", "refinement.epochs=3", "seeds=[0, 1]", "vary.tau=[0.5, 0.25]")
    folder = plant(small.load(tmp_path, text, *sets), tmp_path / "out")
    with pytest.raises(Refusal) as refused:
        require_continuable(small.load(tmp_path, text), folder)
    _, _, told = str(refused.value).partition("repeat the options of the run: ")
    words = shlex.split(told)
    assert words[-2:] == ["--seeds", "0,1"]
    assert words[1:-2:2] == ["alpha=3.0", "refinement.epochs=3", "vary.tau=[0.5,0.25]"]
    require_unchanged(small.load(tmp_path, text, *words[1:-2:2], "seeds=[0,1]"), folder)


def test_require_unchanged_asks_for_a_run_first(tmp_path: Path) -> None:
    folder = plant(small.load(tmp_path, GRID), tmp_path / "out")
    require_unchanged(small.load(tmp_path, GRID), folder)
    with pytest.raises(
        Refusal, match=r"tiny as it was before a change:\n  seeds: \[0\] -> \[0,1\]\nrun the study first"
    ):
        require_unchanged(small.load(tmp_path, GRID, "seeds=[0, 1]"), folder)


def test_study_plan_and_status_say_what_a_change_comes_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(command: str, *options: str) -> str:
        study = str(tmp_path / "study.yaml")
        assert run(["study", command, study, "--output", str(tmp_path / "out"), *options]) == 0
        return capsys.readouterr().out

    small.load(tmp_path, GRID)
    assert "finished trial" not in told("plan")
    assert json.loads(told("plan", "--json"))["continues"] is None
    plant(small.load(tmp_path, GRID), tmp_path / "out")
    place = tmp_path / "out/tiny"
    assert told("plan").endswith(f"\n{place}: reuses 2 finished trials; trains 0 of 2\n")
    assert "was changed" not in told("status")
    seeds = ("--set", "seeds=[0, 1]")
    assert told("plan", *seeds).endswith(f"\n{place}: reuses 2 finished trials; trains 2 of 4\n")
    assert told("status", *seeds).endswith(" was changed since, the next run reuses 2 finished trials; trains 2 of 4\n")
    refused = ("--set", "alpha=3")
    assert f"\n{place}: refuses the change, for what is finished there:\n  base.alpha: " in told("plan", *refused)
    assert json.loads(told("plan", "--json", *refused))["continues"]["refused"] == ["base.alpha: 20.0 -> 3.0"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the grid is finished."""
    return _trained(tmp_path_factory.mktemp("grid"), GRID)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the search is finished."""
    return _trained(tmp_path_factory.mktemp("search"), SEARCH)


def _trained(folder: Path, text: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
        assert small.run(small.load(folder, text), folder) == 0
    return folder


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    """A copy of the finished grid, its ``study.json`` as version 0.2 wrote it."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "out/tiny/study.json"
    plain = json.loads(file.read_text(encoding="utf-8"))
    del plain["run"], plain["fingerprint"]
    file.write_text(json.dumps(plain, indent=1), encoding="utf-8")
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the trials that are to be trained, which none is."""
    names: list[str] = []

    def train(_: Study, trials: Sequence[ResolvedTrial], recorder: Recorder) -> None:
        names.extend(trial.name for trial in trials)

    monkeypatch.setattr("lchp.study.run.ray_tune.train", train)
    return names


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def runs(folder: Path) -> dict[str, tuple[str, str]]:
    """Id and status of every run but those of initializations, by name."""
    store = client(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = store.get_experiment_by_name("tiny")
    assert experiment is not None
    found = store.search_runs([experiment.experiment_id], "tags.`lchp.kind` != 'initialization'")
    assert len({one.info.run_name for one in found}) == len(found)
    return {str(one.info.run_name): (str(one.info.run_id), str(one.info.status)) for one in found}


def test_run_study_with_another_varied_key_keeps_trials_and_runs_under_new_names(own: Path, asked: list[str]) -> None:
    before, said = runs(own), list[str]()
    grown = small.load(own, vary("{alpha: [3.0, 20.0], tau: [0.0, 0.5]}"))
    assert small.run(grown, own, said) == 1
    assert said[0] == "tiny was changed since its last run: reuses 2 finished trials; trains 2 of 4"
    assert sorted(asked) == ["alpha=3.0 tau=0.0 seed=0", "alpha=3.0 tau=0.5 seed=0"]
    now = runs(own)
    assert now.pop("tiny")[0] == before.pop("tiny")[0], "the study's own run stays the same"
    assert now == {f"alpha=20.0 {name}": run for name, run in before.items()}
    frame = pd.read_csv(own / "out/tiny/results.csv")
    assert frame.groupby(["alpha", "tau"])["run_id"].first().tolist() == [before[name][0] for name in TWO]
    assert json.loads((own / "out/tiny/study.json").read_text(encoding="utf-8"))["seeds"] == [0]
    again: list[str] = []
    assert small.run(grown, own, again) == 1
    assert "was changed" not in again[0]


def test_run_study_without_a_value_drops_its_trial_and_leaves_run_and_files(own: Path, asked: list[str]) -> None:
    before, said = runs(own), list[str]()
    assert small.run(small.load(own, vary("{tau: [0.5]}")), own, said) == 0
    assert "drops 1 finished trial, whose runs and files stay (tau=0.0 seed=0)" in said[0]
    assert [entry.name for entry in read(own / "out/tiny")] == [TWO[1]]
    assert set(pd.read_csv(own / "out/tiny/results.csv")["tau"]) == {0.5}
    assert asked == []
    assert runs(own) == before
    back: list[str] = []
    assert small.run(small.load(own, GRID), own, back) == 0
    assert "all 2 trials of tiny are finished: nothing to train" in back


def test_run_study_with_more_epochs_goes_on_from_the_old_ones(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
    before, said = runs(own), list[str]()
    assert small.run(small.load(own, vary("{tau: [0.0]}"), "refinement.epochs=3"), own, said) == 0
    assert "trains 1 of 1, 1 of them finished but to go on to more epochs (tau=0.0 seed=0); drops 1" in said[0]
    epochs = [line.partition("seed=0: ")[2].partition("  ")[0] for line in said if "  loss " in line]
    assert epochs == ["refinement 3"]
    (entry,) = read(own / "out/tiny")
    assert (entry.state, entry.epochs, entry.of) == ("finished", 5, 5)
    store = client(f"sqlite:///{own / 'mlflow.db'}")
    assert store.get_run(before[TWO[0]][0]).info.status == "FINISHED"
    assert entry.run_id not in {run_id for run_id, _ in before.values()}
    assert store.get_run(str(entry.run_id)).data.tags["mlflow.parentRunId"] == before["tiny"][0]


def test_run_study_with_data_of_another_configuration_keeps_its_own(own: Path, asked: list[str]) -> None:
    before = runs(own)
    grown = small.TINY + "vary:\n- {tau: [0.0, 0.5]}\n- {tau: 0.0, dataset.test_per_class: 3}\n"
    assert small.run(small.load(own, grown), own) == 1
    assert asked == ["tau=0.0 dataset.test_per_class=3 seed=0"]
    held = json.loads((own / "out/tiny/study.json").read_text(encoding="utf-8"))
    assert len(set(held["data"].values())) == 2
    lists = client(f"sqlite:///{own / 'mlflow.db'}").list_artifacts(before["tiny"][0], "datasets")
    assert len(lists) == 2


def test_run_study_killed_after_its_folder_was_claimed_keeps_everything(
    own: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    grown = small.load(own, vary("{alpha: [3.0, 20.0], tau: [0.0, 0.5]}"), "seeds=[0, 1]")
    before = runs(own)
    with monkeypatch.context() as patch:
        patch.setattr("lchp.study.run.study.ensure_experiment", killed)
        with pytest.raises(KeyboardInterrupt):
            small.run(grown, own)
    assert [entry.name for entry in read(own / "out/tiny")] == list(TWO)
    with pytest.raises(Refusal, match=r"base\.delta"):
        small.run(small.load(own, vary("{alpha: [3.0, 20.0], tau: [0.0, 0.5]}"), "delta=0.7"), own)
    assert small.run(grown, own) == 1
    assert len(asked) == 6
    kept = [entry.run_id for entry in read(own / "out/tiny") if entry.state == "finished"]
    assert kept == [before[name][0] for name in TWO]
    assert runs(own)["tiny"][0] == before["tiny"][0]


def test_run_study_refused_change_leaves_everything(own: Path, asked: list[str]) -> None:
    before = {file: file.read_bytes() for file in own.rglob("*") if file.is_file()}
    with pytest.raises(Refusal, match=r"base\.alpha"):
        small.run(small.load(own, GRID, "alpha=3", "seeds=[0, 1]"), own)
    assert {file: file.read_bytes() for file in own.rglob("*") if file.is_file() and file.name != "study.yaml"} == {
        file: text for file, text in before.items() if file.name != "study.yaml"
    }
    assert asked == []


def test_run_study_changed_freely_ends_the_runs_that_a_kill_left(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(_: Study, trials: Sequence[ResolvedTrial], recorder: Recorder) -> None:
        recorder.start(trials[0])

    shutil.copytree(trained / "cache", tmp_path / "cache")
    monkeypatch.setattr("lchp.study.run.ray_tune.train", train)
    assert small.run(small.load(tmp_path, vary("{tau: [0.0]}")), tmp_path) == 1
    first = runs(tmp_path)
    assert first[TWO[0]][1] == "RUNNING"
    said: list[str] = []
    changed = small.load(tmp_path, vary("{tau: [0.7]}"), "alpha=3")
    with monkeypatch.context() as patch:
        # As a kill does, once its folder is the changed study's.
        patch.setattr("lchp.study.run.study.ensure_experiment", killed)
        with pytest.raises(KeyboardInterrupt):
            small.run(changed, tmp_path)
    assert read(tmp_path / "out/tiny") == []
    assert small.run(changed, tmp_path, said) == 1
    assert said[0].startswith("tiny: 1 of 1 trial to train")
    now = runs(tmp_path)
    assert now[TWO[0]] == (first[TWO[0]][0], "FAILED")
    assert now["tiny"][0] == first["tiny"][0]
    assert [entry.name for entry in read(tmp_path / "out/tiny")] == ["tau=0.7 seed=0"]


def test_run_study_finished_search_is_extended(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
    before, old, said = runs(tmp_path), read(tmp_path / "out/tiny"), list[str]()
    stopping = small.load(tmp_path, SEARCH, "search.trials=9", "search.stop.hours=1e-6")
    assert small.run(stopping, tmp_path, said) == 0
    assert read(tmp_path / "out/tiny") == old
    stopped = "The search stopped after 2 of 9 suggestions: its trials have trained for "
    assert [line.startswith(stopped) for line in said].count(True) == 1
    assert stopped in (tmp_path / "out/tiny/stopped.txt").read_text(encoding="utf-8")
    said.clear()
    assert small.run(small.load(tmp_path, SEARCH, "search.trials=3"), tmp_path, said) == 0
    assert not (tmp_path / "out/tiny/stopped.txt").exists()
    assert said[0] == "tiny was changed since its last run: reuses 2 finished trials; trains 1 of 3"
    entries = read(tmp_path / "out/tiny")
    assert entries[:2] == old
    assert [entry.state for entry in entries] == ["finished"] * 3
    assert before.items() <= runs(tmp_path).items()


def test_run_study_search_changed_freely_sets_its_suggestions_aside(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(study: Study, _: Sequence[ResolvedTrial], recorder: Recorder) -> None:
        from lchp.study.run.optuna_search import ContinuedSearch

        trial = ContinuedSearch(study, recorder.ledger.folder, recorder.refuse).next()
        assert trial is not None
        recorder.start(trial)

    shutil.copytree(trained / "cache", tmp_path / "cache")
    monkeypatch.setattr("lchp.study.run.ray_tune.train", train)
    assert small.run(small.load(tmp_path, SEARCH), tmp_path) == 1
    assert small.run(small.load(tmp_path, SEARCH, "search.trials=3"), tmp_path) == 1
    aside = tmp_path / "out/tiny/optuna.journal.damaged-1"
    assert not aside.exists()
    said: list[str] = []
    assert small.run(small.load(tmp_path, SEARCH.replace("low: 0.0", "low: 0.5")), tmp_path, said) == 1
    assert said[0].endswith("tiny was changed: set aside as optuna.journal.damaged-1")
    assert aside.exists()
    (entry,) = read(tmp_path / "out/tiny")
    assert entry.varied["tau"] >= 0.5
