from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lchp.method import augmentation
from lchp.method.augmentation import StrongDraw
from lchp.method.networks import BapClassifier
from lchp.method.pseudo_boxes import pseudo_boxes
from lchp.training.config import TrialConfig
from lchp.training.initialization import (
    Initialization,
    Networks,
    make_networks,
    regressor_loss,
    stage_losses,
    stored_weights,
    trained_networks,
)

from .drawn import CLASSES, batch, config_of, views
from .tiny import same_tensors

LABELS = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])


def learning(config: TrialConfig, seed: int = 0) -> Networks:
    """Networks in training mode whose outputs are neither constant nor alike."""
    networks = make_networks(config, CLASSES)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (*networks.momentum.parameters(), networks.regressor.head.weight):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    networks.classifier.train()
    networks.regressor.train()
    return networks


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """The mean of -log softmax at the label, by its definition."""
    values = logits.detach().double().numpy()
    shares = np.exp(values) / np.exp(values).sum(1, keepdims=True)
    return float(np.mean([-np.log(shares[i, label]) for i, label in enumerate(labels.tolist())]))


@pytest.mark.parametrize("box_format", ["corners", "centre_size"])
@pytest.mark.parametrize("maps", ["features", "attention"])
def test_stage_losses_equal_equations_1_to_3_by_numpy(box_format: str, maps: Any) -> None:
    config = config_of(box_format=box_format, alpha=7.0, pseudo_boxes={"maps": maps})
    networks, images = learning(config), views(1)
    classifier, regressor = copy.deepcopy(networks.classifier), copy.deepcopy(networks.regressor)
    found = pseudo_boxes(lambda x: networks.momentum.maps(networks.momentum.trunk(x), maps), images, config.delta)
    logits = classifier(torch.cat([images, found.masked])).logits
    first = (cross_entropy(logits[:8], LABELS) + cross_entropy(logits[8:], LABELS)) / 2
    target = found.merged.double().numpy()
    if box_format == "centre_size":
        x1, y1, x2, y2 = target.T
        target = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], 1)
    differences = regressor(images).detach().double().numpy() - target
    second = np.mean([sum(value**2 for value in row) for row in differences])
    accuracy = np.mean(logits[:8].argmax(1).numpy() == LABELS.numpy())
    losses = stage_losses(networks, images, LABELS, config, with_regressor=True)
    np.testing.assert_allclose(losses.detach().numpy(), [first + 7 * second, first, second, accuracy], rtol=1e-5)
    assert second > 1e-3
    assert len(found.merged.unique(dim=0)) > 1


def test_stage_losses_without_the_regressor_are_equation_1_alone() -> None:
    networks = learning(config_of())
    losses = stage_losses(networks, views(1), LABELS, config_of(), with_regressor=False)
    assert losses[0] == losses[1] > 0
    assert losses[2] == 0
    losses[0].backward()
    assert all(parameter.grad is None for parameter in networks.regressor.parameters())


def test_stage_losses_teach_classifier_and_regressor_and_never_the_momentum_network() -> None:
    networks = learning(config_of())
    before = copy.deepcopy(networks.momentum.state_dict())
    stage_losses(networks, views(1), LABELS, config_of(), with_regressor=True)[0].backward()
    for network in (networks.classifier, networks.regressor):
        grads = [parameter.grad for parameter in network.parameters() if parameter.dim() > 1]
        assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)
    assert all(parameter.grad is None for parameter in networks.momentum.parameters())
    assert same_tensors(networks.momentum.state_dict(), before)


@pytest.mark.parametrize(("with_regressor", "backend"), [(True, "aot_eager"), (False, "eager")])
@pytest.mark.usefixtures("shallow")
def test_stage_losses_trace_as_one_graph_with_the_same_values(with_regressor: bool, backend: str) -> None:
    torch.compiler.reset()
    config, images = config_of(), views(1)
    # aot_eager: the backward pass, too, all as it is compiled but for the kernels.
    compiled = torch.compile(stage_losses, fullgraph=True, dynamic=False, backend=backend)
    found = []
    for step in (compiled, stage_losses):
        networks = learning(config)
        values = step(networks, images, LABELS, config, with_regressor)
        values[0].backward()
        learned = (networks.classifier, networks.regressor)
        gradients = [parameter.grad for network in learned for parameter in network.parameters()]
        found.append((values, gradients, [buffer for network in learned for buffer in network.buffers()]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)
    torch.compiler.reset()


def test_regressor_loss_on_strong_views_meets_the_moved_boxes_and_leaves_out_those_that_left() -> None:
    regressor, images = learning(config_of()).regressor, views(1)
    whole = torch.tensor([[0.1, 0.2, 0.5, 0.6]]).repeat(8, 1)
    sides = torch.zeros(8, 2, dtype=torch.int64)
    cropped = sides.clone()
    cropped[:3, 0] = -16  # half of the view at the left: all of the box
    flipped = torch.tensor([[True, False]]).repeat(8, 1)
    draw = StrongDraw(32, torch.ones(8, 2), cropped, sides, flipped)
    loss = regressor_loss(regressor, images, whole, "centre_size", draw)
    predicted = regressor(augmentation.strong(images, whole, draw)[0]).detach().double().numpy()
    expected = ((predicted[3:] - [0.7, 0.4, 0.4, 0.4]) ** 2).sum() / 8  # the five that stay are mirrored
    np.testing.assert_allclose(loss.detach().numpy(), expected, rtol=1e-5)
    assert regressor_loss(regressor, images, whole, "centre_size", None) != loss


def test_step_with_augmentation_draws_from_a_generator_of_its_own_and_leaves_the_classifier_alone() -> None:
    options = {"attention_maps": 4, "bap_scale": 10.0}
    plain = Initialization(config_of(initialization=options), CLASSES, "cpu")
    strong = Initialization(config_of(initialization={**options, "augmentation": "translation"}), CLASSES, "cpu")
    for seed in range(2):
        found, expected = step(strong, seed), step(plain, seed)
        assert torch.equal(found[[1, 3]], expected[[1, 3]])
        assert found[2] != expected[2]
    for name, generator in plain.generators.items():
        assert torch.equal(generator.get_state(), strong.generators[name].get_state())
    assert strong.generators.keys() - plain.generators.keys() == {"strong"}


def test_step_without_a_view_to_change_learns_as_without_augmentation() -> None:
    found = [
        step(
            Initialization(config_of(initialization={"augmentation": names, "augmented_share": share}), CLASSES, "cpu"),
            0,
        )
        for names, share in (("none", 1.0), ("scale+translation", 0.0), ("scale+translation", 0.5))
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def step(stage: Initialization, seed: int) -> Tensor:
    """One step on a drawn batch, in the modes of an epoch."""
    stage.networks.classifier.train()
    stage.networks.regressor.train()
    return stage._step(*batch(seed))


def test_step_moves_the_momentum_network_by_equation_7() -> None:
    stage = Initialization(config_of(beta=0.75), CLASSES, "cpu")
    step(stage, 0)
    slow = [parameter.double().numpy() for parameter in stage.networks.momentum.parameters()]
    step(stage, 1)
    fast = [parameter.detach().double().numpy() for parameter in stage.networks.classifier.parameters()]
    for before, target, after in zip(slow, fast, stage.networks.momentum.parameters(), strict=True):
        np.testing.assert_allclose(after.numpy(), 0.75 * before + 0.25 * target, atol=1e-6)


def test_step_in_bf16_reaches_every_weight_and_learns() -> None:
    stage = Initialization(config_of(compute={"precision": "bf16"}), CLASSES, "cpu")
    losses = [float(step(stage, 0)[0]) for _ in range(15)]
    for network in (stage.networks.classifier, stage.networks.regressor):
        still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
        assert still == []
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.dtype == torch.float32 for p in stage.networks.classifier.parameters())


def test_step_in_channels_last_keeps_the_layout_and_the_losses() -> None:
    plain, last = (
        Initialization(config_of(compute={"channels_last": channels_last}), CLASSES, "cpu")
        for channels_last in (False, True)
    )
    found = [[step(stage, seed).tolist() for seed in range(3)] for stage in (plain, last)]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3)
    kernels = [p for p in last.networks.regressor.parameters() if p.dim() == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)


def test_make_networks_momentum_starts_as_the_classifier_in_evaluation_mode_without_gradients() -> None:
    networks = make_networks(config_of(), CLASSES)
    assert same_tensors(dict(networks.momentum.state_dict()), dict(networks.classifier.state_dict()))
    assert not networks.momentum.training
    assert not any(parameter.requires_grad for parameter in networks.momentum.parameters())
    assert networks.classifier.head.out_features == CLASSES


def test_make_networks_regressor_from_the_classifier_shares_its_blocks() -> None:
    networks = make_networks(config_of(weights={"classifier": "none", "regressor": "classifier"}), CLASSES)
    source, target = networks.classifier.trunk.state_dict(), networks.regressor.trunk.state_dict()
    assert all(torch.equal(source[name], target[name]) for name in source)
    apart = make_networks(config_of(), CLASSES)
    assert not torch.equal(apart.regressor.trunk.state_dict()["block1.conv.weight"], source["block1.conv.weight"])


def test_trained_networks_hold_what_was_saved() -> None:
    saved = learning(config_of())
    weights = {"momentum": saved.momentum.state_dict(), "regressor": saved.regressor.state_dict()}
    networks = trained_networks(config_of(seed=9), CLASSES, weights)
    assert same_tensors(dict(networks.momentum.state_dict()), dict(weights["momentum"]))
    assert same_tensors(dict(networks.regressor.state_dict()), dict(weights["regressor"]))
    assert not networks.momentum.training
    assert networks.classifier is networks.momentum, "nothing trains it: a copy would be of no use"
    assert not any(parameter.requires_grad for parameter in networks.momentum.parameters())


def test_trained_networks_with_classes_from_the_classifier_judge_by_it() -> None:
    config = config_of(classes_from="classifier")
    saved = learning(config)
    assert saved.judge is saved.classifier
    weights = stored_weights(config, saved, saved.regressor)
    networks = trained_networks(config_of(seed=9, classes_from="classifier"), CLASSES, weights)
    assert same_tensors(dict(networks.judge.state_dict()), dict(saved.classifier.state_dict()))
    assert same_tensors(dict(networks.momentum.state_dict()), dict(saved.momentum.state_dict()))
    assert not networks.judge.training
    assert not any(parameter.requires_grad for parameter in networks.judge.parameters())


def test_networks_with_classes_from_momentum_judge_by_it_and_store_no_classifier() -> None:
    saved = learning(config_of())
    weights = stored_weights(config_of(), saved, saved.regressor)
    assert weights.keys() == {"momentum", "regressor"}
    networks = trained_networks(config_of(), CLASSES, weights)
    assert (saved.judge, networks.judge) == (saved.momentum, networks.momentum)


class Drawn:
    """A source of two batches an epoch, in whatever order it is asked for them."""

    def __len__(self) -> int:
        return 16

    def batches(self, order: Tensor, batch_size: int, drop_last: bool, workers: int) -> list[tuple[Tensor, ...]]:
        images, labels, _ = batch(5, 16)
        return [(images[part], labels[part], part) for part in torch.split(order, batch_size)]


def test_train_epoch_decays_the_classifiers_rate_alone() -> None:
    config = config_of(
        initialization={"attention_maps": 4, "classifier_rate": 0.01, "classifier_decay": 0.5, "regressor_rate": 0.003}
    )
    stage = Initialization(config, CLASSES, "cpu")
    for epoch in range(3):
        assert stage.classifier_descent.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 0.5**epoch)
        assert stage.regressor_descent.optimizer.param_groups[0]["lr"] == 0.003
        stage.train_epoch(Drawn(), 0)  # type: ignore[arg-type]
    assert stage.epoch == 3


def test_train_epoch_before_the_regressor_starts_leaves_it_and_then_gives_it_the_classifiers_blocks() -> None:
    config = config_of(
        weights={"classifier": "none", "regressor": "classifier"},
        initialization={"attention_maps": 4, "regressor_start": 1, "classifier_rate": 0.05, "regressor_rate": 1e-12},
    )
    stage = Initialization(config, CLASSES, "cpu")
    before = copy.deepcopy(stage.networks.regressor.state_dict())
    assert stage.train_epoch(Drawn(), 0)["train/initialization/loss_reg"] == 0  # type: ignore[arg-type]
    assert same_tensors(dict(stage.networks.regressor.state_dict()), dict(before))
    learned = copy.deepcopy(stage.networks.classifier.trunk.state_dict())
    assert stage.train_epoch(Drawn(), 0)["train/initialization/loss_reg"] > 0  # type: ignore[arg-type]
    started = stage.networks.regressor.trunk.state_dict()
    for name in (name for name in learned if name.endswith("conv.weight")):
        torch.testing.assert_close(started[name], learned[name], rtol=0, atol=1e-8)


@pytest.mark.parametrize("source", ["mask", "file"])
def test_step_after_the_classifiers_epochs_moves_the_regressor_alone_as_before(source: str) -> None:
    class Given:
        train = torch.rand(8, 4, generator=torch.Generator().manual_seed(3))

    rest = {"epochs": 3, "classifier_epochs": 2, "regressor_start": 1}
    config = config_of(initialization=rest, pseudo_boxes={"source": source, "file": "boxes.csv"})
    fixed: Any = Given() if source == "file" else None
    learning, resting = (Initialization(config, CLASSES, "cpu", fixed) for _ in range(2))
    learning.epoch, resting.epoch = 1, 2
    before = copy.deepcopy(resting.networks)
    both, alone = (stage._step(*batch(0)) for stage in (learning, resting))
    assert same_tensors(dict(before.classifier.state_dict()), dict(resting.networks.classifier.state_dict()))
    assert same_tensors(dict(before.momentum.state_dict()), dict(resting.networks.momentum.state_dict()))
    assert not same_tensors(dict(before.classifier.state_dict()), dict(learning.networks.classifier.state_dict()))
    assert both[2] == alone[2]
    assert alone[[1, 3]].tolist() == [0, 0]
    assert alone[0] == pytest.approx(config.alpha * float(alone[2]), rel=1e-6)
    weights = [dict(stage.networks.regressor.state_dict()) for stage in (learning, resting)]
    assert same_tensors(*weights)
    assert not same_tensors(weights[0], dict(before.regressor.state_dict()))


def test_state_holds_everything_the_next_epoch_depends_on() -> None:
    config = config_of(initialization={"attention_maps": 4, "epochs": 3})
    stage = Initialization(config, CLASSES, "cpu")
    stage.train_epoch(Drawn(), 0)  # type: ignore[arg-type]
    state = copy.deepcopy(stage.state())
    expected = [stage.train_epoch(Drawn(), 0) for _ in range(2)]  # type: ignore[arg-type]
    fresh = Initialization(config_of(seed=5, initialization=config.initialization), CLASSES, "cpu")
    fresh.load_state(state)
    assert fresh.epoch == 1
    assert [fresh.train_epoch(Drawn(), 0) for _ in range(2)] == expected  # type: ignore[arg-type]


def test_pseudo_boxes_come_from_the_momentum_network(monkeypatch: pytest.MonkeyPatch) -> None:
    networks, asked = learning(config_of()), []
    maps = BapClassifier.maps
    monkeypatch.setattr(BapClassifier, "maps", lambda self, *a: asked.append(self) or maps(self, *a))
    stage_losses(networks, views(1), LABELS, config_of(), with_regressor=True)
    assert len(asked) == 2
    assert all(network is networks.momentum for network in asked)
