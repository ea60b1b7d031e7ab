from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lchp.method import networks
from lchp.method.backbones import NETWORKS
from lchp.method.networks import BapClassifier, BoxRegressor


def _images(count: int = 2, size: int = 96, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def _classifier(name: str = "small_cnn", seed: int = 0) -> BapClassifier:
    return networks.make_classifier(name, classes=5, attention_maps=4, scale=10.0, seed=seed)


def _regressor(name: str = "small_cnn", seed: int = 0) -> BoxRegressor:
    return networks.make_regressor(name, "corners", seed)


def _states_equal(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", NETWORKS)
def test_classifier_one_training_step_moves_every_layer_and_lowers_the_loss(name: str) -> None:
    classifier, images, labels = _classifier(name), _images(), torch.tensor([1, 3])
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.002)
    before = {key: value.detach().clone() for key, value in classifier.named_parameters()}
    output = classifier(images)
    cells = output.features.shape[2:]
    assert output.logits.shape == (2, 5)
    assert output.features.shape[:2] == (2, NETWORKS[name].classifier.channels)
    assert output.attention.shape == (2, 4, *cells)
    loss = functional.cross_entropy(output.logits, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert functional.cross_entropy(classifier(images).logits, labels) < loss
    still = [key for key, value in classifier.named_parameters() if value.dim() > 1 and torch.equal(before[key], value)]
    assert still == []


@pytest.mark.parametrize("name", NETWORKS)
def test_regressor_training_steps_move_head_then_trunk_and_lower_the_loss(name: str) -> None:
    # The head starts at 0, so that no gradient reaches the trunk before the second step.
    # InceptionV3 leaves a view of 96 px one cell, and batch normalisation of two values only keeps their order.
    regressor, images = _regressor(name), _images(size=160 if name == "inception_v3" else 96)
    target = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.4, 0.3, 0.6, 0.8]])
    optimizer = torch.optim.SGD(regressor.parameters(), lr=2e-3, momentum=0.9)
    before = {key: value.detach().clone() for key, value in regressor.named_parameters()}

    def still() -> list[str]:
        moved = {key: value for key, value in regressor.named_parameters() if not torch.equal(before[key], value)}
        return [key for key, value in before.items() if value.dim() > 1 and key not in moved]

    losses, unmoved = [], []
    for _ in range(3):
        raw = regressor(images)
        assert raw.shape == (2, 4)
        loss = 20 * (raw - target).square().sum(1).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        unmoved.append(still())
    assert max(losses[1:]) < losses[0]
    assert unmoved[0] == [key for key, value in before.items() if value.dim() > 1 and key != "head.weight"]
    assert unmoved[2] == []


def test_class_activation_equals_the_sum_over_five_dimensions() -> None:
    drawn = np.random.default_rng(4)
    features, attention = drawn.normal(size=(2, 5, 3, 4)), drawn.random((2, 3, 3, 4))
    weights = drawn.normal(size=(2, 15))
    result = networks.class_activation(*(torch.from_numpy(one) for one in (features, attention, weights)))
    expected = np.zeros((2, 1, 3, 4))
    for n in range(2):
        for m in range(3):
            for c in range(5):
                for i in range(3):
                    for j in range(4):
                        expected[n, 0, i, j] += weights[n, m * 5 + c] * attention[n, m, i, j] * features[n, c, i, j]
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-5)


def test_class_activation_of_each_label_sums_to_the_logit_before_rooting() -> None:
    classifier, images, labels = _classifier().eval(), _images(), torch.tensor([4, 1])
    with torch.no_grad():
        output = classifier(images)
        maps = classifier.class_activation(output.features, labels)
        pooled = torch.einsum("nmhw,nchw->nmc", output.attention, output.features).flatten(1)
        expected = (classifier.head.weight[labels] * pooled).sum(1)
    assert maps.shape == (2, 1, *output.features.shape[2:])
    torch.testing.assert_close(maps.sum((1, 2, 3)), expected, rtol=1e-4, atol=1e-4)
    assert not torch.equal(maps, classifier.class_activation(output.features, labels.flip(0)))


def test_class_evidence_of_a_place_is_the_classifiers_answer_to_that_place_alone() -> None:
    classifier, images, labels = _classifier().eval(), _images(), torch.tensor([4, 1])
    with torch.no_grad():
        output = classifier(images)
        found = classifier.class_evidence(output.features, labels)
        weight = classifier.head.weight.double().numpy()
        expected = np.zeros(found.shape)
        for n, label in enumerate(labels.tolist()):
            for i, j in np.ndindex(*found.shape[2:]):
                attention = output.attention[n, :, i, j].double().numpy()
                products = np.outer(attention, output.features[n, :, i, j].double().numpy()).ravel()
                rooted = np.sign(products) * np.sqrt(np.abs(products))
                norm = np.linalg.norm(rooted)
                logits = weight @ (rooted / norm if norm > 0 else rooted)
                expected[n, 0, i, j] = max(0, logits[label] - logits.mean())
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert (expected > 0).any()
    assert (expected == 0).any()
    brighter = networks.class_evidence(9 * output.features, 4 * output.attention, torch.ones(2, weight.shape[1]))
    torch.testing.assert_close(
        brighter, networks.class_evidence(output.features, output.attention, torch.ones(2, weight.shape[1]))
    )


def test_bilinear_attention_pooling_equals_numpy_by_definition() -> None:
    generator = np.random.default_rng(0)
    features, attention = generator.normal(size=(3, 5, 4, 2)), generator.random(size=(3, 2, 4, 2))
    expected = np.zeros((3, 2 * 5))
    for n in range(3):
        for m in range(2):
            for c in range(5):
                mean = np.mean(attention[n, m] * features[n, c])
                expected[n, m * 5 + c] = np.sign(mean) * np.sqrt(abs(mean) + 1e-6)
        expected[n] /= np.sqrt(np.sum(expected[n] ** 2))
    pooled = networks.bilinear_attention_pooling(torch.tensor(features).float(), torch.tensor(attention).float())
    np.testing.assert_allclose(pooled.numpy(), expected, atol=1e-6)


def test_bilinear_attention_pooling_of_nothing_is_zero_with_a_finite_gradient() -> None:
    features, attention = torch.zeros(1, 3, 2, 2, requires_grad=True), torch.zeros(1, 2, 2, 2, requires_grad=True)
    pooled = networks.bilinear_attention_pooling(features, attention)
    pooled.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(pooled, torch.zeros(1, 6))
    assert features.grad is not None
    assert attention.grad is not None
    assert features.grad.isfinite().all()
    assert attention.grad.isfinite().all()


def test_classifier_logits_are_the_linear_layer_of_scaled_unit_features() -> None:
    classifier = _classifier().eval()
    with torch.no_grad():
        output = classifier(_images())
    unit = networks.bilinear_attention_pooling(output.features, output.attention).numpy()
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-5)
    expected = 10.0 * unit @ classifier.head.weight.detach().numpy().T
    np.testing.assert_allclose(output.logits.numpy(), expected, atol=1e-5)


def test_classifier_maps_are_those_of_the_forward_pass() -> None:
    classifier = _classifier().eval()
    with torch.no_grad():
        output = classifier(_images())
        features = classifier.trunk(_images())
        assert torch.equal(classifier.maps(features, "features"), output.features)
        assert torch.equal(classifier.maps(features, "attention"), output.attention)
    assert output.attention.min() >= 0


@pytest.mark.parametrize("box_format", ["corners", "centre_size"])
def test_regressor_untrained_answers_the_centred_box(box_format: Any) -> None:
    regressor = networks.make_regressor("small_cnn", box_format, seed=0)
    raw = regressor(_images())
    expected = torch.tensor([[0.25, 0.25, 0.75, 0.75]]).expand(2, 4)
    assert torch.equal(networks.as_corners(raw, box_format), expected)
    if box_format == "centre_size":
        assert torch.equal(raw, torch.full((2, 4), 0.5))


def test_regressor_head_sees_features_of_the_gains_norm_whatever_their_size() -> None:
    regressor = _regressor()
    seen: list[Tensor] = []
    regressor.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    regressor(_images())
    with torch.no_grad():
        regressor.trunk.get_parameter("block7.bn.weight").fill_(1000.0)
    regressor(_images())
    for features in seen:
        np.testing.assert_allclose(features.detach().norm(dim=1).numpy(), networks.HEAD_GAIN, rtol=1e-3)


def test_regressor_at_the_paper_rates_comes_back_from_the_whole_view() -> None:
    regressor, images = _regressor(), _images(8, 32)
    optimizer = torch.optim.SGD(regressor.parameters(), lr=2e-3, momentum=0.9, weight_decay=1e-5)
    whole, small = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.4, 0.5, 0.6, 0.8])
    extreme = 0.0
    for step in range(160):
        raw = regressor(images)
        extreme = max(extreme, (raw - 0.5).abs().max().item())
        loss = 20 * (raw - (whole if step < 80 else small)).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == 79:
            assert (raw - whole).abs().max() < 0.05
    assert (raw - small).abs().max() < 0.05
    assert extreme < 1, "the outputs swing"


@pytest.mark.parametrize(("maps", "omit"), [("coarse", 0), ("fine", 0), ("fine", 1)])
def test_regressor_of_profiles_sees_the_means_of_rows_and_columns(maps: Any, omit: int) -> None:
    design = networks.RegressorDesign("profiles", maps, omit)
    regressor = networks.make_regressor("small_cnn", "corners", 0, design, view=96).eval()
    seen: list[Tensor] = []
    regressor.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    cells = {"coarse": 3, "fine": 12}[maps]
    with torch.no_grad():
        raw = regressor(_images())
        made = nn.Sequential(*list(regressor.trunk)[: len(regressor.trunk) - omit])(_images())
        assert regressor.profiles is not None
        for layer in regressor.profiles:
            made = layer(made)
    assert torch.equal(raw, torch.tensor([[0.25, 0.25, 0.75, 0.75]]).expand(2, 4))
    places = made.double().numpy()
    assert places.shape == (2, 32, cells, cells)
    profiles = np.concatenate([places.mean(2), places.mean(3)], 2).reshape(2, -1)
    centred = profiles - profiles.mean(1, keepdims=True)
    expected = centred / np.sqrt(centred.var(1, keepdims=True) + 1e-5) / profiles.shape[1] ** 0.5 * networks.HEAD_GAIN
    np.testing.assert_allclose(seen[0].numpy(), expected, atol=1e-5)


def test_regressor_frozen_trains_its_head_alone_and_keeps_the_trunks_statistics() -> None:
    design = networks.RegressorDesign("profiles", frozen=True)
    regressor = networks.make_regressor("small_cnn", "corners", 0, design, view=96)
    before = {key: value.clone() for key, value in regressor.state_dict().items()}
    optimizer = torch.optim.SGD(regressor.parameters(), lr=2e-3, momentum=0.9, weight_decay=1e-5)
    for _ in range(2):
        loss = regressor.train()(_images()).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    moved = {key.split(".")[0] for key, value in regressor.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {"profiles", "head"}
    assert not regressor.trunk.training
    assert regressor.profiles is not None
    assert regressor.profiles.training


def test_networks_under_bfloat16_autocast_answer_in_float32() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, raw = _classifier()(_images()), _regressor()(_images())
    assert output.features.dtype == torch.bfloat16
    assert output.logits.dtype == raw.dtype == torch.float32


def test_make_networks_same_seed_same_weights_and_the_callers_generator_untouched() -> None:
    state = torch.random.get_rng_state()
    classifier, regressor = _classifier(), _regressor()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert _states_equal(classifier, _classifier())
    assert _states_equal(regressor, _regressor())
    assert not _states_equal(classifier, _classifier(seed=1))
    assert not _states_equal(regressor, _regressor(seed=1))


def test_make_networks_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no network 'vit'"):
        _classifier("vit")
    with pytest.raises(ValueError, match="no network 'vit'"):
        _regressor("vit")
    with pytest.raises(ValueError, match="no box format 'polar': choose corners or centre_size"):
        networks.make_regressor("small_cnn", "polar", 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NETWORKS)
def test_copy_shared_blocks_of_one_network_copies_the_classifiers_whole_trunk(name: str) -> None:
    classifier, regressor = _classifier(name), _regressor(name, seed=1)
    with torch.no_grad():
        for buffer in classifier.trunk.buffers():
            buffer.add_(1)
    copied = networks.copy_shared_blocks(classifier, regressor)
    source, target = classifier.trunk.state_dict(), regressor.trunk.state_dict()
    assert set(copied) == set(source)
    assert all(torch.equal(source[key], target[key]) for key in source)


def test_copy_shared_blocks_of_different_families_is_refused() -> None:
    with pytest.raises(ValueError, match="mobilenet_v2 shares no blocks with the classifier small_cnn"):
        networks.copy_shared_blocks(_classifier(), _regressor("mobilenet_v2"))


@pytest.mark.parametrize("training", [True, False])
def test_networks_compile_as_one_graph_with_the_same_results(training: bool) -> None:
    torch.compiler.reset()
    images = _images(size=64)
    compiled = torch.compile(_classifier().train(training), fullgraph=True, backend="eager")
    for got, expected in zip(compiled(images), _classifier().train(training)(images), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
    regressor = torch.compile(_regressor().train(training), fullgraph=True, backend="eager")
    torch.testing.assert_close(regressor(images), _regressor().train(training)(images), rtol=0, atol=0)
    torch.compiler.reset()


def test_classifier_of_a_dilated_torchvision_network_compiles_as_one_graph_with_the_same_results() -> None:
    torch.compiler.reset()
    compiled = torch.compile(_classifier("mobilenet_v2"), fullgraph=True, backend="eager")
    for got, expected in zip(compiled(_images(size=64)), _classifier("mobilenet_v2")(_images(size=64)), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
    torch.compiler.reset()
