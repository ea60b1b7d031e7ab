from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lchp.method import metrics
from lchp.method.boxes import whole_view

WHOLE = (0.0, 0.0, 1.0, 1.0)


def true_boxes(*images: list[tuple[float, float, float, float]]) -> list[Tensor]:
    return [torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4) for boxes in images]


def scored(predicted: Tensor, true: list[Tensor], ranked: Tensor, labels: Tensor) -> dict[str, float]:
    """Every metric of predicted boxes and ranked classes."""
    ious = metrics.best_iou(predicted, true)
    return metrics.scores_per_image(ious, metrics.in_top(ranked, labels, 1), metrics.in_top(ranked, labels, 5))


def drawn(count: int, seed: int = 0, most: int = 3) -> tuple[Tensor, list[Tensor]]:
    """Predicted boxes, and one to ``most`` true boxes an image of which the first is near the predicted one."""
    rng = np.random.default_rng(seed)

    def boxes(number: int) -> np.ndarray:
        return np.sort(rng.random((number, 2, 2)), axis=1).reshape(number, 4)

    predicted = boxes(count)
    true = [
        np.concatenate([box[None] + rng.normal(0, 0.05, 4), boxes(int(rng.integers(0, most)))]) for box in predicted
    ]
    return torch.from_numpy(predicted), [torch.from_numpy(part) for part in true]


def iou_by_definition(one: list[float], other: list[float]) -> float:
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [max(0.0, b[2] - b[0]) * max(0.0, b[3] - b[1]) for b in (one, other)]
    union = sum(areas) - width * height
    return width * height / union if union > 0 else 0.0


def best_by_definition(predicted: Tensor, true: list[Tensor]) -> np.ndarray:
    pairs = zip(predicted.tolist(), true, strict=True)
    return np.array([max((iou_by_definition(p, t) for t in boxes.tolist()), default=0.0) for p, boxes in pairs])


def bias_by_definition(predicted: Tensor, true: list[Tensor]) -> dict[str, float]:
    ratios, offsets = [], []
    for box, boxes in zip(predicted.tolist(), true, strict=True):
        ious = [round(iou_by_definition(box, other), 12) for other in boxes.tolist()]
        x1, y1, x2, y2 = boxes.tolist()[ious.index(max(ious))]
        area, known = (box[2] - box[0]) * (box[3] - box[1]), (x2 - x1) * (y2 - y1)
        ratios.append(np.log(np.clip(area / known, 0.01, 100)))
        across, down = (box[0] + box[2] - x1 - x2) / 2, (box[1] + box[3] - y1 - y2) / 2
        offsets.append(np.hypot(across, down) / np.hypot(x2 - x1, y2 - y1))
    return {
        "log_area_mean": np.mean(ratios),
        "log_area_spread": np.std(ratios),
        "centre_offset_mean": np.mean(offsets),
        "centre_offset_spread": np.std(offsets),
    }


def test_box_bias_several_true_boxes_equals_definition() -> None:
    predicted, true = drawn(60)
    true = [boxes.reshape(-1, 2, 2).sort(dim=1).values.reshape(-1, 4) for boxes in true]
    # A prediction that hits nothing counts against the first, one without area as a hundredth.
    predicted = torch.cat([predicted, torch.tensor([[0.9, 0.9, 1.0, 1.0], [0.2, 0.2, 0.2, 0.6]]).double()])
    true += true_boxes([(0.0, 0.0, 0.5, 0.5), (0.1, 0.1, 0.2, 0.2)], [(0.0, 0.0, 0.4, 0.4)])
    found, expected = metrics.box_bias(predicted, true), bias_by_definition(predicted, true)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9), name


def test_box_bias_of_the_true_boxes_is_nothing_and_of_large_ones_positive() -> None:
    true = true_boxes([(0.2, 0.2, 0.6, 0.8)], [(0.1, 0.5, 0.3, 0.9)])
    exact = torch.cat(true)
    assert all(abs(value) < 1e-12 for value in metrics.box_bias(exact, true).values())
    grown = metrics.box_bias(exact + torch.tensor([-0.1, -0.1, 0.1, 0.1]), true)
    assert grown["log_area_mean"] > 0
    assert grown["centre_offset_mean"] == pytest.approx(0, abs=1e-12)
    moved = metrics.box_bias(exact + torch.tensor([0.3, 0.4, 0.3, 0.4]), [exact[:1], exact[:1]])
    assert moved["centre_offset_mean"] > 0.5


def test_best_iou_several_true_boxes_equals_definition() -> None:
    predicted, true = drawn(60)
    np.testing.assert_allclose(
        metrics.best_iou(predicted, true).numpy(), best_by_definition(predicted, true), atol=1e-11
    )


def test_best_iou_image_without_true_box_is_zero() -> None:
    result = metrics.best_iou(torch.tensor([WHOLE, WHOLE, WHOLE]), true_boxes([], [WHOLE], []))
    assert result.tolist() == [0.0, 1.0, 0.0]


def test_best_iou_any_true_box_counts_whatever_their_order() -> None:
    near, far = (0.0, 0.0, 0.5, 0.5), (0.9, 0.9, 1.0, 1.0)
    predicted = torch.tensor([near, near])
    assert metrics.best_iou(predicted, true_boxes([near, far], [far, near])).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("height", [0.1, 0.3, 0.7, 0.9, 1 / 3, 0.57])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_best_iou_of_exactly_the_threshold_reaches_it(height: float, threshold: float) -> None:
    predicted = torch.tensor([(0.0, 0.0, 1.0, height)], dtype=torch.float64)
    value = metrics.best_iou(predicted, true_boxes([(0.0, 0.0, threshold, height)]))
    assert value.tolist() == [threshold]


def test_best_iou_just_below_half_misses() -> None:
    value = metrics.best_iou(torch.tensor([WHOLE]), true_boxes([(0.0, 0.0, 0.5 - 1e-9, 1.0)]))
    assert metrics.localization_scores(value)["gt_known"] == 0.0


def test_ranked_classes_orders_by_logit_and_ties_by_index() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, 3.0, 2.0, -1.0], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]])
    assert metrics.ranked_classes(logits).tolist() == [[1, 3, 4, 2, 0], [0, 1, 2, 3, 4]]
    assert metrics.ranked_classes(torch.zeros(3, 1000)).tolist() == [[0, 1, 2, 3, 4]] * 3


def test_ranked_classes_fewer_than_five_classes_gives_all() -> None:
    ranked = metrics.ranked_classes(torch.tensor([[0.0, 2.0, 1.0]]))
    assert ranked.tolist() == [[1, 2, 0]]
    assert metrics.in_top(ranked, torch.tensor([0]), 5).tolist() == [True]


def test_in_top_counts_only_the_first_places() -> None:
    ranked = torch.tensor([[3, 1, 2], [1, 3, 2], [0, 1, 2]])
    labels = torch.tensor([3, 3, 3])
    assert metrics.in_top(ranked, labels, 1).tolist() == [True, False, False]
    assert metrics.in_top(ranked, labels, 2).tolist() == [True, True, False]


def test_accuracy_third_is_the_exact_quotient() -> None:
    assert metrics.accuracy(torch.tensor([True, False, False])) == 1 / 3


def scores_by_definition(predicted: Tensor, true: list[Tensor], logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Every metric of paper 4.2 (and wsolevaluation's) image by image."""
    ious = best_by_definition(predicted, true)
    order = [sorted(range(len(row)), key=lambda c, row=row: -row[c]) for row in logits.tolist()]
    top1 = [ranks[0] == label for ranks, label in zip(order, labels.tolist(), strict=True)]
    top5 = [label in ranks[:5] for ranks, label in zip(order, labels.tolist(), strict=True)]
    n = len(ious)
    at = {t: sum(v >= t for v in ious) / n for t in (0.3, 0.5, 0.7)}
    return {
        "gt_known": at[0.5],
        "top1_loc": sum(v >= 0.5 and c for v, c in zip(ious, top1, strict=True)) / n,
        "top5_loc": sum(v >= 0.5 and c for v, c in zip(ious, top5, strict=True)) / n,
        "box_acc_30": at[0.3],
        "box_acc_70": at[0.7],
        "mean_box_acc": (at[0.3] + at[0.5] + at[0.7]) / 3,
        "mean_iou": sum(ious) / n,
        "top1_cls": sum(top1) / n,
    }


@pytest.mark.parametrize("classes", [3, 9])
def test_scores_random_predictions_equals_definition(classes: int) -> None:
    predicted, true = drawn(97, seed=1)
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(97, classes, generator=generator)
    labels = torch.randint(classes, (97,), generator=generator)
    result = scored(predicted, true, metrics.ranked_classes(logits), labels)
    expected = scores_by_definition(predicted, true, logits, labels)
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-11), name
    assert 0 < result["top1_loc"] < result["gt_known"] < 1


def test_scores_perfect_predictions_are_all_one() -> None:
    true = true_boxes([(0.1, 0.2, 0.4, 0.9)], [WHOLE])
    predicted = torch.cat(true)
    result = scored(predicted, true, torch.tensor([[4], [2]]), torch.tensor([4, 2]))
    assert set(result.values()) == {1.0}


def centred_by_definition(true: list[Tensor]) -> list[float]:
    """The candidate that wins by (hits, smaller area, smaller width), visited one by one."""
    best: tuple[tuple[int, int, int], tuple[int, int]] | None = None
    for width in range(1, 101):
        for height in range(1, 101):
            box = [0.5 - width / 200, 0.5 - height / 200, 0.5 + width / 200, 0.5 + height / 200]
            hits = sum(any(round(iou_by_definition(box, t), 12) >= 0.5 for t in boxes.tolist()) for boxes in true)
            key = (hits, -width * height, -width)
            if best is None or key > best[0]:
                best = key, (width, height)
    assert best is not None
    width, height = best[1]
    return [0.5 - width / 200, 0.5 - height / 200, 0.5 + width / 200, 0.5 + height / 200]


@pytest.mark.parametrize("seed", [0, 1])
def test_fit_centred_box_random_boxes_equals_trying_every_candidate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = []
    for _ in range(12):
        number = int(rng.integers(1, 3))
        centre, size = rng.normal(0.5, 0.08, (number, 2)), rng.uniform(0.3, 0.9, (number, 2))
        true.append(torch.from_numpy(np.concatenate([centre - size / 2, centre + size / 2], 1).clip(0, 1)))
    np.testing.assert_allclose(metrics.fit_centred_box(true).numpy(), centred_by_definition(true), rtol=0, atol=1e-12)


def test_fit_centred_box_equal_hits_takes_the_smallest_area() -> None:
    box = metrics.fit_centred_box(true_boxes([(0.3, 0.3, 0.7, 0.7)]))
    width, height = (box[2:] - box[:2]).tolist()
    assert (round(width, 6), round(height, 6)) == (0.2, 0.4)  # IoU 0.08 / 0.16, exactly a half; 0.4 x 0.2 is wider
    assert metrics.best_iou(box[None], true_boxes([(0.3, 0.3, 0.7, 0.7)])).tolist() == [0.5]


def test_fit_centred_box_more_images_than_a_chunk_equals_the_repeated_few() -> None:
    _, few = drawn(7, seed=5)
    assert torch.equal(metrics.fit_centred_box(few * 150), metrics.fit_centred_box(few))


def test_selection_equals_counting() -> None:
    rng = np.random.default_rng(0)
    selected, ious = rng.random(50) > 0.6, rng.random(50)
    row = metrics.selection(torch.from_numpy(selected), torch.from_numpy(ious))
    passed = [iou for taken, iou in zip(selected, ious, strict=True) if taken]
    assert row == (len(passed), sum(iou >= 0.5 for iou in passed) / len(passed))


def test_selection_of_nothing_has_no_gt_known() -> None:
    assert metrics.selection(torch.tensor([False, False]), torch.tensor([0.1, 0.9])) == (0, None)


@pytest.mark.parametrize("levels", [3, 1000])
def test_ranking_auc_equals_counting_pairs(levels: int) -> None:
    rng = np.random.default_rng(levels)
    scores, hits = rng.integers(0, levels, 60) / levels, rng.random(60) > 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[hits] for b in scores[~hits]]
    found = metrics.ranking_auc(torch.from_numpy(scores), torch.from_numpy(hits))
    assert found == pytest.approx(np.mean(pairs), abs=1e-12)


@pytest.mark.parametrize(("miss", "hit", "auc"), [(1, 2, 1.0), (2, 1, 0.0), (1, 1, 0.5)])
def test_ranking_auc_of_one_pair_is_whether_it_is_in_order(miss: int, hit: int, auc: float) -> None:
    assert metrics.ranking_auc(torch.tensor([miss, hit]), torch.tensor([False, True])) == auc


def test_ranking_auc_of_hits_alone_is_unknown() -> None:
    assert metrics.ranking_auc(torch.tensor([0.1, 0.2]), torch.tensor([True, True])) is None
    assert metrics.ranking_auc(torch.tensor([0.1, 0.2]), torch.tensor([False, False])) is None


def cub_true_boxes(root: Path) -> dict[str, list[Tensor]]:
    """True boxes of CUB-200-2011 by split, clipped to their images."""

    def rows(name: str) -> dict[str, list[str]]:
        return {line.split()[0]: line.split()[1:] for line in (root / name).read_text().splitlines()}

    boxes, train, found = rows("bounding_boxes.txt"), rows("train_test_split.txt"), {"train": [], "test": []}
    for identity, (path,) in rows("images.txt").items():
        with Image.open(root / "images" / path) as image:
            width, height = image.size
        x, y, w, h = map(float, boxes[identity])
        box = torch.tensor([[x / width, y / height, (x + w) / width, (y + h) / height]], dtype=torch.float64)
        found["train" if train[identity] == ["1"] else "test"].append(box.clamp(0, 1))
    return found


@pytest.mark.skipif("LCHP_TEST_CUB" not in os.environ, reason="LCHP_TEST_CUB does not name the CUB subset")
def test_floors_on_the_cub_subset_are_the_known_ones(tmp_path: Path) -> None:
    root = Path(os.environ["LCHP_TEST_CUB"])
    if root.is_file():
        with tarfile.open(root) as archive:
            archive.extractall(tmp_path, filter="data")
        root = tmp_path
    true = cub_true_boxes(next(iter(root.rglob("bounding_boxes.txt"))).parent)
    if (len(true["train"]), len(true["test"])) != (600, 546):
        pytest.skip("LCHP_TEST_CUB is not the subset whose floors are known")
    count = len(true["test"])
    whole = metrics.best_iou(whole_view(count, torch.zeros(1)), true["test"])
    centred = metrics.best_iou(metrics.fit_centred_box(true["train"]).expand(count, 4), true["test"])
    assert round(metrics.localization_scores(whole)["gt_known"], 3) == 0.187
    assert round(metrics.localization_scores(centred)["gt_known"], 2) == 0.57
