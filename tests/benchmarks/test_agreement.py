"""Engine and reference, which share the networks alone, compute the same: so no speed changes the method unseen."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import agreement
import cases
import numpy as np
import pytest
import reference
import rooflines
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.inception import InceptionA

from lchp.method.inception import BlockA
from lchp.method.trunks import DilatedDepthwise

TINY = cases.CASES["tiny"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    cases.draw_images(TINY, folder, workers=1)
    return folder


def contenders(images: Path, **changes: Any) -> tuple[cases.Engine, cases.Author]:
    torch.set_num_threads(1)
    config = cases.configured(TINY, images, {}, rate=2e-3, **changes)
    engine = cases.Engine(TINY, config, cases.prepared(config, images, "cpu", 0), 0)
    return engine, cases.Author(engine, bf16=False, workers=0)


def test_an_epoch_of_either_stage_and_boxes_are_the_same_where_some_boxes_are_rejected(images: Path) -> None:
    confidence = agreement.compared(*contenders(images, tau=0.0))["train/refinement/confidence"][0]
    found = agreement.compared(*contenders(images, tau=confidence), steps=2)
    assert agreement.faults(found) == []
    assert 0 < found["train/refinement/selected"][0] < 1
    assert found["train/refinement/loss"][0] > 1e-3
    assert found["train/initialization/loss_reg"][0] > 1e-3


def test_another_threshold_is_told_apart(images: Path) -> None:
    engine, author = contenders(images, tau=0.0)
    author.config = engine.config.model_copy(update={"delta": 0.4})
    found = agreement.compared(engine, author)
    assert any("loss_reg" in fault for fault in agreement.faults(found))


def test_scores_of_the_same_networks_are_the_same(images: Path) -> None:
    engine, author = contenders(images)
    agreement.spread(engine, author)
    engine.initialization.epoch = 1
    stage = author.initialization
    measured = engine.initialization.measure(engine.evaluator, [engine.material.test]).scores
    for method, predict in (
        ("pseudo_label", reference.pseudo_label(stage, stage.momentum)),
        ("lchp_i", reference.regressed(stage, stage.regressor)),
    ):
        theirs = reference.evaluate(stage, predict, stage.momentum, author.test)
        ours = {name: measured[f"{method}/test/{name}"] for name in theirs}
        assert ours == pytest.approx(theirs, abs=1.01 / TINY.test), method


def test_images_read_either_way_differ_by_rounding(images: Path) -> None:
    engine, _ = contenders(images)
    source = engine.material.train
    ours = source.batch(torch.arange(4)).permute(0, 2, 3, 1).numpy().astype(int)
    files = [source.root / record.path for record in source.records[:4]]
    theirs = np.stack([reference.read(file, source.size) for file in files]).astype(int)
    assert np.abs(ours - theirs).max() <= 3


def test_the_references_blocks_are_torchvisions_own_with_the_engines_weights() -> None:
    torch.manual_seed(0)
    ours = torch.nn.Sequential(BlockA(16, pool_features=4)).eval()
    theirs = reference.as_published(ours)
    views = torch.randn(2, 16, 6, 6)
    assert type(theirs[0]) is InceptionA
    assert type(ours[0]) is BlockA
    torch.testing.assert_close(theirs(views), ours(views))


def test_the_reference_computes_as_torch_chooses_where_the_engine_has_onednn_compute(images: Path) -> None:
    case = dataclasses.replace(TINY, network="mobilenet_v2")
    config = cases.configured(case, images, {"onednn": True})
    engine = cases.Engine(case, config, cases.prepared(config, images, "cpu", 0), 0)
    author = cases.Author(engine, bf16=False, workers=0)

    def shapes(network: torch.nn.Module) -> set[tuple[Any, ...]]:
        layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
        return {(type(layer), layer.kernel_size, layer.dilation) for layer in layers}

    ours, published = engine.initialization.networks, {(torch.nn.Conv2d, (1, 1), (1, 1))}
    assert (torch.nn.Conv2d, (1, 1), (2, 2)) in shapes(ours.regressor) & shapes(ours.classifier)
    assert DilatedDepthwise in {kind for kind, *_ in shapes(ours.classifier)}
    for stage in (author.initialization, author.refinement):
        for network in (stage.classifier, stage.regressor):
            found = shapes(network)
            assert {kind for kind, *_ in found} == {torch.nn.Conv2d}
            assert {shape for shape in found if shape[1] == (1, 1)} == published
    for theirs, mine in zip(author.initialization.trained, (ours.classifier, ours.regressor), strict=True):
        same = [torch.equal(*pair) for pair in zip(theirs.parameters(), mine.parameters(), strict=True)]
        assert same
        assert all(same)


def test_a_grouped_convolution_counts_its_groups_in_both_directions() -> None:
    convolution = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
    images = torch.randn(2, 8, 5, 5, requires_grad=True)
    limits = rooflines.Ceilings(flops=1e12, bandwidth=1e10)
    found = rooflines.demands(lambda: convolution(images).sum().backward(), limits, images=2)
    assert found["gflop"] * 1e9 == pytest.approx(3 * 2 * 8 * 5 * 5 * 9)


def test_operations_counted_one_by_one_add_up_to_torchs_own_count(images: Path) -> None:
    _, author = contenders(images)
    stage = author.initialization
    views, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    limits = rooflines.Ceilings(flops=1e12, bandwidth=1e10)
    counted = rooflines.demands(lambda: stage.step(views, labels), limits, images=4)
    with FlopCounterMode(display=False) as whole:
        stage.step(views, labels)
    assert counted["gflop"] * 4e9 == whole.get_total_flops() > 0
    assert counted["layers_ms"] >= counted["products_ms"] >= 1e3 * counted["gflop"] / 1e3
