"""Grids and search spaces: what they may name, how large they may be, which combinations they allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from lchp.errors import Refusal
from lchp.study.spec.load import load_study
from lchp.study.spec.search import PerChoice, Range, Search

SPACE = "name: s\nsearch:\n  trials: 4\n  space:\n"


def refusal(folder: Path, text: str) -> str:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Refusal) as caught:
        load_study(path)
    return str(caught.value).replace(f"{folder}/", "")


def search(folder: Path, text: str) -> Search:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    found = load_study(path).search
    assert found is not None
    return found


def tenths(count: int) -> str:
    return f"[{', '.join(str(index / count) for index in range(count))}]"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            "  resources.cpus: [1, 2]",
            "study.yaml:3: vary.resources.cpus: is not varied: all trials of a study share it",
        ),
        ("  preset: [cub, imagenet]", "study.yaml:3: vary.preset: is not varied: all trials of a study share it"),
        ("  name: [a, b]", "study.yaml:3: vary.name: is not varied"),
        ("  tables: [a, b]", "study.yaml:3: vary.tables: is not varied"),
        ("  seeds: [[0], [1]]", "study.yaml:3: vary.seeds: is not varied: list the seeds under `seeds`"),
        ("  fo.bar: [1]", "study.yaml:3: fo = "),
        ("  '': [1]", "study.yaml:3: vary.: is no key: write it as `refinement.rate`"),
        ("  a..b: [1]", "study.yaml:3: vary.a..b: is no key"),
        (
            "  refinement: [{rate: 0.1}]\n  refinement.rate: [0.1]",
            "study.yaml:4: vary.refinement.rate: lies in `refinement`, which varies, too: keep one of the two",
        ),
    ],
)
def test_expand_key_that_no_trial_has_alone_is_refused_with_its_line(tmp_path: Path, keys: str, message: str) -> None:
    assert message in refusal(tmp_path, f"name: s\nvary:\n{keys}\n")


def test_expand_eight_grids_are_capped_in_total_before_they_are_expanded(tmp_path: Path) -> None:
    grids = "".join(f"- {{delta: {tenths(100)}, tau: {tenths(100)}}}\n" for _ in range(8))
    message = refusal(tmp_path, f"name: s\nvary:\n{grids}")
    assert message == "study.yaml:2: vary: makes 80000 configurations: plan at most 10000"


def test_expand_seeds_count_as_trials(tmp_path: Path) -> None:
    seeds = f"seeds: [{', '.join(map(str, range(200)))}]"
    message = refusal(tmp_path, f"name: s\nvary: {{delta: {tenths(60)}}}\n{seeds}\n")
    assert message.endswith("vary: makes 60 configurations, 12000 trials with 200 seeds: plan at most 10000")


def test_expand_value_that_is_listed_twice_is_one_trial(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("name: s\nvary: {delta: [0.5, 0.5, 5e-1], refinement.alpha: [1, 1.0]}\n", encoding="utf-8")
    assert len(load_study(path).trials) == 1


def test_searched_choices_are_unique_after_their_field_has_read_them(tmp_path: Path) -> None:
    space = search(tmp_path, f"{SPACE}    refinement.alpha: [1, 1.0, 2]\n    augmentation: [flip, [flip]]\n").space
    assert space == {"refinement.alpha": (1.0, 2.0), "augmentation": ("flip",)}


def test_searched_combination_that_is_illegal_is_refused_with_both_keys_and_values(tmp_path: Path) -> None:
    text = f"{SPACE}    initialization.epochs: [1, 3]\n    initialization.regressor_start: [0, 2]\n"
    assert refusal(tmp_path, text) == (
        "study.yaml:6: initialization.regressor_start 2 leaves the regressor no epoch of initialization.epochs 1: make "
        "regressor_start smaller, or epochs larger (the search may suggest initialization.epochs = 1, "
        "initialization.regressor_start = 2 together)"
    )


def test_searched_ends_of_ranges_are_combined(tmp_path: Path) -> None:
    text = (
        f"{SPACE}    initialization.epochs: {{low: 1, high: 9}}\n"
        "    initialization.regressor_start: {low: 0, high: 4}\n"
    )
    assert "initialization.epochs = 1, initialization.regressor_start = 4 together" in refusal(tmp_path, text)


def test_searched_large_space_is_checked_by_every_two_keys(tmp_path: Path) -> None:
    text = (
        f"{SPACE}    tau: {tenths(20)}\n    delta: {tenths(20)}\n    beta: {tenths(20)}\n"
        "    backbone: [inception_v3, resnet50]\n    view.crop: [448, 64]\n"
    )
    assert "suggest backbone = inception_v3, view.crop = 64 together" in refusal(tmp_path, text)


def test_searched_value_that_only_the_base_contradicts_is_allowed(tmp_path: Path) -> None:
    text = SPACE.replace("search:", "preset: quickstart\nsearch:") + (
        "    initialization.epochs: {low: 1, high: 2}\n    initialization.regressor_start: [0]\n"
    )
    assert search(tmp_path, text).space["initialization.epochs"] == Range(low=1, high=2)


def test_searched_many_illegal_combinations_are_counted(tmp_path: Path) -> None:
    text = f"{SPACE}    initialization.epochs: [1, 2, 3, 4]\n    initialization.regressor_start: [4, 5, 6, 7]\n"
    lines = refusal(tmp_path, text).splitlines()
    assert (len(lines), lines[-1]) == (6, "... and 11 more")


@pytest.mark.parametrize("key", ["resources.cpus", "preset", "seed"])
def test_searched_key_that_is_not_a_trials_is_refused(tmp_path: Path, key: str) -> None:
    assert f"study.yaml:5: search.space.{key}: is not varied" in refusal(tmp_path, f"{SPACE}    {key}: [1, 2]\n")


@pytest.mark.parametrize("key", ["dataset", "dataset.size", "split.val_per_class", "split"])
def test_searched_key_that_changes_the_val_images_is_refused(tmp_path: Path, key: str) -> None:
    message = refusal(tmp_path, f"{SPACE}    {key}: [1, 2]\n")
    assert f"study.yaml:5: search.space.{key}: a search compares scores on the same val images" in message


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("tau: 0.5\nconfidence: {keep: 0.5}", ":3"),
        ("confidence: {keep: 0.5}\nvary: {tau: [0.5, 0.9]}", ":4"),
        ("vary: {tau: [0.5, 0.9], confidence.keep: [null, 0.5]}", ":3"),
        ("split: {val_per_class: 1}\nconfidence: {keep: 0.5}\nsearch: {trials: 2, space: {tau: [0.5, 0.9]}}", ":5"),
    ],
)
def test_load_study_tau_beside_a_share_to_keep_is_refused(tmp_path: Path, text: str, place: str) -> None:
    said = refusal(tmp_path, f"name: s\npreset: quickstart\n{text}\n")
    assert said.startswith(f"study.yaml{place}: tau: is not read where confidence.keep")


@pytest.mark.parametrize(
    "text",
    [
        "tau: 0.5\nvary: {confidence.keep: [null, 0.5]}",
        "vary: [{tau: [0.5, 0.9]}, {confidence.keep: [0.4, 0.6]}]",
        "confidence: {keep: 0.5}\nvary: {confidence.score: [max_softmax, contrast]}",
    ],
)
def test_load_study_tau_in_one_trial_and_a_share_in_another_is_taken(tmp_path: Path, text: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"name: s\npreset: quickstart\n{text}\n", encoding="utf-8")
    assert len(load_study(path).grid) >= 2


PER = SPACE + "    augmentation: [none, [scale, flip]]\n    tau: {low: 0, high: 1}\n    alpha: "


def test_searched_values_per_choice_are_read_in_their_one_spelling(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    per = "{per: augmentation, values: {none: [1, 1.0], scale+flip: {low: 1, high: 3}}}\n"
    path.write_text(PER.replace("[scale, flip]", "scale+flip") + per, encoding="utf-8")
    found = load_study(path).search
    assert found is not None
    assert found.space["alpha"] == PerChoice(
        per="augmentation", values={"none": (1.0,), "scale+flip": Range(low=1.0, high=3.0)}
    )
    assert found.size is None


@pytest.mark.parametrize(
    ("per", "message"),
    [
        (
            "{per: tau, values: {none: [1]}}",
            "study.yaml:7: search.space.alpha.per = tau: is no key of `search.space` with a list of choices",
        ),
        (
            "\n      per: augmentation\n      values:\n        flip: [1]",
            "study.yaml:10: search.space.alpha.values.flip: is no choice of augmentation: choose of none, ",
        ),
        (
            "\n      per: augmentation\n      values:\n        none: [1, -1]",
            "study.yaml:10: alpha = -1: must be more than 0",
        ),
        ("{per: augmentation, values: {none: {low: 2, high: 1}}}", "low 2 is not below high 1"),
        ("{per: augmentation}", "study.yaml:7: search.space.alpha.values: is missing: add it"),
        (
            "[1]\n    confidence.score: [max_softmax, contrast]\n    confidence.shrink: {per: confidence.score, "
            "values: {max_softmax: [0.5, 0.6]}}",
            "study.yaml:9: search.space.confidence.shrink.values.max_softmax: is not read with confidence.score = max",
        ),
        (
            "{per: augmentation, values: {none: [1, 2]}}\n  first: [{alpha: 1}]",
            "study.yaml:8: search.first.alpha: depends on augmentation: name that, too",
        ),
        (
            "{per: augmentation, values: {none: [1, 2]}}\n  first: [{alpha: 3, augmentation: none}]",
            "study.yaml:8: search.first.alpha = 3.0: is not in the space: choose of 1.0, 2.0",
        ),
        (
            "{per: augmentation, values: {none: [1, 2]}}\n  first: [{alpha: 1, augmentation: scale+flip}]",
            "search.first.alpha: is not searched with augmentation = scale+flip: leave it out",
        ),
    ],
)
def test_searched_values_per_choice_that_are_wrong_are_refused(tmp_path: Path, per: str, message: str) -> None:
    assert message in refusal(tmp_path, f"{PER}{per}\n")


@pytest.mark.parametrize(
    ("vary", "key", "reason"),
    [
        (
            "{pseudo_boxes.source: [mask, ddt], pseudo_boxes.threshold: [0.2, 0.4]}",
            "pseudo_boxes.threshold",
            "pseudo_boxes.source = mask",
        ),
        ("{confidence.shrink: [0.5, 0.7]}", "confidence.shrink", "confidence.score = max_softmax"),
        ("{refinement.average_momentum: [0.9, 0.99]}", "refinement.average_momentum", "refinement.report = last"),
        (
            "{initialization.augmented_share: [1.0, 0.5]}",
            "initialization.augmented_share",
            "initialization.augmentation = none",
        ),
        (
            "{augmentation: [none, flip], refinement.augmented_share: [1.0, 0.5]}",
            "refinement.augmented_share",
            "augmentation = none",
        ),
        ("{compute.maps_precision: [bf16, fp32]}", "compute.maps_precision", "compute.precision = fp32"),
    ],
)
def test_vary_of_what_nothing_reads_is_refused(tmp_path: Path, vary: str, key: str, reason: str) -> None:
    said = refusal(tmp_path, f"name: s\npreset: quickstart\nvary: {vary}\n")
    assert said.startswith(f"study.yaml:3: vary.{key}: is not read with {reason}: vary it in a grid of its own")
    assert said.count("is not read with") == 1


def test_vary_of_what_some_grid_alone_reads_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    grids = "[{pseudo_boxes.source: [mask]}, {pseudo_boxes.source: [ddt], pseudo_boxes.threshold: [0.2, 0.4]}]"
    path.write_text(f"name: s\npreset: quickstart\nvary: {grids}\n", encoding="utf-8")
    assert len(load_study(path).grid) == 3
