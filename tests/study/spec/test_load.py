from __future__ import annotations

from pathlib import Path

import pytest

from lchp.errors import Refusal
from lchp.method.backbones import NETWORKS
from lchp.store.study_folder import StudyFolder
from lchp.study.spec import load
from lchp.study.spec.load import Study, load_dataset, load_study, load_trial
from lchp.study.spec.search import Range
from lchp.study.spec.tables import RESERVED
from lchp.study.spec.values import config_value, with_values
from lchp.vocabulary import METRICS


def study(folder: Path, text: str, *sets: str, data: Path | None = None) -> Study:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return load_study(path, sets, data)


def refusal(folder: Path, text: str, *sets: str) -> str:
    with pytest.raises(Refusal) as caught:
        study(folder, text, *sets)
    return str(caught.value)


def test_load_study_layers_options_over_file_over_preset(tmp_path: Path) -> None:
    loaded = study(
        tmp_path, "name: s\npreset: quickstart\ntau: 8e-1\nrefinement: {rate: 2e-3}\n", "refinement.epochs=2"
    )
    assert loaded.base.classifier == "small_cnn"
    assert (loaded.base.tau, loaded.base.refinement.rate, loaded.base.refinement.epochs) == (0.8, 0.002, 2)
    assert loaded.grid == (loaded.base,)
    assert (loaded.varied, loaded.seeds) == ((), (0,))


def test_load_study_data_option_sets_the_path(tmp_path: Path) -> None:
    loaded = study(tmp_path, "name: s\ndataset: cub\n", data=Path("/birds"))
    assert loaded.base.dataset.kind == "cub"
    assert loaded.base.dataset.path == Path("/birds")


def test_load_study_grid_is_expanded_in_the_order_written(tmp_path: Path) -> None:
    loaded = study(tmp_path, "name: s\nvary: {delta: [0.7, 0.5], refinement.teacher: frozen, tau: [0, 1e-1]}\n")
    assert loaded.varied == ("delta", "refinement.teacher", "tau")
    assert [(c.delta, c.refinement.teacher, c.tau) for c in loaded.grid] == [
        (0.7, "frozen", 0.0),
        (0.7, "frozen", 0.1),
        (0.5, "frozen", 0.0),
        (0.5, "frozen", 0.1),
    ]


def test_load_study_equal_configurations_of_several_grids_are_one(tmp_path: Path) -> None:
    text = (
        "name: s\nvary:\n- delta: [0.5, 0.7]\n- tau: [0.9, 0.8]\n- augmentation: [flip, [flip, scale, translation]]\n"
    )
    loaded = study(tmp_path, text)
    assert [(c.delta, c.tau, c.augmentation) for c in loaded.grid] == [
        (0.5, 0.9, "scale+translation+flip"),
        (0.7, 0.9, "scale+translation+flip"),
        (0.7, 0.8, "scale+translation+flip"),
        (0.7, 0.9, "flip"),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("confidence: {score: out_of_fold}\n", 3),
        ("vary:\n- delta: [0.5]\n- confidence.score: [max_softmax, out_of_fold]\n", 5),
    ],
)
def test_load_study_out_of_fold_without_val_is_refused_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    found = refusal(tmp_path, f"name: s\npreset: cub\n{text}")
    assert found.startswith(f"{tmp_path / 'study.yaml'}:{line}: ")
    assert "confidence.score is out_of_fold, whose temperature is fitted on val, but split.val_per_class is 0" in found


@pytest.mark.parametrize("written", ["resnet_50", "3", "[resnet50]"])
@pytest.mark.parametrize("key", ["backbone", "classifier"])
def test_load_study_unknown_network_is_refused_with_the_choices(tmp_path: Path, key: str, written: str) -> None:
    names = [f"'{name}'" for name in NETWORKS]
    choices = f"must be {', '.join(names[:-1])} or {names[-1]}"
    (line,) = refusal(tmp_path, f"name: s\n{key}: {written}\n").splitlines()
    assert line.startswith(f"{tmp_path / 'study.yaml'}:2: {key} = ")
    assert line.endswith(f": {choices}")


def test_load_study_every_mistake_is_one_line_with_its_place(tmp_path: Path) -> None:
    text = (
        "name: s\nclassifer: resnet50\ntau: 1.5\nalpha: true\nbeta: '0.5'\n"
        "refinement:\n  epochs: 3.5\n  teacher: frosen\n"
        "weights: {classifier: {fil: x}}\nseeds: [-1]\nresources: {cpu: 1}\n"
    )
    lines = refusal(tmp_path, text).splitlines()
    file = tmp_path / "study.yaml"
    assert sorted(line.partition(" (")[0] for line in lines) == [
        f"{file}:10: seeds.0 = -1: must be greater than or equal to 0",
        f"{file}:11: resources.cpu = 1: unknown key: did you mean `cpus`?",
        f"{file}:2: classifer = resnet50: unknown key: did you mean `classifier`?",
        f"{file}:3: tau = 1.5: must be at least 0 and at most 1",
        f"{file}:4: alpha = true: must be a number",
        f"{file}:5: beta = 0.5: must be a number",
        f"{file}:7: refinement.epochs = 3.5: must be a whole number",
        f"{file}:8: refinement.teacher = frosen: must be 'online', 'frozen' or 'ema'",
        f"{file}:9: weights.classifier.fil = x: unknown key: did you mean `file`?",
        f"{file}:9: weights.classifier.file: is missing: add it",
    ]


MISTAKES = [
    ("tau: 0.9\n", "name: is missing"),
    ("name: a/b\n", "study.yaml:1: name = a/b"),
    ("name: ..\n", "study.yaml:1: name = .."),
    ("name: s\npreset: cubs\n", "study.yaml:2: preset = cubs: unknown preset: did you mean `cub`?"),
    ("name: s\nseed: 1\n", "study.yaml:2: seed: a study takes a list"),
    ("name: s\nreferences: [supervized]\n", "study.yaml:2: references.0 = supervized: must be 'few_shot' or"),
    (
        "name: s\nreferences: [few_shot, few_shot]\n",
        "study.yaml:2: references = ['few_shot', 'few_shot']: one is there twice",
    ),
    ("name: s\nvary: {references: [few_shot]}\n", "study.yaml:2: vary.references: is not varied: all trials of a"),
    ("name: s\nseeds: [1, 1]\n", "study.yaml:2: seeds = [1, 1]"),
    ("name: s\nseeds: []\n", "study.yaml:2: seeds"),
    ("name: s\ndataset: cup\n", "study.yaml:2: dataset"),
    (
        "name: s\nview: {crop: 300}\ndataset: synthetic\nvary:\n  view.resize: [400,\n    200]\n",
        "study.yaml:6: view.crop 300",
    ),
    ("name: s\nvary: {delta: [0.5, 5]}\n", "study.yaml:2: delta = 5: must be at least 0 and at most 1"),
    ("name: s\nvary:\n  delta: []\n", "study.yaml:3: vary.delta: the list is empty"),
    ("name: s\nvary: 3\n", "study.yaml:2: vary: must map"),
    ("name: s\nvary: []\n", "study.yaml:2: vary: is empty"),
    ("name: s\nvary:\n- delta: 0.5\n- 7\n", "study.yaml:4: vary: must map"),
    ("name: s\nvary: {seed: [1]}\n", "study.yaml:2: vary.seed: is not varied"),
    ("name: s\nvary: {dleta: [1]}\n", "study.yaml:2: dleta = 1: unknown key: did you mean `delta`?"),
    (
        "name: s\nvary: {refinement.rat: [1]}\n",
        "study.yaml:2: refinement.rat = 1: unknown key: did you mean `rate`?",
    ),
    (
        "name: s\naugmentation: flop\n",
        "study.yaml:2: augmentation = flop: must be a subset of scale, translation, flip",
    ),
    ("name: s\ntables: [{by: [tau]}]\n", "study.yaml:2: tables.0.by: `tau` does not vary"),
    ("name: s\ntables:\n- name: results\n", "study.yaml:3: tables.0.name = results: is the name of another file"),
    ("name: s\ntables: [{name: Losses}]\n", "study.yaml:2: tables.0.name = Losses: is the name of another file"),
    ("name: paper\n", "study.yaml:1: name = paper: the folder of that name holds the paper's numbers"),
    ("name: Reference\n", "name = Reference: the folder of that name holds the results that come with the project"),
    (
        "name: s\nvary: {delta: [0.5]}\ntables:\n- by: [delta]\n  paper: table3_dleta\n",
        "study.yaml:5: tables.0.paper = table3_dleta: unknown table: did you mean `table3_delta`?",
    ),
    (
        "name: s\nvary: {tau: [0.9]}\ntables:\n- paper: table3_delta\n",
        "study.yaml:4: tables.0.paper = table3_delta: table3_delta has rows by delta, the table by tau",
    ),
    ("name: s\nseeds: []\n", "study.yaml:2: seeds = []: is empty: give at least one value"),
    ("name: a/b\n", "name = a/b: must be letters, digits"),
    ("name: s\ndataset: {kind: cub, path: ''}\n", "study.yaml:2: dataset.path = : the path is empty: give one"),
    (
        "name: s\nweights: {regressor: {file: ''}}\n",
        "study.yaml:2: weights.regressor.file = : the path is empty: give one",
    ),
    (
        "name: s\nweights: {classifier: {file: a, sha256: AB}}\n",
        "study.yaml:2: weights.classifier.sha256 = AB: must be 64 hexadecimal digits",
    ),
    (
        "name: s\naugmentation: no\n",
        "study.yaml:2: augmentation = false: must be text (strong augmentations, a subset joined by '+'); YAML",
    ),
    ("name: s\nview: {evaluation: on}\n", "must be 'whole' or 'centre_crop'; YAML reads yes, no, on and off as"),
    ("name: s\npreset: off\n", "study.yaml:2: preset = false: unknown preset: known are"),
    ("name: s\npreset: off\n", "YAML reads yes, no, on and off as true and false: put such a word into quotes"),
    (
        "name: s\ninitialization: {attention_maps: 100000000}\n",
        "study.yaml:2: initialization.attention_maps = 100000000: must be at least 1 and at most 1024",
    ),
    (
        "name: s\nevaluation: {batch_size: 99999999999999999999}\n",
        "study.yaml:2: the number 99999999999999999999 is too large",
    ),
    ("name: s\nsearch: {trials: 10001, space: {tau: [0.5]}}\n", "search.trials = 10001: must be at least 1 and at"),
    ("name: s\nresources: {cpus: 1e9}\n", "resources.cpus = 1000000000.0: must be more than 0 and at most 4096"),
    ("name: s\n" + "x" * 500 + ": 1\n", "study.yaml:2: " + "x" * 77 + "... = 1: unknown key"),
    ("name: s\ntables: [{}, {}]\n", "study.yaml:2: tables: two have one name"),
    (
        "name: s\nresources: {gpus: 1.5}\n",
        "study.yaml:2: resources.gpus = 1.5: must be a share of one GPU, at most 1",
    ),
    ("name: s\nresources: {time_limit: 0}\n", "study.yaml:2: resources.time_limit = 0: must be more than 0"),
    ("name: s\nfailures:\n  retries: -1\n", "study.yaml:3: failures.retries = -1: must be at least 0"),
    ("name: s\nfailures: {stop_after: 0}\n", "study.yaml:2: failures.stop_after = 0: must be at least 1"),
    (
        "name: s\nfailures: {silence: 3}\n",
        "study.yaml:2: failures.silence = 3: unknown key: did you mean `silent`?",
    ),
    (
        "name: s\nvary:\n  delta: [0.5]\n  view:\n  - {resize: 40, crop: 48}\n",
        "study.yaml:5: view.crop 48 is larger than view.resize 40: make it smaller",
    ),
    (
        "name: s\nvary: {delta: [0.5, 0.6]}\ntables:\n- by: [delta, delta]\n",
        "study.yaml:4: tables.0.by: `delta` is there 2 times: name it once",
    ),
    (
        "name: s\nvary: {delta: [1], tau: [0.1]}\ntables:\n- by: [delta]\n  fixed:\n    tau: 0.1\n    delta: 1\n",
        "study.yaml:7: tables.0.fixed.delta: `delta` makes the rows: leave it out of `by`, or out here",
    ),
    (
        "name: s\nvary: {delta: [0.5, 0.6]}\ntables:\n- fixed: {delta: 0.5}\n",
        "study.yaml:4: tables.0.fixed.delta: `delta` makes the rows: leave it out here, or give `by` without it",
    ),
    (
        "name: s\nvary: {delta: [0.5, 0.6], tau: [0.1, 0.2]}\ntables:\n- by: [delta]\n  fixed: {tau: '0.1'}\n",
        'tables.0: no trial has tau = "0.1": say under `fixed` which ones the rows show (tau is 0.1, 0.2)',
    ),
    ("name: s\ntables: [{metrics: [gt_know]}]\n", "study.yaml:2: tables.0.metrics.0 = gt_know: must be 'gt_known'"),
]
"""Files that are refused, and words of what is told."""


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_load_study_mistake_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text)


def test_load_study_bad_option_is_named_instead_of_a_line(tmp_path: Path) -> None:
    assert refusal(tmp_path, "name: s\n", "tau=2").startswith("--set tau=2: tau = 2: must be at least 0 and at most 1")
    assert refusal(tmp_path, "name: s\n", "initialization.epoch=2").endswith("unknown key: did you mean `epochs`?")


def test_load_study_data_for_a_drawn_dataset_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("name: s\npreset: quickstart\n", encoding="utf-8")
    with pytest.raises(Refusal, match=r"^--data x: the synthetic dataset is drawn: leave the option out"):
        load_study(path, data=Path("x"))


def test_load_study_too_many_configurations_are_refused(tmp_path: Path) -> None:
    values = ", ".join(str(i / 1000) for i in range(150))
    assert "makes 22500 configurations" in refusal(tmp_path, f"name: s\nvary: {{delta: [{values}], tau: [{values}]}}\n")


SEARCH = "name: s\nsearch:\n  trials: 4\n  space:\n"


def test_load_study_search_reads_choices_in_their_one_spelling(tmp_path: Path) -> None:
    text = (
        SEARCH
        + "    tau: {low: 0, high: 9e-1}\n    augmentation: [none, [flip, scale]]\n"
        + "    refinement.epochs: {low: 1, high: 3}\n"
    )
    search = study(tmp_path, text).search
    assert search is not None
    assert search.space == {
        "tau": Range(low=0.0, high=0.9),
        "augmentation": ("none", "scale+flip"),
        "refinement.epochs": Range(low=1, high=3),
    }
    assert search.objective.key == "lchp_r/val/gt_known"
    assert search.size is None


def test_load_study_search_first_is_read_in_the_spelling_of_the_space(tmp_path: Path) -> None:
    text = SEARCH + "    tau: {low: 0, high: 1}\n    augmentation: [none, [flip, scale]]\n"
    search = study(tmp_path, text + "  first: [{tau: 0, augmentation: [scale, flip]}, {tau: 1}]\n").search
    assert search is not None
    assert search.first == ({"tau": 0.0, "augmentation": "scale+flip"}, {"tau": 1.0})


def test_load_study_search_counts_no_more_trials_than_its_space_holds(tmp_path: Path) -> None:
    text = SEARCH + "    augmentation: [none, flip]\n    refinement.epochs: {low: 1, high: 3}\n"
    assert study(tmp_path, text).count == 4
    assert study(tmp_path, text.replace("trials: 4", "trials: 40")).count == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("    tau: {low: 0.5, high: 1.5}\n", "study.yaml:5: tau = 1.5: must be at least 0 and at most 1"),
        (
            "    tau: {low: 0.5, high: 0.1}\n",
            'search.space.tau = {"low": 0.5, "high": 0.1}: low 0.5 is not below high 0.1: exchange or widen them',
        ),
        ("    alpha: {low: 0, high: 1, log: true}\n", "has no logarithm"),
        ("    tau: 0.5\n", "study.yaml:5: search.space.tau = 0.5: must be a mapping or must be a list"),
        ("    tau: []\n", "study.yaml:5: search.space.tau = []: is empty: give at least one value"),
        ("    tuu: [0.5]\n", "study.yaml:5: tuu = 0.5: unknown key: did you mean `tau`?"),
        ("    seed: [1]\n", "study.yaml:5: search.space.seed: is not varied"),
        ("    tau: [0.5]\nvary: {delta: [0.5]}\n", "study.yaml:2: search: cannot stand beside `vary`"),
        (
            "    tau: [0.5]\nsplit: {val_per_class: 0}\n",
            "study.yaml:6: split.val_per_class = 0: a search chooses on val",
        ),
        ("    tau: [0.5]\nreferences: [few_shot]\n", "study.yaml:6: references: cannot stand beside `search`, whose"),
        (
            "    tau: [0.5]\n  pruner: {}\nseeds: [0, 1]\n",
            "study.yaml:7: seeds = [0, 1]: search.pruner judges the one training of a suggestion by its epochs",
        ),
        (f"    tau: [0.5]\nseeds: {list(range(2501))}\n", "10004 trials: plan at most 10000"),
        (
            "    tau: [0.5]\n  warm_start: [s]\n",
            "study.yaml:6: search.warm_start: s: is this study itself",
        ),
        (
            "    tau: [0.5]\n  pruner: {}\n  objective: {metric: agreement}\n",
            "study.yaml:7: search.objective.metric = agreement: is measured at a trial's end",
        ),
        (
            "    tau: [0.5]\n  objective: {method: pseudo_label, metric: crop_cls}\n",
            "crop_cls is of predicted boxes, not of pseudo_label: choose another of the two",
        ),
        (
            "    tau: [0.5]\n  group: 2\n",
            "study.yaml:6: search.group = 2: shares an initialization among suggestions, and search.space has none",
        ),
        ("    delta: [0.5]\n  group: 2\n", "search.space has no key that refinement alone reads: leave it out"),
        ("    delta: [0.5, 0.6]\n    tau: [0.5]\n  group: 2\n  grid: [delta]\n", "group = 2: draws delta once for so"),
        (
            "    tau: [0.5]\n  sampler: cmaes\n",
            "study.yaml:6: search.sampler = cmaes: draws numbers, and no key of the",
        ),
        (
            "    tau: {low: 0.1, high: 0.5}\n  sampler: cmaes\n  cost: gflop\n",
            "study.yaml:7: search.cost = gflop: makes a front of best trials, and search.sampler = cmaes draws by a",
        ),
        ("    tau: [0.5]\n  sampler: nsga2\n", "study.yaml:6: search.sampler = nsga2: is for two objectives: add"),
        (
            "    tau: [0.5]\n  cost: gflop\n  pruner: {}\n",
            "study.yaml:6: search.cost = gflop: makes a front of best trials, and search.pruner judges a single one",
        ),
        (
            "    tau: [0.5]\n  sampler: tpa\n",
            "study.yaml:6: search.sampler = tpa: must be 'tpe', 'random', 'gp', 'cmaes' or 'nsga2'",
        ),
        (
            "    tau: [0.5]\n  grid: [alpha]\n",
            "study.yaml:6: search.grid: alpha: is no key of `search.space` with a list",
        ),
        ("    tau: {low: 0, high: 0.5}\n  grid: [tau]\n", "search.grid: tau: is no key of `search.space` with a list"),
        ("    tau: [0.5]\n  first: [{delta: 0.5}]\n", "study.yaml:6: search.first.delta: is no key of `search.space`"),
        (
            "    tau: [0.5, 0.7]\n  first: [{tau: 0.6}]\n",
            "study.yaml:6: search.first.tau = 0.6: is not in the space: choose of 0.5, 0.7",
        ),
        ("    tau: {low: 0, high: 0.5}\n  first: [{tau: 0.6}]\n", "is not in the space: choose of 0.0 to 0.5"),
        ("    tau: {low: 0, high: 0.5}\n  first: [{tau: -1}]\n", "study.yaml:6: tau = -1: must be at least 0"),
        (
            "    augmentation: [scale+flip, none]\n  first: [{augmentation: none}, {augmentation: none}]\n",
            "study.yaml:6: search.first: is there twice",
        ),
        (
            "    confidence.shrink: {low: 0.5, high: 0.9}\n",
            "search.space.confidence.shrink: is not read with confidence.score = max_softmax: leave it out, or",
        ),
    ],
)
def test_load_study_search_mistake_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, SEARCH + text)


@pytest.mark.parametrize("name", METRICS)
def test_load_study_objective_is_a_metric_of_which_higher_is_better(tmp_path: Path, name: str) -> None:
    text = SEARCH + f"    tau: [0.5]\n  objective: {{metric: {name}}}\n"
    if METRICS[name].higher_is_better:
        search = study(tmp_path, text).search
        assert search is not None
        assert search.objective.key == f"lchp_r/val/{name}"
    else:
        said = refusal(tmp_path, text)
        assert f"search.objective.metric = {name}: must be 'gt_known', " in said
        assert "'log_area_spread'" not in said


@pytest.mark.parametrize("name", ["whole_image", "supervised"])
def test_load_study_objective_of_a_method_that_epochs_do_not_measure_is_refused(tmp_path: Path, name: str) -> None:
    said = refusal(tmp_path, SEARCH + f"    tau: [0.5]\n  objective: {{method: {name}}}\n")
    assert f"search.objective.method = {name}: must be 'pseudo_label', 'lchp_i' or 'lchp_r'" in said


def test_identity_ignores_paths_and_resources_and_failures_and_tables(tmp_path: Path) -> None:
    one = study(tmp_path, "name: s\ndataset: {kind: cub, path: /a}\nresources: {cpus: 2}\nfailures: {retries: 0}\n")
    two = study(tmp_path, "name: s\ndataset: {kind: cub, path: /b}\ntables: [{metrics: [mean_iou]}]\n")
    other = study(tmp_path, "name: s\ndataset: cub\ntau: 0.5\n")
    assert one.identity() == two.identity() != other.identity()


def test_load_trial_reads_a_seed_and_refuses_a_studys_keys(tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text("preset: quickstart\nseed: 3\naugmentation: [flip]\n", encoding="utf-8")
    config = load_trial(path, ["tau=0.1"])
    assert (config.seed, config.augmentation, config.tau, config.backbone) == (3, "flip", 0.1, "small_cnn")
    assert load_dataset(path) == (load_trial(path).dataset, load_trial(path).split)
    path.write_text("seeds: [3]\n", encoding="utf-8")
    with pytest.raises(Refusal, match=r"trial.yaml:1: seeds = \[3\]: unknown key: did you mean `seed`"):
        load_trial(path)


def test_with_values_changes_dotted_keys_and_refuses_bad_ones(tmp_path: Path) -> None:
    base = study(tmp_path, "name: s\n").base
    changed = with_values(base, {"tau": 0.25, "refinement.teacher": "ema"})
    assert (config_value(changed, "tau"), config_value(changed, "refinement.teacher")) == (0.25, "ema")
    assert config_value(base, "dataset") == "synthetic"
    with pytest.raises(Refusal, match="tau = 7"):
        with_values(base, {"tau": 7})


def test_load_study_missing_files_are_refused_with_their_place(tmp_path: Path) -> None:
    text = (
        "name: s\ndataset: cub\nweights:\n  classifier: {file: gone.pth}\n"
        "vary:\n  dataset: [synthetic, {kind: table, path: gone.csv}]\n"
    )
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_study(path).base.dataset.kind == "cub"
    with pytest.raises(Refusal) as caught:
        load_study(path, must_exist=True)
    assert str(caught.value).splitlines() == [
        f"{path}:2: dataset.path: the cub data has no path: give it with --data PATH",
        f"{path}:4: weights.classifier.file = gone.pth: does not exist: "
        "give it with --set weights.classifier.file=PATH",
        f"{path}:6: dataset.path = gone.csv: does not exist: give the table data with --data PATH",
    ]
    with pytest.raises(Refusal, match=r"--data nowhere: dataset\.path = nowhere: does not exist"):
        load_study(path, data=Path("nowhere"), must_exist=True)


@pytest.mark.parametrize("text", ["name: s\n", "seed: 1\n"])
def test_load_dataset_reads_its_file_once(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[Path] = []
    whole = load.read
    monkeypatch.setattr(load, "read", lambda path: files.append(path) or whole(path))
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_dataset(path)[0].kind == "synthetic"
    assert files == [path]


def test_load_dataset_needs_no_weights_but_the_data(tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text("weights: {classifier: {file: gone.pth}}\n", encoding="utf-8")
    assert load_dataset(path)[0].kind == "synthetic"
    with pytest.raises(Refusal, match=r"--set dataset=cub: dataset\.path: the cub data has no path"):
        load_dataset(path, ["dataset=cub"])


def test_load_study_range_mistake_is_one_line(tmp_path: Path) -> None:
    for values in ("{low: 0.5, high: 0.1}", "{low: 2, high: 3}"):
        assert len(refusal(tmp_path, SEARCH + f"    tau: {values}\n").splitlines()) == 1


def test_load_study_option_for_a_varied_key_is_refused(tmp_path: Path) -> None:
    text = "name: s\nvary:\n  delta: [0.5, 0.7]\n"
    message = refusal(tmp_path, text, "delta=0.9")
    assert message.startswith("--set delta=0.9: delta varies, under `vary` (")
    assert "--set 'vary={delta: [...]}'" in message
    assert "under `search.space`" in refusal(tmp_path, SEARCH + "    tau: [0.5]\n", "tau=0.9")
    some = study(tmp_path, "name: s\nvary:\n- delta: [0.5]\n- tau: [0.1]\n", "delta=0.9")
    assert [config.delta for config in some.grid] == [0.5, 0.9]


def test_load_study_option_vary_replaces_the_whole_grid(tmp_path: Path) -> None:
    text = "name: s\nvary:\n  delta: [0.5, 0.7]\n"
    assert study(tmp_path, text, "vary={tau: [0.1]}").varied == ("tau",)
    assert study(tmp_path, text, "vary.tau=[0.1]").varied == ("delta", "tau")
    assert refusal(tmp_path, text, "vary={delta: [7]}").startswith("--set vary={delta: [7]}: delta = 7")


def test_load_trial_of_a_study_names_the_command_for_studies(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("preset: quickstart\nname: s\n", encoding="utf-8")
    with pytest.raises(Refusal, match=r"study.yaml:2: .* is a study, not a trial: run it with `lchp study run "):
        load_trial(path)


def test_load_study_varied_datasets_of_one_kind_have_names_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "name: s\npreset: quickstart\nvary: {dataset: [{kind: synthetic}, {kind: synthetic, seed: 1}]}\n", "utf-8"
    )
    trials = load_study(file).trials
    assert [trial.name for trial in trials] == ["dataset=synthetic seed=0", "dataset=synthetic seed=1 seed=0"]
    assert [trial.varied["dataset"] for trial in trials] == ["synthetic", "synthetic seed=1"]


def test_load_study_datasets_that_differ_in_their_place_alone_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("name: s\nvary:\n  dataset: [{kind: cub, path: a}, {kind: cub, path: b}]\n", "utf-8")
    with pytest.raises(Refusal, match=r"study\.yaml:2: vary: several trials would be called `dataset=cub seed=0`"):
        load_study(file)


def test_load_study_tells_data_and_weights_that_cannot_be_had_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lchp.study.spec.presence.unavailable", lambda url: "cannot be reached")
    path = tmp_path / "study.yaml"
    path.write_text("name: s\npreset: small\nweights:\n  regressor: {file: gone.pth}\n", encoding="utf-8")
    with pytest.raises(Refusal) as caught:
        load_study(path, must_exist=True, output=tmp_path / "out")
    assert str(caught.value).splitlines() == [
        f"{path}: dataset.path: the table data has no path: give it with --data PATH",
        f"{path}:4: weights.regressor.file = gone.pth: does not exist: give it with --set weights.regressor.file=PATH",
        f"{path}:3: weights.classifier = imagenet: cannot be reached: give a local file with "
        "--set weights.classifier.file=PATH",
        f"{path}: pseudo_boxes.weights = pretrained: cannot be reached: give a local file with "
        "--set pseudo_boxes.weights.file=PATH",
    ]
    # What was run once has had its weights.
    (tmp_path / "out" / "s").mkdir(parents=True)
    StudyFolder(tmp_path / "out" / "s").ledger.write_text("[]", encoding="utf-8")
    with pytest.raises(Refusal) as caught:
        load_study(path, must_exist=True, output=tmp_path / "out")
    assert "cannot be reached" not in str(caught.value)


def test_load_study_dotted_key_in_a_file_is_told_how_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("name: tiny\npreset: quickstart\ninitialization.epochs: 3\n", encoding="utf-8")
    with pytest.raises(
        Refusal, match=r"study\.yaml:3: .* = 3: unknown key: .* write `initialization: \{epochs: \.\.\.\}`"
    ):
        load_study(file)


def test_tables_may_have_the_name_of_no_file_of_the_study() -> None:
    """A table has pictures, too: whatever the folder names with such an ending is reserved."""
    folder = StudyFolder(Path("s"))
    named = [getattr(folder, name) for name, of in vars(StudyFolder).items() if isinstance(of, property)]
    endings = {file.suffix for file in folder.table("t")} | {".png", ".svg"}
    files = {file.stem for file in named if isinstance(file, Path) and file.suffix in endings}
    assert {"predictions", "results", "training"} <= files <= {*RESERVED}


@pytest.mark.parametrize("block", [">", "|"])
def test_load_study_question_may_be_a_block_of_yaml(block: str, tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(f"name: s\npreset: quickstart\nquestion: {block}\n  Does it\n  work?\n", encoding="utf-8")
    assert load_study(file).question == "Does it work?"


def test_load_study_key_of_three_parts_is_told_how_it_is_nested(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("name: s\npreset: quickstart\nweights.classifier.sha256: x\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"write `weights: \{classifier: \{sha256: \.\.\.\}\}`"):
        load_study(file)
