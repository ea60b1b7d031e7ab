from __future__ import annotations

from pathlib import Path

import pytest

from lchp.data.config import FilesDataset
from lchp.data.kinds import Counts
from lchp.study.plan.cost import count_images
from lchp.study.plan.trials import Plan, as_text, in_training_order, initialization_name, plan
from lchp.study.spec.load import load_study
from tests.data.layouts import draw_cub

PAPER_CUB = """
name: paper-cub
preset: cub
vary:
- delta: [0.5, 0.6, 0.7, 0.8]
- tau: [0, 0.5, 0.6, 0.7, 0.8, 0.9]
- backbone: [vgg19_bn, resnet50, inception_v3]
- augmentation: [scale, translation, flip, scale+translation, scale+flip, translation+flip, scale+translation+flip]
"""


def planned(folder: Path, text: str, *sets: str, images: Counts | None = None) -> Plan:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    study = load_study(path, sets)
    return plan(study, lambda dataset: images) if images else plan(study)


def test_plan_paper_cub_has_seventeen_trials_and_six_initializations(tmp_path: Path) -> None:
    found = planned(tmp_path, PAPER_CUB)
    assert (found.study.count, len(found.study.trials), found.initializations) == (17, 17, 6)
    three = planned(tmp_path, PAPER_CUB, "seeds=[0, 1, 2]")
    assert (three.study.count, three.initializations) == (51, 18)


def test_plan_names_say_what_varies_and_are_unique(tmp_path: Path) -> None:
    found = planned(tmp_path, "name: s\nvary: {delta: [0.5, 0.7], augmentation: [none, flip]}\nseeds: [0, 4]\n")
    names = [trial.name for trial in found.study.trials]
    assert names[:3] == [
        "delta=0.5 augmentation=none seed=0",
        "delta=0.5 augmentation=none seed=4",
        "delta=0.5 augmentation=flip seed=0",
    ]
    assert len(set(names)) == 8
    assert found.study.trials[1].config.seed == 4
    assert found.study.trials[2].varied == {"delta": 0.5, "augmentation": "flip"}


def test_plan_weight_files_with_different_paths_are_different_trials(tmp_path: Path) -> None:
    text = "name: s\nvary: {weights.classifier: [{file: a.pth}, {file: b.pth}, {file: a.pth}]}\n"
    assert planned(tmp_path, text).study.count == 2


@pytest.mark.parametrize(
    ("changed", "factor"),
    [
        (("initialization.epochs=80", "refinement.epochs=80"), 2.0),
        (("view.crop=224", "view.resize=256"), 0.25),
        (("seeds=[0, 1, 2]",), 3.0),
    ],
)
def test_plan_cost_scales_with_epochs_area_and_seeds(tmp_path: Path, changed: tuple[str, ...], factor: float) -> None:
    base = planned(tmp_path, "name: s\npreset: cub\n").cost
    other = planned(tmp_path, "name: s\npreset: cub\n", *changed).cost
    assert base is not None
    assert other is not None
    assert other.initialization == pytest.approx(factor * base.initialization)
    assert other.refinement == pytest.approx(factor * base.refinement)


def test_plan_cost_scales_with_images_and_networks(tmp_path: Path) -> None:
    small = planned(tmp_path, "name: s\npreset: cub\n", images=Counts(100, 100, 10, "counted")).cost
    large = planned(tmp_path, "name: s\npreset: cub\n", images=Counts(300, 300, 10, "counted")).cost
    heavy = planned(tmp_path, "name: s\npreset: cub\nbackbone: vgg19_bn\n", images=Counts(100, 100, 10, "counted")).cost
    assert small is not None
    assert large is not None
    assert heavy is not None
    assert large.total == pytest.approx(3 * small.total)
    assert heavy.total > 2 * small.total


def test_plan_cost_of_one_paper_step_agrees_with_the_method_notes(tmp_path: Path) -> None:
    cost = planned(tmp_path, "name: s\npreset: cub\n", images=Counts(1, 0, 1, "one")).cost
    assert cost is not None
    assert cost.initialization / 40 == pytest.approx(253.7, rel=0.01)
    assert cost.refinement / 40 == pytest.approx(127.2, rel=0.01)


def test_plan_cost_leaves_out_dropped_views_where_their_share_is_known(tmp_path: Path) -> None:
    images, texts = Counts(1, 0, 1, "one"), ("", "confidence: {keep: 0.25}\n")
    costs = [
        [
            planned(tmp_path, f"name: s\npreset: cub\n{text}refinement: {{rejected: {word}}}\n", images=images).cost
            for text in texts
        ]
        for word in ("mask", "drop")
    ]
    (masked, masked_share), (dropped, dropped_share) = [[cost.refinement for cost in row if cost] for row in costs]
    assert masked == masked_share == dropped
    # Three passes of a regressor of 26.3 GFLOP for a quarter of the views, in 40 epochs.
    assert masked - dropped_share == pytest.approx(0.75 * 3 * 26.3 * 40)


def test_plan_cost_charges_a_shared_initialization_once(tmp_path: Path) -> None:
    one = planned(tmp_path, "name: s\npreset: cub\n").cost
    three = planned(tmp_path, "name: s\npreset: cub\nvary: {tau: [0, 0.5, 0.9]}\n").cost
    assert one is not None
    assert three is not None
    assert three.initialization == one.initialization
    assert three.unshared == pytest.approx(3 * one.unshared)


def test_plan_cost_of_a_frozen_source_is_counted_once_and_spares_the_mask_pass(tmp_path: Path) -> None:
    images = Counts(100, 50, 10, "counted")
    text = "name: s\npreset: cub\npseudo_boxes: {network: mobilenet_v2, size: 224}\n"
    costs = []
    for lines in (
        "",
        "vary: {pseudo_boxes.source: [ddt]}\n",
        "vary: {pseudo_boxes.source: [ddt], delta: [0.6, 0.7]}\n",
    ):
        cost = planned(tmp_path, text + lines, images=images).cost
        assert cost is not None
        costs.append(cost.initialization)
    mask, one, two = costs
    # MobileNetV2 sees the training images twice and the test images once, at a quarter of the area of 448 px.
    kept = (2 * 100 + 50) * 4.43 / 4
    assert two - kept == pytest.approx(2 * (one - kept))
    # 40 epochs of 100 images without the momentum network's second look, by InceptionV3.
    assert mask - (one - kept) == pytest.approx(40 * 100 * 21.9)


def test_plan_cost_of_a_frozen_source_counts_mirror_images_where_it_makes_boxes_alone(tmp_path: Path) -> None:
    images = Counts(100, 50, 10, "counted")
    text = "name: s\npreset: cub\npseudo_boxes: {source: ddt, network: mobilenet_v2, size: 224, mirror: %s}\n"
    plain, mirrored = (planned(tmp_path, text % word, images=images).cost for word in ("false", "true"))
    assert plain is not None
    assert mirrored is not None
    # MobileNetV2 sees the mirror images of all images, too; the masks of Eq. 1 have none.
    assert mirrored.initialization - plain.initialization == pytest.approx((100 + 50) * 4.43 / 4)


def test_plan_counts_out_of_fold_classifiers_once_and_what_they_judge(tmp_path: Path) -> None:
    images = Counts(110, 50, 10, "counted")
    text = "name: s\npreset: cub\nsplit: {val_per_class: 1}\n"
    plain = planned(tmp_path, text, images=images)
    asked = planned(tmp_path, text + "confidence: {score: out_of_fold}\nvary: {tau: [0.5, 0.9]}\n", images=images)
    assert plain.cost is not None
    assert asked.cost is not None
    assert (plain.out_of_fold, asked.out_of_fold, asked.as_dict()["out_of_fold"]) == (0, 1, 1)
    # Three classifiers of two thirds of 100 images, 40 epochs of 6 + 2 passes of InceptionV3; 10 val images by each.
    assert asked.cost.out_of_fold == pytest.approx((2 * 100 * 40 * 8 + 30) * 21.9)
    # Where one classifier judges a box of theirs, three do.
    assert asked.cost.refinement == pytest.approx(2 * (plain.cost.refinement + 2 * 40 * 100 * 21.9))
    assert asked.cost.initialization == plain.cost.initialization
    assert asked.cost.unshared - asked.cost.total == pytest.approx(plain.cost.initialization + asked.cost.out_of_fold)
    assert "1 distinct sets of out-of-fold classifiers" in as_text(asked).splitlines()
    assert "out-of-fold classifiers 1.4" in as_text(asked)
    assert "out-of-fold" not in as_text(plain)


def test_plan_counts_out_of_fold_classifiers_of_every_recipe_and_of_a_search_at_most_so_many(tmp_path: Path) -> None:
    text = "name: s\npreset: quickstart\nconfidence: {score: out_of_fold}\n"
    assert planned(tmp_path, text + "vary: {delta: [0.3, 0.4], confidence.folds: [2, 3]}\n").out_of_fold == 4
    search = "search: {trials: 5, space: {%s}}\n"
    assert planned(tmp_path, text + search % "delta: {low: 0.3, high: 0.5}").out_of_fold == 5
    assert planned(tmp_path, text + search % "tau: {low: 0.3, high: 0.5}").out_of_fold == 1


def test_plan_of_several_datasets_counts_the_images_of_each(tmp_path: Path) -> None:
    text = "name: s\npreset: quickstart\n"
    few, many = (planned(tmp_path, text, f"dataset.train_per_class={count}").cost for count in (10, 1000))
    both = planned(tmp_path, text + "vary: {dataset.train_per_class: [10, 1000]}\n")
    assert few is not None
    assert many is not None
    assert both.cost is not None
    assert both.cost.total == pytest.approx(few.total + many.total)
    assert [images["train"] for images in both.as_dict()["images"]] == [80, 8000]
    assert [line for line in as_text(both).splitlines() if line.startswith("images: ")] == [
        "images: 80 train, 504 test (as drawn)",
        "images: 8000 train, 504 test (as drawn)",
    ]


def test_count_images_prefers_those_at_hand_to_the_published(tmp_path: Path) -> None:
    config = FilesDataset(kind="cub", path=draw_cub(tmp_path / "birds"))
    counts = count_images(config, tmp_path / "cache")
    assert counts is not None
    assert (counts.train, counts.test, counts.classes) == (8, 6, 2)
    assert count_images(config.model_copy(update={"path": tmp_path / "nowhere"}), tmp_path) == config.published


def test_plan_unknown_image_counts_give_no_cost(tmp_path: Path) -> None:
    found = planned(tmp_path, "name: s\ndataset: table\n")
    assert found.cost is None
    assert "unknown until the data is at hand" in as_text(found)
    assert found.as_dict()["hours"] is None


@pytest.mark.parametrize(("images", "unit"), [(6_000, " h on one GPU"), (100, " min on one GPU"), (1, " s on one GPU")])
def test_plan_cost_is_told_in_the_unit_that_fits(tmp_path: Path, images: int, unit: str) -> None:
    assert unit in as_text(planned(tmp_path, PAPER_CUB, images=Counts(images, images, 1, "as counted")))


def test_plan_search_with_seeds_counts_trials_and_names_suggestions(tmp_path: Path) -> None:
    text = "name: s\nseeds: [0, 1]\nsearch: {trials: 7, space: {tau: {low: 0, high: 1}}}\n"
    found = planned(tmp_path, text)
    assert found.initializations == 2
    assert "14 trials (7 suggestions with 2 seeds each), at most 2 distinct initializations" in as_text(found)
    assert as_text(found).endswith("chooses by GT-Known of LCHP-R on val (with true boxes)")
    assert planned(tmp_path, text.replace("tau", "delta").replace("low: 0", "low: 0.1")).initializations == 14


def test_plan_search_says_how_it_suggests_and_when_it_ends(tmp_path: Path) -> None:
    more = "group: 3, cost: gflop, warm_start: [before], stop: {hours: 2, gpu_hours: 0.5}"
    text = f"name: s\nsearch: {{trials: 7, {more}, space: {{tau: [0.1, 0.2], delta: {{low: 0.1, high: 0.9}}}}}}\n"
    assert as_text(planned(tmp_path, text)).splitlines()[-6:] == [
        '  delta: {"low": 0.1, "high": 0.9, "log": false}',
        "chooses by GT-Known of LCHP-R on val (with true boxes)",
        "two objectives: ends in a front over cost, GFLOP for each training image",
        "refinements in groups of 3 over one initialization",
        "begins with finished trials of before",
        "stops earlier by hours = 2, gpu_hours = 0.5",
    ]


def test_plan_search_counts_its_trials_and_at_most_as_many_initializations(tmp_path: Path) -> None:
    text = "name: s\nsearch: {trials: 7, space: {tau: {low: 0, high: 1}, augmentation: [none, flip]}}\n"
    found = planned(tmp_path, text)
    assert (found.study.count, found.initializations, found.study.trials) == (7, 1, ())
    assert planned(tmp_path, text.replace("tau:", "delta:")).initializations == 7


def test_in_training_order_distinct_initializations_come_first(tmp_path: Path) -> None:
    trials = planned(tmp_path, "name: s\nvary: {delta: [0.5, 0.7], tau: [0.5, 0.9]}\n").study.trials
    ordered = in_training_order(trials)
    assert [(t.config.delta, t.config.tau) for t in ordered] == [(0.5, 0.5), (0.7, 0.5), (0.5, 0.9), (0.7, 0.9)]
    assert initialization_name(ordered[0].config) == initialization_name(ordered[2].config)


def test_in_training_order_shorter_ones_come_before_those_that_go_on_from_them(tmp_path: Path) -> None:
    text = "name: s\nvary: {initialization.epochs: [8, 2, 4], tau: [0.5, 0.9]}\n"
    ordered = in_training_order(planned(tmp_path, text).study.trials)
    assert [(t.config.initialization.epochs, t.config.tau) for t in ordered] == [
        (2, 0.5), (4, 0.5), (8, 0.5), (2, 0.9), (4, 0.9), (8, 0.9)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "constant", "cosine"), [("initialization", 8 + 3 * 40, 14 + 3 * 40), ("refinement", 40 + 8, 40 + 14)]
)
def test_plan_counts_the_epochs_of_several_lengths_once(tmp_path: Path, stage: str, constant: int, cosine: int) -> None:
    """Three lengths of one stage; of the other, 40 epochs for each initialization."""
    images = Counts(100, 50, 10, "counted")
    one = planned(tmp_path, "name: s\npreset: cub\n", images=images).cost
    found = planned(tmp_path, f"name: s\npreset: cub\nvary: {{{stage}.epochs: [2, 4, 8]}}\n", images=images)
    ahead = planned(
        tmp_path, f"name: s\npreset: cub\n{stage}: {{schedule: cosine}}\nvary: {{{stage}.epochs: [2, 4, 8]}}\n",
        images=images,
    )  # fmt: skip
    assert one is not None
    per_epoch = {"initialization": one.initialization / 40, "refinement": one.refinement / 40}
    other = "refinement" if stage == "initialization" else "initialization"
    others = 3 if stage == "initialization" else 1
    for plan_, epochs, continued in ((found, constant, 2), (ahead, cosine, 0)):
        assert plan_.cost is not None
        expected = per_epoch[stage] * (epochs - 40 * others) + per_epoch[other] * 40 * others
        assert plan_.cost.initialization + plan_.cost.refinement == pytest.approx(expected)
        assert plan_.continued == continued
    assert "2 stages go on from where a shorter one ends" in as_text(found)
