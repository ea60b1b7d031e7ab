from __future__ import annotations

import re
from pathlib import Path

import pytest

from lchp.errors import Refusal
from lchp.study.spec.keys import Key, all_keys, as_markdown, as_text, found_keys
from lchp.study.spec.origins import ORIGINS

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "keys.md"
OF_THE_MACHINE = ("name", "question", "dataset.kind", "dataset.path")


def one(name: str) -> Key:
    (key,) = (key for key in all_keys() if key.name == name)
    return key


def test_reference_of_keys_is_current() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == as_markdown(all_keys()), (
        "`lchp config keys --markdown > docs/reference/keys.md` writes it anew"
    )


def test_keys_every_one_says_what_it_is() -> None:
    assert [key.name for key in all_keys() if len(key.description) < 3] == []


def test_keys_every_number_has_a_range_and_a_unit() -> None:
    numbers = [key for key in all_keys() if re.search("number", key.values) and not key.section]
    assert len(numbers) > 60
    assert [key.name for key in numbers if not key.unit] == []
    bounded = re.compile(r"(?:from|above) .*(?:to|below) ")
    assert [key.name for key in numbers if not bounded.search(key.values)] == []


def test_keys_every_default_of_a_trial_has_a_source() -> None:
    of_a_file = re.compile(r".*\.(?:file|sha256)|.*\.path|.*\.kind")
    without = [key.name for key in all_keys() if not key.section and not key.source and key.of != "study"]
    assert [name for name in without if not of_a_file.fullmatch(name)] == ["dataset"]


def test_origins_name_fields_that_are_there() -> None:
    gone = [
        f"{model.__name__}.{field}"
        for model, fields in ORIGINS.items()
        for field in fields
        if field not in model.model_fields
    ]
    assert gone == []


def test_key_is_told_with_range_unit_default_and_source() -> None:
    assert as_text(one("view.crop")).splitlines() == [
        "view.crop",
        "  what     side in pixels of the random crop and of every input (paper: 448)",
        "  values   a whole number from 16 to 2048",
        "  unit     pixels",
        "  default  448",
        "  source   paper 4.3",
        "  in       study and trial files",
    ]
    assert one("seed").of == "trial"
    assert one("seeds").of == "study"


def test_key_of_several_kinds_of_mappings_has_the_values_of_all() -> None:
    assert one("dataset.kind").values == "synthetic, cub, tiny-imagenet, imagenet, table"
    assert one("weights.classifier").values == "imagenet, none or a mapping (file, sha256)"


def test_keys_of_a_section_are_the_section_and_what_is_in_it() -> None:
    assert [key.name for key in found_keys("split")] == ["split", "split.val_per_class", "split.seed"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("crop", "crop: unknown key: did you mean `view.crop`?"),
        ("view.crp", "did you mean `view.crop`?"),
        ("nonsense", "nonsense: unknown key: `lchp config keys` lists them all"),
        ("", "'': unknown key: `lchp config keys` lists them all"),
    ],
)
def test_key_that_is_none_is_refused_with_the_nearest(name: str, told: str) -> None:
    with pytest.raises(Refusal) as caught:
        found_keys(name)
    assert told in str(caught.value)
