from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lchp.data import imgaug_backend
from lchp.method import augmentation
from lchp.method.augmentation import StrongDraw
from lchp.method.confidence import crop
from lchp.method.networks import BoxRegressor, as_corners
from lchp.training.confidence import Confidence
from lchp.training.config import TrialConfig
from lchp.training.initialization import make_networks
from lchp.training.refinement import BACKENDS, Refinement, passing, stage_losses, weak_boxes

from .drawn import CLASSES, batch, config_of, fold_judges_of, views
from .tiny import same_tensors

SIZE = 32
LABELS = torch.arange(8) % CLASSES
PLACES = torch.tensor([3, 9, 0, 11, 5, 6, 8, 1])
TEACHERS = [("online", "batch"), ("online", "running"), ("frozen", "running"), ("ema", "batch"), ("ema", "running")]


def refinement(**changes: Any) -> Refinement:
    """The stage with networks whose boxes and confidences differ between images."""
    config = config_of(**changes)
    networks = make_networks(config, CLASSES)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        networks.regressor.head.weight.add_(
            0.05 * torch.randn(networks.regressor.head.weight.shape, generator=generator)
        )
        networks.momentum.head.weight.mul_(3)
    stage = Refinement(config, networks, "cpu", fold_judges_of(config))
    stage.classifier.eval()
    stage.regressor.train()
    return stage


def teaching(teacher: str, statistics: str) -> dict[str, Any]:
    """The changes of a configuration that choose the teacher."""
    return {"refinement": {"teacher": teacher, "weak_statistics": statistics}}


def draw(seed: int = 0, count: int = 8) -> StrongDraw:
    """Strong augmentations with everything in them."""
    return augmentation.draw_strong(count, SIZE, "scale+translation+flip", torch.Generator().manual_seed(seed))


def confidences(stage: Refinement, images: Tensor, weak: Tensor) -> Any:
    """The largest softmax of the classifier on the crops, by its definition."""
    with torch.no_grad():
        logits = stage.classifier(crop(images, weak)).logits.double().numpy()
    return (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).max(1)


@pytest.mark.parametrize("backend", list(BACKENDS))
@pytest.mark.parametrize("box_format", ["corners", "centre_size"])
def test_stage_losses_equal_equations_4_to_6_by_numpy(box_format: Any, backend: str) -> None:
    stage = refinement(box_format=box_format, refinement={"backend": backend})
    images, regressor = views(2), copy.deepcopy(stage.regressor)
    with torch.no_grad():
        weak = as_corners(regressor(images), box_format).clamp(0, 1)
        sure = confidences(stage, images, weak)
        tau = float(np.median(sure))
        strong, targets = BACKENDS[backend](images, weak, draw())
        predicted = regressor(strong).double().numpy()
    x1, y1, x2, y2 = targets.double().numpy().T
    target = [x1, y1, x2, y2] if box_format == "corners" else [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    distances = ((predicted - np.stack(target, 1)) ** 2).sum(1)
    selected = (sure > tau) & (x2 > x1) & (y2 > y1)
    areas = [(right - left) * (low - high) for left, high, right, low in weak.double().numpy()]
    expected = [(distances * selected).sum() / 8, selected.mean(), sure.mean(), np.mean(areas)]
    config = stage.config.model_copy(update={"tau": tau})
    losses = stage_losses(
        stage.regressor, stage.teacher, Confidence(config, stage.classifier), images, LABELS, PLACES, draw(), config
    )
    np.testing.assert_allclose(losses.detach().numpy(), expected, rtol=1e-4)
    assert 0 < selected.sum() < 8
    assert distances.min() > 0


@pytest.mark.parametrize("score", ["contrast", "equivariance", "out_of_fold"])
def test_stage_losses_select_the_configured_scores_best_share_by_numpy(score: str) -> None:
    stage = refinement(confidence={"score": score, "keep": 0.4}, tau=1.0)
    images, regressor = views(2), copy.deepcopy(stage.regressor)
    with torch.no_grad():
        weak, mirrored = regressor(images).clamp(0, 1), regressor(images.flip(-1)).clamp(0, 1)
        strong, targets = BACKENDS["batched"](images, weak, draw())
        distances = ((copy.deepcopy(stage.regressor)(strong) - targets) ** 2).sum(1).numpy()
    if score == "contrast":
        sides = weak[:, 2:] - weak[:, :2]
        inner = torch.cat([weak[:, :2] + 0.15 * sides, weak[:, 2:] - 0.15 * sides], 1)
        sure = probabilities(stage, images, weak) - probabilities(stage, images, inner)
    elif score == "out_of_fold":
        sure = by_folds(stage, images, weak)
    else:
        sure = overlaps(weak.numpy(), mirrored.numpy())
    best = np.zeros(8, bool)
    best[np.argsort(-sure)[:3]] = True  # 0.4 of 8
    selected = best & (targets.numpy()[:, 2] > targets.numpy()[:, 0]) & (targets.numpy()[:, 3] > targets.numpy()[:, 1])
    losses = stage_losses(
        stage.regressor, stage.teacher, stage.confidence, images, LABELS, PLACES, draw(), stage.config
    ).tolist()
    np.testing.assert_allclose(losses[:3], [(distances * selected).sum() / 8, selected.mean(), sure.mean()], rtol=1e-3)
    assert len(set(sure.round(6))) == 8


def probabilities(stage: Refinement, images: Tensor, boxes: Tensor) -> Any:
    """The classifier's softmax at the labels, on the crops, by its definition."""
    with torch.no_grad():
        logits = stage.classifier(crop(images, boxes)).logits.double().numpy()
    exponentials = np.exp(logits)
    return (exponentials / exponentials.sum(1, keepdims=True))[np.arange(8), LABELS.numpy()]


def by_folds(stage: Refinement, images: Tensor, boxes: Tensor) -> Any:
    """The largest tempered softmax on every crop, of the classifier whose fold its image is in."""
    judges, sure = stage.confidence.judges, []
    assert judges is not None
    for image, box, place in zip(images, boxes, PLACES, strict=True):
        with torch.no_grad():
            z = judges.classifiers[judges.folds[place]](crop(image[None], box[None])).logits[0].double().numpy()
        sure.append(np.exp(z / judges.temperature).max() / np.exp(z / judges.temperature).sum())
    return np.array(sure)


def overlaps(found: Any, of_mirrored: Any) -> Any:
    """The IoU of boxes with those of the mirrored views, mirrored back."""
    values = []
    for (a1, b1, a2, b2), (m1, y1, m2, y2) in zip(found.astype(float), of_mirrored.astype(float), strict=True):
        x1, x2 = 1 - m2, 1 - m1
        both = max(min(a2, x2) - max(a1, x1), 0) * max(min(b2, y2) - max(b1, y1), 0)
        values.append(both / ((a2 - a1) * (b2 - b1) + (x2 - x1) * (y2 - y1) - both))
    return np.array(values)


@pytest.mark.parametrize(("teacher", "statistics"), TEACHERS)
def test_stage_losses_by_equivariance_leave_the_statistics_that_max_softmax_leaves(
    teacher: str, statistics: str
) -> None:
    left = []
    for score in ("max_softmax", "equivariance"):
        stage = refinement(confidence={"score": score}, **teaching(teacher, statistics))
        stage_losses(stage.regressor, stage.teacher, stage.confidence, views(2), LABELS, PLACES, draw(), stage.config)
        left.append({"regressor": stage.regressor.state_dict(), "teacher": stage.teacher.state_dict()})
    assert same_tensors(*left)


def test_stage_losses_under_a_tau_of_one_select_nothing_and_teach_nothing() -> None:
    stage = refinement(tau=1.0)
    losses = stage_losses(
        stage.regressor, stage.teacher, stage.confidence, views(2), LABELS, PLACES, draw(), stage.config
    )
    losses[0].backward()
    assert losses[:2].tolist() == [0, 0]
    assert all(p.grad is None or not p.grad.any() for p in stage.regressor.parameters())


def test_stage_losses_reject_a_box_that_leaves_the_view() -> None:
    stage = refinement(tau=0.0)
    with torch.no_grad():
        stage.regressor.head.weight.zero_()
        stage.regressor.head.bias.copy_(torch.tensor([0.0, 0.2, 0.125, 0.6]))
    sides = torch.zeros(8, 2, dtype=torch.int64)
    cropped = sides.clone()
    cropped[:3, 0] = -8  # a quarter of the view at the left: all of the box and more
    moved = StrongDraw(SIZE, torch.ones(8, 2), cropped, sides, torch.zeros(8, 2, dtype=torch.bool))
    losses = stage_losses(
        stage.regressor, stage.teacher, stage.confidence, views(2), LABELS, PLACES, moved, stage.config
    )
    assert losses[1] == 5 / 8
    # The five whose views stay as they are meet their own boxes.
    assert losses[0] < 1e-12


def of_batch(stage: Refinement) -> tuple[Tensor, list[int]]:
    """The losses of a batch, and how many views passed the regressor: the weak ones, then the strong ones."""
    seen: list[int] = []
    hook = stage.regressor.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    values = stage_losses(
        stage.regressor, stage.teacher, stage.confidence, views(2), LABELS, PLACES, draw(), stage.config
    )
    hook.remove()
    return values, seen


def third_highest() -> float:
    """A tau above which lie three of the eight confidences of :func:`of_batch`."""
    stage = refinement()
    with torch.no_grad():
        weak = copy.deepcopy(stage.regressor)(views(2)).clamp(0, 1)
    third, fourth = np.sort(confidences(stage, views(2), weak))[[-3, -4]]
    return float(third + fourth) / 2


SELECTIONS: list[tuple[dict[str, Any], int]] = [
    ({}, 3),
    ({"confidence": {"keep": 0.6}}, 5),
    ({"tau": 0.0}, 8),
    ({"tau": 1.0}, 2),
]
"""Changes, the first with the tau of :func:`third_highest`, and how many strong views pass where rejected ones do not.
"""


def without_batch_statistics(network: nn.Module) -> None:
    """Puts in place of every batch normalisation one that looks at each view by itself."""
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(network, name, nn.GroupNorm(1, child.num_features))
        without_batch_statistics(child)


@pytest.mark.parametrize(("changes", "count"), SELECTIONS)
def test_dropped_views_leave_loss_and_gradient_to_a_network_without_batch_statistics(
    changes: dict[str, Any], count: int
) -> None:
    found = []
    for rejected in ("mask", "drop"):
        stage = refinement(refinement={"rejected": rejected}, **(changes or {"tau": third_highest()}))
        without_batch_statistics(stage.regressor)
        values, seen = of_batch(stage)
        assert seen == [8, count if rejected == "drop" else 8]
        values[0].backward()
        gradient = torch.cat([value.grad.flatten() for value in stage.regressor.parameters() if value.grad is not None])
        found.append((values.detach(), gradient))
    (values, gradient), (expected, whole) = found
    assert torch.equal(values[1:], expected[1:])
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(gradient, whole, rtol=1e-4, atol=1e-6)
    assert bool(whole.any()) is (changes != {"tau": 1.0})


def test_dropped_views_have_no_part_in_the_batch_statistics() -> None:
    stage = refinement(refinement={"rejected": "drop"}, tau=third_highest())
    plain = copy.deepcopy(stage.regressor)
    with torch.no_grad():
        weak = plain(views(2)).clamp(0, 1)
        strong, targets = BACKENDS["batched"](views(2), weak, draw())
        sure = torch.from_numpy(confidences(stage, views(2), weak))
        selected = (sure > stage.config.tau) & (targets[:, 2] > targets[:, 0]) & (targets[:, 3] > targets[:, 1])
        distances = (plain(strong[selected]) - targets[selected]).square().sum(1)
    values, _ = of_batch(stage)
    # The paper's mean counts all eight, whoever passed.
    torch.testing.assert_close(values[0].detach(), distances.sum() / 8)
    assert int(selected.sum()) == 3
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(stage.regressor.state_dict()[name], value)


def test_a_step_that_rejects_everything_moves_the_weights_as_if_nothing_was_dropped() -> None:
    found = []
    for rejected in ("mask", "drop"):
        stage = refinement(tau=0.0, refinement={"rejected": rejected, "optimizer": {"weight_decay": 0.1}})
        steps(stage, 2)
        assert stage.regressor.head.weight.grad is not None
        assert stage.regressor.head.weight.grad.any()
        # From here on momentum and weight decay go on alone.
        stage.confidence.tau = 1.0
        before = copy.deepcopy(stage.regressor.head.weight.detach())
        assert steps(stage, 2) == [0, 0]
        assert not torch.equal(stage.regressor.head.weight, before)
        assert not stage.regressor.head.weight.grad.any()
        found.append(dict(stage.regressor.named_parameters()))
        assert all(value.isfinite().all() for value in stage.regressor.state_dict().values())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


@pytest.mark.parametrize(
    ("selected", "keep", "rows"),
    [
        ([0, 1, 0, 1, 1], None, [1, 3, 4]),
        ([0, 0, 0, 1, 0], None, [3, 0]),
        ([0, 0, 0, 0, 0], None, [0, 1]),
        ([1, 1, 1, 1, 1], None, [0, 1, 2, 3, 4]),
        ([0], None, [0]),
        # A share keeps its count where the augmentation has moved a box out.
        ([0, 1, 0, 1, 0], 0.6, [1, 3, 0]),
        ([0, 1, 0, 0, 0], 0.2, [1, 0]),
    ],
)
def test_passing_are_the_selected_rows_and_at_least_two(
    selected: list[int], keep: float | None, rows: list[int]
) -> None:
    assert passing(torch.tensor(selected, dtype=torch.bool), keep).tolist() == rows


@pytest.mark.parametrize(("teacher", "statistics"), TEACHERS)
def test_weak_boxes_come_from_the_configured_teacher_in_the_configured_mode(teacher: str, statistics: str) -> None:
    stage, images = refinement(**teaching(teacher, statistics)), views(2)
    with torch.no_grad():
        stage.teacher.head.bias.sub_(0.1)
        source = stage.regressor if teacher == "online" else stage.teacher
        expected = copy.deepcopy(source).train(statistics == "batch")(images).clamp(0, 1)
        found = weak_boxes(stage.regressor, stage.teacher, images, stage.config)
    assert torch.equal(found, expected)
    assert stage.regressor.training
    other = stage.teacher if teacher == "online" else stage.regressor
    with torch.no_grad():
        assert not torch.equal(found, copy.deepcopy(other).train(statistics == "batch")(images).clamp(0, 1))


def test_weak_boxes_of_a_frozen_teacher_use_running_statistics_whatever_is_asked() -> None:
    stage, images = refinement(**teaching("frozen", "batch")), views(2)
    with torch.no_grad():
        expected = copy.deepcopy(stage.teacher).eval()(images).clamp(0, 1)
        assert torch.equal(weak_boxes(stage.regressor, stage.teacher, images, stage.config), expected)


@pytest.mark.parametrize(
    ("teacher", "statistics", "options", "rejected"),
    [
        (*TEACHERS[0], {}, "mask"),
        (*TEACHERS[0], {"score": "contrast", "keep": 0.5}, "mask"),
        (*TEACHERS[0], {"score": "equivariance"}, "mask"),
        (*TEACHERS[0], {"score": "out_of_fold"}, "mask"),
        (*TEACHERS[0], {"keep": 0.4}, "drop"),
        (*TEACHERS[2], {}, "mask"),
        (*TEACHERS[3], {}, "mask"),
    ],
)
@pytest.mark.usefixtures("shallow")
def test_stage_losses_trace_as_one_graph_with_the_same_values(
    teacher: str, statistics: str, options: dict[str, Any], rejected: str
) -> None:
    torch.compiler.reset()
    compiled = torch.compile(stage_losses, fullgraph=True, backend="eager")
    changes = teaching(teacher, statistics)
    changes["refinement"]["rejected"] = rejected
    found = []
    for losses in (compiled, stage_losses):
        stage = refinement(confidence=options, **changes)
        arguments = (stage.regressor, stage.teacher, stage.confidence, views(2), LABELS, PLACES, draw(), stage.config)
        found.append(losses(*arguments))
        assert stage.regressor.training
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    torch.compiler.reset()


def steps(stage: Refinement, count: int) -> list[float]:
    """The losses of several steps on one batch."""
    return [float(stage._step(*batch(0))[0]) for _ in range(count)]


def states(*networks: BoxRegressor) -> list[dict[str, Tensor]]:
    return [copy.deepcopy(dict(network.state_dict())) for network in networks]


@pytest.mark.parametrize(("teacher", "statistics"), TEACHERS)
def test_step_teaches_the_regressor_alone_and_the_teacher_by_its_own_rule(teacher: str, statistics: str) -> None:
    changes = teaching(teacher, statistics)
    changes["refinement"]["teacher_momentum"] = 0.6
    stage = refinement(tau=0.0, **changes)
    classifier = copy.deepcopy(dict(stage.classifier.state_dict()))
    regressor, slow = states(stage.regressor, stage.teacher)
    steps(stage, 1)
    assert same_tensors(dict(stage.classifier.state_dict()), classifier)
    now, slow_now = states(stage.regressor, stage.teacher)
    assert not torch.equal(now["head.weight"], regressor["head.weight"])
    if teacher != "ema":
        assert same_tensors(slow_now, slow)
        return
    for name in now:
        expected = now[name] if "running" in name or "num_" in name else 0.6 * slow[name] + 0.4 * now[name]
        torch.testing.assert_close(slow_now[name], expected)


def test_step_in_bf16_reaches_every_weight_and_learns() -> None:
    config = {"compute": {"precision": "bf16"}, "augmentation": "none", "tau": 0.0}
    stage = refinement(**config, **teaching("frozen", "running"))
    losses = steps(stage, 20)
    assert [name for name, p in stage.regressor.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert losses[-1] < 0.8 * losses[0]


def test_step_alpha_of_refinement_scales_the_step_and_not_the_reported_loss() -> None:
    found = []
    for alpha in (1.0, 4.0):
        stage = refinement(tau=0.0, refinement={"alpha": alpha})
        (loss,) = steps(stage, 1)
        assert stage.regressor.head.bias.grad is not None
        found.append((loss, stage.regressor.head.bias.grad))
    assert found[0][0] == found[1][0]
    assert found[0][1].any()
    assert torch.equal(found[1][1], 4 * found[0][1])


def test_step_without_a_view_to_change_learns_as_without_augmentation() -> None:
    found = [
        steps(refinement(tau=0.0, augmentation=names, refinement={"augmented_share": share}), 3)
        for names, share in (("none", 1.0), ("scale+translation+flip", 0.0), ("scale+translation+flip", 0.5))
    ]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_state_holds_everything_the_next_step_depends_on() -> None:
    changes = teaching("ema", "batch")
    stage = refinement(tau=0.0, **changes)
    steps(stage, 3)
    state = copy.deepcopy(stage.state())
    expected = steps(stage, 3)
    fresh = refinement(tau=0.0, seed=7, **changes)
    fresh.classifier.load_state_dict(stage.classifier.state_dict())
    fresh.load_state(state)
    assert steps(fresh, 3) == expected


def test_backends_are_the_two_of_the_configuration() -> None:
    assert BACKENDS["batched"] is augmentation.strong
    assert BACKENDS["imgaug"] is imgaug_backend.strong
    choices = TrialConfig.model_json_schema()["$defs"]["RefinementConfig"]["properties"]["backend"]["enum"]
    assert sorted(BACKENDS) == sorted(choices)
