from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lchp.reporting.statistics import (
    Summary,
    beats,
    compare,
    holm,
    new_seeds,
    seeds_needed,
    summarize,
    these_seeds,
)


def test_summarize_three_values_by_hand() -> None:
    assert summarize([1.0, 2.0, 6.0]) == Summary(3, 3.0, 7.0**0.5)


def test_summarize_one_value_has_no_spread() -> None:
    assert summarize([0.5]) == Summary(1, 0.5, None)


def test_summarize_nothing_is_none() -> None:
    assert summarize([]) is None


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20))
def test_summarize_any_order_agrees_with_numpy(values: list[float]) -> None:
    found = summarize(values)
    assert found is not None
    assert found.std is not None
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values, ddof=1))
    assert summarize(values[::-1]) == found


def test_summary_interval_is_scipys() -> None:
    values = [61.2, 65.9, 64.4]
    found = summarize(values)
    assert found is not None
    assert found.interval == pytest.approx(
        stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))  # the oracle
    )
    assert Summary(1, 0.5, None).interval is None
    assert Summary(3, 0.5, 0.0).interval is None


def test_new_seeds_is_scipys_paired_t_test() -> None:
    ours, other = np.array([61.2, 65.9, 64.4, 60.0]), np.array([58.0, 66.1, 60.9, 57.3])
    found = new_seeds((ours - other).tolist())
    oracle = stats.ttest_rel(ours, other)
    assert found is not None
    assert found.p == pytest.approx(oracle.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)))
    assert found.sign == 0
    assert beats((ours - other).tolist()) == pytest.approx(
        stats.t.cdf(np.mean(ours - other) / (np.std(ours - other, ddof=1) * np.sqrt(1 + 1 / 4)), 3)
    )


@pytest.mark.parametrize("differences", [[1.5], [0.25, 0.25, 0.25], [0.3, 0.1 + 0.2, 0.3]])
def test_new_seeds_of_one_seed_or_without_spread_says_nothing(differences: list[float]) -> None:
    assert new_seeds(differences) is beats(differences) is seeds_needed(differences) is None


@pytest.mark.parametrize("classes", [1, 8])
def test_these_seeds_of_few_classes_is_scipys_t_test_over_their_means_or_images(classes: int) -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, (3, 40))
    labels, images = np.arange(40) % classes, differences.mean(0)
    clusters = images if classes == 1 else [images[labels == one].mean() for one in range(classes)]
    found, oracle = these_seeds(differences, labels), stats.ttest_1samp(clusters, 0)
    assert found is not None
    assert found.p == pytest.approx(oracle.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)))


def test_these_seeds_of_many_equal_classes_agrees_with_scipys_bootstrap_of_their_means() -> None:
    generator = np.random.default_rng(1)
    classes = np.repeat(np.arange(60), 10)
    differences = generator.normal(0.2, 1, (2, 600)) + generator.normal(0, 0.5, 60)[classes]
    means = differences.mean(0).reshape(60, 10).mean(1)
    found = these_seeds(differences, classes)
    oracle = stats.bootstrap((means,), np.mean, n_resamples=4_000, method="BCa", rng=np.random.default_rng(2))
    assert found is not None
    low, high = oracle.confidence_interval
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_these_seeds_images_of_a_class_count_as_one_where_they_are_alike() -> None:
    classes = np.repeat(np.arange(20), 50)
    by_class = np.random.default_rng(3).normal(0, 1, 20)
    alike, apart = these_seeds(by_class[classes][None], classes), these_seeds(by_class[classes][None], np.zeros(1000))
    assert alike is not None
    assert apart is not None
    assert alike.high - alike.low > 5 * (apart.high - apart.low)


def test_these_seeds_where_nothing_differs_says_nothing() -> None:
    assert these_seeds(np.zeros((3, 30)), np.arange(30) % 6) is None


@given(st.lists(st.floats(-1, 1).filter(lambda value: value == 0 or abs(value) > 1e-6), min_size=14, max_size=30))
def test_these_seeds_interval_and_p_agree_and_follow_the_sign(values: list[float]) -> None:
    images, classes = np.array([values]), np.arange(len(values)) % 14
    found, turned = these_seeds(images, classes), these_seeds(-images, classes)
    if found is None or turned is None:
        assert found is turned
        return
    assert (found.low, found.high, found.p) == (-turned.high, -turned.low, turned.p)
    assert (found.p < 0.05) == (found.sign != 0) or found.p == pytest.approx(0.05)


def test_holm_agrees_with_a_step_by_step_calculation() -> None:
    assert holm([0.04, 0.01, None, 0.02, 0.9]) == pytest.approx([0.08, 0.04, None, 0.06, 0.9])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_seeds_needed_have_the_promised_power() -> None:
    differences = [1.0, 5.0, 2.0, 4.0]
    needed = seeds_needed(differences)
    assert needed is not None
    drawn = np.random.default_rng(4).normal(3, np.std(differences, ddof=1), (8_000, needed))
    seen = [np.mean(stats.ttest_1samp(drawn[:, :n], 0, axis=1).pvalue < 0.05) for n in (needed - 1, needed)]
    assert seen[0] < 0.8 < seen[1]


def test_compare_needs_both_statements_for_a_sign() -> None:
    classes = np.arange(40) % 8
    images = np.random.default_rng(5).normal(1, 0.5, (3, 40))
    clear = compare(images.mean(1).tolist(), images, classes)
    assert (clear.sign, clear.images) == (1, 40)
    one = compare(images[:1].mean(1).tolist(), images[:1], classes)
    assert one.these_seeds is not None
    assert one.these_seeds.sign == 1
    assert (one.sign, one.new_seeds, one.probability) == (0, None, None)
    assert compare([1.0, 1.1, 0.9]).sign == 1
    assert compare([1.0, 1.1, 0.9], images * 0 + np.tile([9, -9], 20), classes).sign == 0


def _drawn(repetitions: int, classes: int, of_seeds: float, fixed: bool) -> tuple[np.ndarray, np.ndarray]:
    """IoU differences (repetitions, 4 seeds, images) of two methods that are equally good, over classes of unlike size
    whose images resemble each other, and their labels: every seed, class, image, and image of a seed has its own.

    ``fixed`` images are those of which no method is the better; else that holds of the images there might be.
    """
    generator = np.random.default_rng(6)
    labels = np.repeat(np.arange(classes), generator.integers(6, 15, classes))
    by_class = generator.normal(0, 0.05, (repetitions, 1, classes))[:, :, labels]
    by_image = by_class + generator.normal(0, 0.2, (repetitions, 1, len(labels)))
    if fixed:
        by_image -= by_image.mean(2, keepdims=True)
    by_seed = generator.normal(0, of_seeds, (repetitions, 4, 1))
    return generator.normal(by_image + by_seed, 0.2, (repetitions, 4, len(labels))), labels


@pytest.mark.parametrize("classes", [8, 24])
def test_these_seeds_sees_five_percent_false_alarms_and_the_promised_power(classes: int) -> None:
    images, labels = _drawn(3_000, classes, of_seeds=0.0, fixed=False)
    found = [these_seeds(one, labels) for one in images]
    assert 0.04 <= np.mean([one is not None and one.p < 0.05 for one in found]) <= 0.06
    # What one sample promises varies; the same difference for all wants the errors that they have on average.
    shift = float(np.sqrt(np.mean([one.smallest**2 for one in found if one is not None])))
    moved = [these_seeds(one + shift, labels) for one in images]
    assert 0.77 <= np.mean([one is not None and one.sign == 1 for one in moved]) <= 0.85


def test_these_seeds_of_hits_that_rarely_differ_sees_no_more_than_five_percent_false_alarms() -> None:
    images, labels = _drawn(1_500, 24, of_seeds=0.0, fixed=False)
    hits = np.sign(images[:, :1]) * (np.abs(images[:, :1]) > 0.4)
    found = [these_seeds(one, labels) for one in hits]
    assert 0.03 <= np.mean([one is not None and one.p < 0.05 for one in found]) <= 0.06


def test_new_seeds_sees_five_percent_false_alarms_and_the_promised_power() -> None:
    by_seed = _drawn(4_000, 16, of_seeds=0.03, fixed=True)[0].mean(2)
    found = [new_seeds(one.tolist()) for one in by_seed]
    assert 0.04 <= np.mean([one is not None and one.p < 0.05 for one in found]) <= 0.06
    shift = float(np.sqrt(np.mean([one.smallest**2 for one in found if one is not None])))
    seen = [new_seeds((one + shift).tolist()) for one in by_seed]
    assert 0.77 <= np.mean([one is not None and one.sign == 1 for one in seen]) <= 0.83


def test_compare_seeds_that_do_not_differ_leave_it_to_the_images() -> None:
    classes, images = np.arange(40) % 8, np.random.default_rng(7).normal(1, 0.5, 40)
    same = compare([images.mean()] * 3, np.tile(images, (3, 1)), classes)
    assert same.is_steady
    assert same.these_seeds is not None
    assert (same.sign, same.p) == (1, same.these_seeds.p)
    hidden = compare([1.0] * 3)
    assert (hidden.is_steady, hidden.sign, hidden.p) == (True, 0, 1.0)
    assert not compare([1.0]).is_steady
    nothing = compare([0.0] * 3, np.zeros((3, 40)), classes)
    assert (nothing.is_nothing, nothing.sign, nothing.p) == (True, 0, 1.0)
    assert not compare([0.0] * 3, np.tile([1.0, -1.0], (3, 20)), np.arange(40) % 8 % 2 * 1.0).is_nothing
