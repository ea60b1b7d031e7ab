"""The validation draw: disjoint, per class, seeded, independent of any order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from lchp.data.config import SplitConfig
from lchp.data.records import Dataset, ImageRecord
from lchp.data.splits import _Draw, split


def dataset(a_class: int = 12, classes: int = 4, reverse: bool = False) -> Dataset:
    train = [ImageRecord(f"{label}/{number}.png", label) for label in range(classes) for number in range(a_class)]
    test = [ImageRecord(f"test/{number}.png", number % classes) for number in range(9)]
    if reverse:
        train.reverse()
        test.reverse()
    return Dataset.of("drawn", Path("nowhere"), tuple("abcdefgh"[:classes]), train, test)


def test_split_val_holds_the_asked_count_of_every_class(tmp_path: Path) -> None:
    drawn = split(dataset(), SplitConfig(val_per_class=5, seed=0))
    assert Counter(record.label for record in drawn.val) == {0: 5, 1: 5, 2: 5, 3: 5}
    assert set(drawn.train) | set(drawn.val) == set(dataset().train)
    assert not set(drawn.train) & set(drawn.val)
    assert set(drawn.test) == set(dataset().test)


def test_split_depends_on_the_seed_and_not_on_the_order(tmp_path: Path) -> None:
    drawn = split(dataset(), SplitConfig(seed=3))
    assert split(dataset(reverse=True), SplitConfig(seed=3)) == drawn
    assert split(dataset(), SplitConfig(seed=4)).val != drawn.val


def test_split_draws_every_image_sooner_or_later() -> None:
    seen = {record for seed in range(40) for record in split(dataset(), SplitConfig(seed=seed)).val}
    assert seen == set(dataset().train)


def test_split_zero_a_class_keeps_everything_for_training() -> None:
    drawn = split(dataset(), SplitConfig(val_per_class=0))
    assert drawn.val == ()
    assert set(drawn.train) == set(dataset().train)


@pytest.mark.parametrize(("a_class", "asked", "enough"), [(6, 5, True), (5, 5, False), (1, 0, True), (0, 0, False)])
def test_split_leaves_every_class_an_image_to_train_on(a_class: int, asked: int, enough: bool) -> None:
    config = SplitConfig(val_per_class=asked)
    if enough:
        assert {record.label for record in split(dataset(a_class), config).train} == {0, 1, 2, 3}
        return
    with pytest.raises(
        ValueError, match=rf"class a \({a_class}\), b .* needs at least {asked + 1}.*lower split.val_per"
    ):
        split(dataset(a_class), config)


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 + 5, 2**63 - 1])
def test_draw_is_that_of_torch_randperm(seed: int) -> None:
    generator, draw = torch.Generator().manual_seed(seed), _Draw(seed)
    for count in (1, 2, 0, 3, 30, 1300):
        assert draw.permutation(count) == torch.randperm(count, generator=generator).tolist()
