from __future__ import annotations

from typing import Any

import pytest

from lchp.data.fingerprint import fingerprint
from lchp.training.box_config import READ, PseudoBoxConfig
from lchp.training.config import TrialConfig
from lchp.training.identity import (
    ADDED,
    Added,
    initialization_key,
    normal_form,
    out_of_fold_key,
    reference_key,
    stored_config,
    trial_key,
    with_digests,
)

from .added import DEFAULT, added_field
from .tiny import tiny

DIGESTS = {"images": "i", "boxes": "b", "classifier": None, "regressor": None}
# A valid other value of every key of a trial.
OTHER: dict[str, Any] = {
    "dataset": {"kind": "synthetic", "train_per_class": 7, "test_per_class": 2, "size": 40},
    "seed": 3,
    "delta": 0.6,
    "tau": 0.5,
    "alpha": 2.0,
    "beta": 0.5,
    "augmentation": "flip",
    "backbone": "mobilenet_v2",
    "classifier": "resnet50",
    "box_format": "centre_size",
    "regressor": {"head": "profiles"},
    "classes_from": "classifier",
    "weights": {"regressor": "classifier"},
    "split": {"seed": 1},
    "view": {"flip": 0.0},
    "pseudo_boxes": {"maps": "attention"},
    "confidence": {"score": "contrast"},
    "initialization": {"bap_scale": 11.0},
    "refinement": {"rate": 0.1},
    "evaluation": {"every": 2},
    "compute": {"cpu_threads": 2},
}
REFINEMENT_ONLY = {"tau", "augmentation", "confidence", "refinement"}


def test_keys_with_another_value_are_all_of_them() -> None:
    assert OTHER.keys() == TrialConfig.model_fields.keys()


@pytest.mark.parametrize("name", sorted(OTHER))
def test_every_key_makes_another_trial_and_all_but_four_another_initialization(name: str) -> None:
    one, two = tiny(), tiny(**{name: OTHER[name]})
    assert fingerprint(trial_key(one)) != fingerprint(trial_key(two))
    same = fingerprint(initialization_key(one)) == fingerprint(initialization_key(two))
    assert same == (name in REFINEMENT_ONLY)


def test_initialization_key_drops_exactly_what_refinement_alone_reads() -> None:
    config = tiny(confidence={"keep": 0.5})
    assert trial_key(config).keys() - initialization_key(config).keys() == REFINEMENT_ONLY


def test_trial_key_of_defaults_says_nothing_of_confidence_and_classes() -> None:
    assert not trial_key(tiny()).keys() & {"confidence", "classes_from"}
    changed = trial_key(tiny(confidence={"score": "contrast"}, classes_from="classifier"))
    assert (changed["confidence"], changed["classes_from"]) == ({"score": "contrast"}, "classifier")


# A valid other value of every field of pseudo_boxes that some sources do not read.
OTHER_SOURCE: dict[str, Any] = {
    "component": "largest",
    "enlargement": "centred",
    "mirror": True,
    "size": 320,
    "further_sizes": [64],
    "weights": {"file": "w.pth"},
    "network": "resnet50",
    "omit": 1,
    "axis": "all",
    "axes": 3,
    "descriptors": "unit",
    "threshold": 0.4,
    "transformer": "dino_vits8",
    "similarity": 0.05,
    "patches": 50,
    "file": "other.csv",
}


def _with_source(source: str, **options: Any) -> TrialConfig:
    return tiny(pseudo_boxes={"source": source, "file": "boxes.csv", **options})


def test_read_knows_every_field_of_pseudo_boxes() -> None:
    assert OTHER_SOURCE.keys() | {"source", "normalization", "maps"} == PseudoBoxConfig.model_fields.keys()
    assert {name for names in READ.values() for name in names} == OTHER_SOURCE.keys() | {"source"}


@pytest.mark.parametrize("source", list(READ))
def test_a_field_makes_another_initialization_only_where_the_source_reads_it(source: str) -> None:
    key = initialization_key(_with_source(source))
    changed = {
        name for name, value in OTHER_SOURCE.items() if initialization_key(_with_source(source, **{name: value})) != key
    }
    assert changed == set(READ[source]) - {"source"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"confidence": {"shrink": 0.5}}, {}, True),
        ({"confidence": {"score": "contrast", "shrink": 0.5}}, {"confidence": {"score": "contrast"}}, False),
        ({"confidence": {"folds": 5}}, {}, True),
        ({"confidence": {"score": "out_of_fold", "folds": 5}}, {"confidence": {"score": "out_of_fold"}}, False),
        ({"refinement": {"average_momentum": 0.5}}, {}, True),
        ({"refinement": {"average_momentum": 0.5, "report": "average"}}, {"refinement": {"report": "average"}}, False),
        ({"initialization": {"average_momentum": 0.5}}, {}, True),
    ],
)
def test_a_field_makes_another_trial_only_where_it_is_read(
    one: dict[str, Any], other: dict[str, Any], same: bool
) -> None:
    shared = {"split": {"val_per_class": 1}}
    assert (trial_key(tiny(**shared, **one)) == trial_key(tiny(**shared, **other))) == same


def test_references_and_classifiers_are_shared_whatever_nothing_reads() -> None:
    changed = tiny(pseudo_boxes={"threshold": 0.4}, initialization={"average_momentum": 0.5})
    assert reference_key(changed, "few_shot_1") == reference_key(tiny(), "few_shot_1")
    assert out_of_fold_key(changed) == out_of_fold_key(tiny())


@pytest.mark.parametrize("changed", list(DIGESTS))
def test_with_digests_another_digest_is_another_result(changed: str) -> None:
    key = trial_key(tiny())
    assert fingerprint(with_digests(key, DIGESTS)) == fingerprint(with_digests(key, dict(DIGESTS)))
    assert fingerprint(with_digests(key, DIGESTS)) != fingerprint(with_digests(key, {**DIGESTS, changed: "other"}))


def test_with_digests_paths_do_not_count() -> None:
    def key(folder: str) -> dict[str, Any]:
        weights = {"classifier": {"file": f"{folder}/w.pth"}, "regressor": "none"}
        return with_digests(trial_key(tiny(dataset={"kind": "cub", "path": folder}, weights=weights)), DIGESTS)

    assert key("/here") == key("/there")
    assert "here" not in str(key("/here"))
    assert key("/here")["weights"] == {"classifier": "file", "regressor": "none"}
    assert key("/here")["dataset"] == {"kind": "cub"}


def test_trial_key_of_a_config_with_an_added_field_is_the_old_one_while_it_has_the_value_of_before() -> None:
    before = trial_key(tiny())
    with added_field():
        assert "patience" in tiny().model_dump()["refinement"]
        assert trial_key(tiny()) == before
        changed = trial_key(tiny(refinement={"patience": DEFAULT + 1}))
    assert changed["refinement"] == {**before["refinement"], "patience": DEFAULT + 1}


def test_trial_key_tells_new_bf16_results_from_old_ones_and_keeps_that_of_fp32() -> None:
    plain = tiny().model_dump(mode="json")
    old = {}
    for precision in ("fp32", "bf16"):
        stored = {**plain, "compute": {**plain["compute"], "precision": precision}}
        del stored["compute"]["maps_precision"]
        old[precision] = trial_key(stored_config(stored))
        assert "maps_precision" not in old[precision]["compute"]
    assert trial_key(tiny()) == old["fp32"]
    assert trial_key(tiny(compute={"maps_precision": "bf16"})) == old["fp32"], "in fp32 it changes nothing"
    assert trial_key(tiny(compute={"precision": "bf16"}))["compute"]["maps_precision"] == "fp32"
    assert trial_key(tiny(compute={"precision": "bf16", "maps_precision": "bf16"})) == old["bf16"]


def test_trial_key_of_a_config_with_a_field_that_no_table_names_is_another() -> None:
    before = trial_key(tiny())
    with added_field(in_the_table=False):
        assert trial_key(tiny()) != before


def test_normal_form_drops_mappings_that_only_held_added_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"confidence.score": "max_softmax", "confidence.keep.share": None, "delta.none": 1}.items():
        monkeypatch.setitem(ADDED, key, Added("0.2", value))
    plain = {"delta": 0.5, "confidence": {"score": "max_softmax", "keep": {"share": None}}}
    assert normal_form(plain) == {"delta": 0.5}
    plain["confidence"] = {"score": "contrast", "keep": {"share": None}}
    assert normal_form(plain) == {"delta": 0.5, "confidence": {"score": "contrast"}}
    assert plain["confidence"] == {"score": "contrast", "keep": {"share": None}}


def test_stored_config_gets_the_value_of_before_where_the_default_has_moved_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = tiny().model_dump(mode="json")
    with added_field():
        monkeypatch.setitem(ADDED, "refinement.patience", Added("0.9", DEFAULT + 1))
        assert stored_config(stored).model_dump()["refinement"]["patience"] == DEFAULT + 1
        assert trial_key(stored_config(stored)) == trial_key(tiny(refinement={"patience": DEFAULT + 1}))
        assert "patience" not in trial_key(stored_config(stored))["refinement"]
    assert "patience" not in stored["refinement"]


def test_stored_config_of_another_kind_gets_no_field_of_one_kind_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADDED, "dataset.seed", Added("0.9", 5))
    cub = tiny(dataset={"kind": "cub", "path": "birds"}).model_dump(mode="json")
    assert stored_config(cub).model_dump(mode="json") == cub
    drawn = tiny().model_dump(mode="json")
    del drawn["dataset"]["seed"]
    assert stored_config(drawn).dataset.model_dump()["seed"] == 5
