"""The studies that are shipped: what they resolve to, what they plan, and that each runs to its tables.

Where a study or a default changes on purpose, write its resolved configuration anew: ``python -m tests.test_studies``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

import tests.study.small as small
from lchp.cli import run
from lchp.data.fingerprint import differences
from lchp.method.backbones import NETWORKS, Network
from lchp.method.networks import make_regressor
from lchp.method.vit import find_transformer, make_transformer
from lchp.reporting.paper import PARAMETERS, load_paper
from lchp.shipped import SCHEMA, SCHEMA_LINE
from lchp.study.run.results import table_specs
from lchp.study.spec.load import Study, load_study
from lchp.study.spec.values import config_value
from lchp.tracking.store import client
from lchp.training.weights import imagenet_weights
from lchp.vocabulary import METHODS, METRICS
from tests.data.layouts import draw_cub, draw_imagenet, draw_tiny_imagenet
from tests.tracking.empty import put_empty_store

ROOT = Path(__file__).parents[1]
PAPER = ROOT / "analysis/paper"
GOLDEN = Path(__file__).parent / "study/spec/golden"
STUDIES = {path.stem: path for path in sorted((ROOT / "studies").glob("*.yaml"))}

PLANNED = {
    "alpha-beta": (7, 7),
    "birds-precision": (12, 12),
    "birds-scores": (18, 3),
    "birds-sources": (18, 18),
    "birds-tokens": (2, 2),
    "cub-subset-delta": (4, 4),
    "paper-cub": (17, 6),
    "quickstart": (3, 3),
    "resolution": (24, 24),
    "search-cub": (40, 40),
    "search-quickstart": (12, 12),
    "synthetic-ablation": (45, 15),
    "table1-cub": (1, 1),
    "table1-imagenet": (1, 1),
    "table2-tiny-imagenet": (1, 1),
    "table3-delta": (4, 4),
    "table4-tau": (6, 1),
    "table5-backbone": (3, 3),
    "table6-augmentation": (7, 1),
    "tiny-subset-sources": (12, 12),
}
"""Trials and distinct initializations of every study."""

ROWS = {
    "alpha-beta": {"table": 7, "alpha": 4, "beta": 4, "boxes": 5},
    "birds-precision": {"table": 4, "boxes": 4 * 5},
    "birds-scores": {"table": 6, "boxes": 5},
    "birds-sources": {"table": 6, "boxes": 6 * 5},
    "birds-tokens": {"table": 2, "boxes": 2 * 5},
    "cub-subset-delta": {"table": 4, "boxes": 5},
    "paper-cub": {"table": 17, "table3": 4, "table4": 6, "table5": 3, "table6": 7, "boxes": 5},
    "quickstart": {"table": 6, "boxes": 6},
    "resolution": {"table": 8, "boxes": 8 * 5},
    "search-cub": {"table": 2},
    "search-quickstart": {"table": 2},
    "synthetic-ablation": {"table": 15, "delta": 5, "tau": 4, "augmentation": 8, "boxes": 5},
    "table1-cub": {"table": 5 + 7},
    "table1-imagenet": {"table": 5 + 9},
    "table2-tiny-imagenet": {"table": 5 + 2},
    "table3-delta": {"table": 4, "boxes": 5},
    "table4-tau": {"table": 6, "boxes": 5},
    "table5-backbone": {"table": 3, "boxes": 5},
    "table6-augmentation": {"table": 7, "boxes": 5},
    "tiny-subset-sources": {"table": 4, "boxes": 4 * 5},
}
"""Rows of every table; where methods make the rows, the works that the paper cites stand below."""

PRINTED = {
    "table1_cub": ("LCHP-R", {"paper_top1_loc": "80.39", "paper_top5_loc": "91.72", "paper_gt_known": "94.36"}),
    "table1_imagenet": ("LCHP-I", {"paper_top1_loc": "52.59", "paper_top5_loc": "61.67", "paper_gt_known": "64.11"}),
    "table2_tiny_imagenet": ("Pseudo Label", {"paper_top1_loc": "41.24", "paper_gt_known": "50.33"}),
    "table3_delta": (
        "0.6",
        {"paper_pseudo_label_gt_known": "80.15", "paper_lchp_i_gt_known": "88.95", "paper_lchp_r_gt_known": "93.09"},
    ),
    "table4_tau": (
        "0.0",
        {"paper_selected": "5994.0", "paper_selected_gt_known": "84.01", "paper_lchp_r_gt_known": "failed"},
    ),
    "table5_backbone": ("vgg19_bn", {"paper_lchp_i_gt_known": "80.19", "paper_lchp_r_gt_known": "83.95"}),
    "table6_augmentation": ("scale+flip", {"paper_lchp_r_gt_known": "93.02"}),
}
"""One row of every table of the paper, as table.csv prints its numbers."""

SIZES = {
    "seeds",
    "search.trials",
    "base.dataset.train_per_class",
    "base.dataset.test_per_class",
    "base.dataset.size",
    "base.split.val_per_class",
    "base.view.resize",
    "base.view.crop",
    "base.pseudo_boxes.size",
    "base.pseudo_boxes.further_sizes",
    "base.initialization.epochs",
    "base.initialization.regressor_start",
    "base.initialization.batch_size",
    "base.initialization.attention_maps",
    "base.refinement.epochs",
    "base.refinement.batch_size",
}
"""What a study is shrunk by."""

SMALL = (
    "seeds=[0]",
    "initialization.batch_size=4",
    "initialization.attention_maps=2",
    "refinement.epochs=1",
    "refinement.batch_size=4",
)
SMALL_SYNTHETIC = (
    "dataset.train_per_class=3",
    "dataset.test_per_class=2",
    "dataset.size=40",
    "view.resize=40",
    "view.crop=32",
    "split.val_per_class=1",
    "initialization.batch_size=8",
    "refinement.batch_size=8",
)
SMALL_REAL = ("view.resize=80", "view.crop=76")

PRETRAINED = ("inception_v3", "resnet50", "vgg19_bn", "mobilenet_v2")
REAL = ("table1-imagenet", "table5-backbone", "birds-sources", "birds-tokens")
"""The studies that are trained with the networks that they name. What a study does with the scores of its trials does
not depend on the network.
"""

OWN = [name for name, method in METHODS.items() if not method.reference]
"""The methods of every trial."""

every_study = pytest.mark.parametrize("name", STUDIES)


def resolved(study: Study) -> str:
    """A study with every default filled in, for people and for comparing."""
    plain = {**study.identity(), "tables": [table.model_dump(mode="json") for table in study.tables]}
    text: str = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=120)
    return text


def test_shipped_studies_are_all_of_them_known_here() -> None:
    assert set(STUDIES) == set(PLANNED) == set(ROWS) == {file.stem for file in GOLDEN.iterdir()}


@every_study
def test_shipped_study_resolves_to_its_golden_text(name: str) -> None:
    golden = (GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")
    assert resolved(load_study(STUDIES[name])) == golden, "python -m tests.test_studies writes it anew"


@every_study
def test_shipped_study_begins_with_question_cost_and_expected(name: str) -> None:
    text = STUDIES[name].read_text(encoding="utf-8")
    header = text[: text.index(f"\nname: {name}\n")].splitlines()
    assert all(line.startswith("# ") for line in header)
    for word in ("Question", "Cost", "Expected"):
        assert [line for line in header if line.startswith(f"# {word}:") and line != f"# {word}:"], word
    assert header[0] == f"{SCHEMA_LINE}{SCHEMA.name}"
    assert header[1].startswith("# Question:")


@every_study
def test_shipped_study_of_one_seed_says_in_its_head_that_it_decides_no_claim(name: str) -> None:
    study = load_study(STUDIES[name])
    told = "\n# Seeds:    one, which decides none of the claims" in STUDIES[name].read_text(encoding="utf-8")
    assert told == (len(study.seeds) == 1 and bool(study.claims))


@every_study
def test_shipped_study_plan_without_data_counts_trials_and_initializations(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["study", "plan", str(STUDIES[name]), "--json", "--cache", str(tmp_path)]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["trials"], planned["initializations"]) == PLANNED[name]
    assert type(planned["trials"]) is type(planned["initializations"]) is int
    assert planned["hours"]["one GPU"] > 0


def test_shipped_studies_name_every_table_of_the_paper_with_its_rows() -> None:
    named = set()
    for path in STUDIES.values():
        study = load_study(path)
        for spec in table_specs(study):
            if spec.paper is None:
                continue
            paper = load_paper(spec.paper, PAPER)
            assert paper is not None, f"{path}: {spec.paper}"
            named.add(spec.paper)
            parameter = PARAMETERS[spec.paper]
            if parameter:
                rows = [config for config in study.grid if _has(config, spec.fixed)]
                assert {config_value(config, parameter) for config in rows} == set(paper.values), path
    assert named == {file.stem for file in PAPER.glob("*.csv")} == set(PARAMETERS)


def _has(config: Any, fixed: dict[str, Any]) -> bool:
    return all(config_value(config, key) == value for key, value in fixed.items())


@pytest.mark.parametrize(
    ("name", "delta", "epochs", "rate"),
    [
        ("table1-cub", 0.7, (40, 40), 2e-3),
        ("table2-tiny-imagenet", 0.8, (40, 40), 2e-3),
        ("table1-imagenet", 0.7, (10, 5), 2e-4),
    ],
)
def test_preset_has_the_numbers_of_the_papers_section_4_3(
    name: str, delta: float, epochs: tuple[int, int], rate: float
) -> None:
    config = load_study(STUDIES[name]).base
    first, second = config.initialization, config.refinement
    assert (config.delta, config.tau, config.alpha, config.beta) == (delta, 0.9, 20, 0.9)
    assert (first.epochs, second.epochs) == epochs
    assert (first.classifier_rate, first.classifier_decay, first.regressor_rate, second.rate) == (2e-3, 0.9, 2e-3, rate)
    assert first.batch_size == second.batch_size == 32
    assert first.attention_maps == 32
    assert first.regressor_start == 0
    for stage in (first, second):
        assert (stage.optimizer.momentum, stage.optimizer.weight_decay) == (0.9, 1e-5)
    assert (config.view.resize, config.view.crop, config.view.flip) == (512, 448, 0.5)
    assert config.augmentation == "scale+translation+flip"
    assert config.backbone == config.classifier == "inception_v3"
    assert config.weights.classifier == config.weights.regressor == "imagenet"
    assert config.split.val_per_class == 0


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two classes of each original dataset in its layout, three training images and a test image each."""
    folder = tmp_path_factory.mktemp("datasets")
    drawn = {"cub": draw_cub, "tiny-imagenet": draw_tiny_imagenet, "imagenet": draw_imagenet}
    return {kind: draw(folder / kind, train=3, test=1) for kind, draw in drawn.items()}


@dataclass(frozen=True)
class Place:
    """Where studies run: their store, tracking store and cache, and the folder in which torchvision finds weights."""

    folder: Path
    torch_home: Path


def put_weights(home: Path) -> None:
    """Write weights of every network of a study as if they had been downloaded.

    They are random, their batch-norm statistics those of noise: without statistics the answers of a network of fifty
    layers overflow until it has been trained for some steps.
    """
    (home / "hub/checkpoints").mkdir(parents=True)
    for name in PRETRAINED:
        weights = imagenet_weights(name)
        assert weights is not None
        trunk = make_regressor(name, "corners", seed=0).trunk
        for layer in trunk.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None
        with torch.no_grad():
            trunk(torch.randn(4, 3, 80, 80, generator=torch.Generator().manual_seed(0)))
        torch.save(trunk.state_dict(), home / "hub/checkpoints" / weights.url.rpartition("/")[2])
    url = find_transformer("dino_vits16").url
    assert url is not None
    torch.save(make_transformer("dino_vits16", 0).state_dict(), home / "hub/checkpoints" / url.rpartition("/")[2])


def place_in(folder: Path) -> Place:
    put_empty_store(folder)
    put_weights(folder / "torch")
    return Place(folder, folder / "torch")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One store for all studies, so that what several of them train is trained once. Its checkpoints, gigabytes of
    them, do not outlive the tests.
    """
    made = place_in(tmp_path_factory.mktemp("studies"))
    yield made
    shutil.rmtree(made.folder / "out/.store", ignore_errors=True)
    shutil.rmtree(made.torch_home)


@pytest.fixture(scope="module")
def stand_ins() -> dict[str, Network]:
    """A few convolutions under the name of every pretrained network."""
    return {name: replace(NETWORKS["small_cnn"], imagenet=NETWORKS[name].imagenet) for name in PRETRAINED}


@pytest.fixture(scope="module")
def light_place(tmp_path_factory: pytest.TempPathFactory, stand_ins: dict[str, Network]) -> Place:
    """One for the studies whose networks are stand-ins: stages of one name are of two networks."""
    with pytest.MonkeyPatch.context() as patched:
        for name, network in stand_ins.items():
            patched.setitem(NETWORKS, name, network)
        return place_in(tmp_path_factory.mktemp("light"))


def options(shipped: Study) -> tuple[str, ...]:
    """The ``--set`` options that shrink a study."""
    synthetic = shipped.base.dataset.kind == "synthetic"
    late = shipped.base.initialization.regressor_start > 0
    first = ("initialization.epochs=2", "initialization.regressor_start=1") if late else ("initialization.epochs=1",)
    searching = ("search.trials=2",) if shipped.search else ()
    choosing = ("split.val_per_class=1",) if shipped.base.split.val_per_class else ()
    frozen = ("pseudo_boxes.size=96",) if any(config.pseudo_boxes.frozen for config in shipped.grid) else ()
    further = ("pseudo_boxes.further_sizes=[64]",) if shipped.base.pseudo_boxes.further_sizes else ()
    # Two thirds of the four images that are left are two.
    folded = ("initialization.batch_size=2",) if any(c.confidence.out_of_fold for c in shipped.grid) else ()
    size = SMALL_SYNTHETIC if synthetic else SMALL_REAL
    # It varies nothing but seeds, and is looked at in a browser.
    several = ("seeds=[0, 1]",) if shipped.name == "quickstart" else ()
    return (*SMALL, *first, *searching, *choosing, *frozen, *further, *size, *folded, *several)


def shrunk(name: str, datasets: dict[str, Path]) -> Study:
    """A shipped study, smaller by its sizes alone."""
    shipped = load_study(STUDIES[name])
    study = load_study(STUDIES[name], options(shipped), datasets.get(shipped.base.dataset.kind))
    changed = {line.split(": ")[0] for line in differences(shipped.identity(), study.identity())}
    assert changed <= SIZES
    assert (study.varied, study.tables) == (shipped.varied, shipped.tables)
    return study


# tests/test_quickstart.py runs that study, and looks at it in a browser.
@pytest.mark.parametrize("name", [name for name in STUDIES if name != "quickstart"])
def test_shipped_study_shrunk_runs_to_its_tables(
    name: str,
    datasets: dict[str, Path],
    request: pytest.FixtureRequest,
    stand_ins: dict[str, Network],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place: Place = request.getfixturevalue("place" if name in REAL else "light_place")
    if name not in REAL:
        for network, record in stand_ins.items():
            monkeypatch.setitem(NETWORKS, network, record)
    monkeypatch.setenv("TORCH_HOME", str(place.torch_home))
    monkeypatch.setattr("lchp.study.run.ray_tune.train", small.train_serially)
    study = shrunk(name, datasets)
    said: list[str] = []
    assert small.run(study, place.folder, said) == 0
    assert_complete(study, place.folder)
    if study.search:
        best = json.loads((place.folder / f"out/{name}/best.json").read_text(encoding="utf-8"))
        assert best["objective"] == "lchp_r/val/gt_known"
        assert any(line.startswith(f"best by lchp_r/val/gt_known: {best['name']} ") for line in said)


def assert_complete(study: Study, folder: Path) -> None:
    """The study's folder holds every number and table that it promises, and MLflow every run."""
    frame = pd.read_csv(folder / f"out/{study.name}/results.csv")
    varied = list(study.varied)
    assert list(frame.columns) == ["study", "run_id", "seed", *varied, "method", "split", "metric", "value"]
    assert set(frame["study"]) == {study.name}
    assert set(frame["split"]) == ({"val", "test"} if study.base.split.val_per_class else {"test"})
    shares = frame["metric"].map(lambda metric: METRICS[metric].share)
    assert frame.loc[shares, "value"].between(0, 1).all()
    assert frame["value"].notna().all()
    # An empty cell is a value that is none.
    given = frame[["seed", *varied]].drop_duplicates().astype(object)
    found = {tuple(row) for row in given.where(given.notna(), None).itertuples(index=False)}
    if study.search:
        assert len(found) == study.search.trials
    else:
        # A list is written as its text.
        values = [(trial.config.seed, *trial.varied.values()) for trial in study.trials]
        assert found == {tuple(str(one) if isinstance(one, list) else one for one in row) for row in values}
    measured = [(name, metric) for name in OWN for metric in METRICS]
    # A reference has no classifier.
    measured += [(name, metric) for name in study.references for metric in METRICS if not metric.startswith("top")]
    for _, trial in frame.groupby("run_id"):
        pairs = set(zip(trial["method"], trial["metric"], trial["split"], strict=True))
        assert pairs == {(*one, split) for one in measured for split in set(frame["split"])}
    assert frame["run_id"].nunique() == len(found)
    for spec in table_specs(study):
        assert_table(folder / f"out/{study.name}", spec.name, ROWS[study.name][spec.name], spec.paper)
    assert_tracked(study, folder, set(frame["run_id"]))


def assert_table(folder: Path, name: str, rows: int, paper: str | None) -> None:
    """A table has its rows in every format, and the paper's numbers beside ours."""
    table = pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)
    markdown = (folder / f"{name}.md").read_text(encoding="utf-8").splitlines()
    latex = (folder / f"{name}.tex").read_text(encoding="utf-8").splitlines()
    assert len(table) == rows
    assert len([line for line in markdown if line.startswith("| ") and "---" not in line]) == 1 + rows
    assert len([line for line in latex if line.endswith(r"\\")]) == 1 + rows
    ours = [column for column in table.columns if column.endswith("gt_known_mean")]
    assert ours
    assert (table[ours] != "").any(axis=1).sum() == (len(OWN) if paper and len(ours) == 1 else rows)
    if paper:
        label, numbers = PRINTED[paper]
        row = table[table.iloc[:, 0] == label].iloc[0]
        assert {key: row[key] for key in numbers} == numbers


def assert_tracked(study: Study, folder: Path, run_ids: set[str]) -> None:
    """MLflow holds one finished run per trial under one finished parent."""
    mlflow_client = client(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = mlflow_client.get_experiment_by_name(study.name)
    assert experiment is not None
    runs = mlflow_client.search_runs([experiment.experiment_id])
    parents = [one for one in runs if "mlflow.parentRunId" not in one.data.tags]
    below = [one for one in runs if "mlflow.parentRunId" in one.data.tags]
    nested = [one for one in below if one.data.tags["lchp.kind"] == "trial"]
    assert {one.info.status for one in runs} == {"FINISHED"}
    assert len(parents) == 1
    assert {one.data.tags["mlflow.parentRunId"] for one in below} == {parents[0].info.run_id}
    assert len(nested) == len(run_ids)
    assert {one.info.run_id for one in nested} == run_ids


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for shipped_name, shipped_path in STUDIES.items():
        (GOLDEN / f"{shipped_name}.yaml").write_text(resolved(load_study(shipped_path)), encoding="utf-8")
